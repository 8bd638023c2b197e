//! A room on this node: which of its events are delivered, and when they have to be read from the log. No I/O.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use crate::event::{ResetReason, RoomEvent};
use crate::member::NewMember;
use crate::position::{Place, Position};
use crate::stamp::Stamp;

/// A room on this node, from the first call of `enter` until the last member's leave has been delivered.
#[derive(Debug)]
pub(crate) struct Room {
    phase: Phase,
    /// The latest event that was delivered. `None` until the first member has entered.
    position: Option<Position>,
    parked: Parked,
    /// Events may have been missed since the log was read last.
    is_stale: bool,
    /// Members of this node.
    members: HashMap<Box<str>, Arc<NewMember>>,
    /// Members whose calls of `enter` are under way.
    pending: Vec<Arc<NewMember>>,
    /// Members that were removed, and whose leaves are under way.
    leaving: usize,
    /// The latest leave of a member of this node, which is to be delivered.
    last_leave: Option<Stamp>,
}

/// What happens to events that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// They are dropped: nobody has entered yet.
    Opening,
    /// They are parked until the answer to the first enter tells which of them come after it.
    Entering,
    /// They are delivered.
    Live,
    /// They are dropped: the log will be read, and will contain them.
    Outdated,
    /// They are parked until the log has been read.
    Reading,
}

/// What to do with an event that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Deliver(RoomEvent),
    /// It was delivered before, or is kept.
    Nothing,
    /// The log has to be read.
    Read,
}

/// What a room's log says.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where the room is.
    pub(crate) at: Stamp,
    /// Events after the room's position on this node, if it is of the same epoch.
    pub(crate) events: Vec<RoomEvent>,
}

/// What to deliver after an answer, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) reset: Option<(Stamp, ResetReason)>,
    pub(crate) events: Vec<RoomEvent>,
    /// Whether the log has to be read, or read again.
    pub(crate) must_read: bool,
}

impl Room {
    /// A room that a first member is about to enter.
    pub(crate) fn new() -> Room {
        Room {
            phase: Phase::Opening,
            position: None,
            parked: Parked::default(),
            is_stale: false,
            members: HashMap::new(),
            pending: Vec::new(),
            leaving: 0,
            last_leave: None,
        }
    }

    /// An event has arrived.
    pub(crate) fn receive(&mut self, event: RoomEvent) -> Received {
        match (self.phase, self.position) {
            (Phase::Live, Some(position)) => match position.place(event.stamp) {
                Place::Next => {
                    self.position = Some(Position::after(&event));
                    Received::Deliver(event)
                }
                Place::Older => Received::Nothing,
                Place::Gap | Place::OtherEpoch => {
                    self.phase = Phase::Outdated;
                    Received::Read
                }
            },
            (Phase::Entering | Phase::Reading, _) => {
                self.parked.push(event);
                Received::Nothing
            }
            _ => Received::Nothing,
        }
    }

    /// Events may have been missed. Returns whether the log has to be read now.
    pub(crate) fn set_stale(&mut self) -> bool {
        match self.phase {
            Phase::Live => {
                self.phase = Phase::Outdated;
                true
            }
            Phase::Entering | Phase::Reading => {
                self.is_stale = true;
                false
            }
            Phase::Opening | Phase::Outdated => false,
        }
    }

    /// The first enter is about to be sent. What has arrived before is older than its answer.
    pub(crate) fn begin_enter(&mut self) {
        if self.phase == Phase::Opening {
            self.phase = Phase::Entering;
            self.parked.clear();
            self.is_stale = false;
        }
    }

    /// A member has entered. The first one's answer decides where the node begins to deliver.
    pub(crate) fn entered(&mut self, stamp: Stamp) -> Outcome {
        if self.phase != Phase::Entering {
            return Outcome::default();
        }
        self.position = Some(Position::before(stamp));
        self.go_live(Outcome::default())
    }

    /// Members were taken over, and the room is here. What follows is read from the log.
    pub(crate) fn resumed(&mut self, stamp: Stamp) {
        self.position = Some(Position::at(stamp));
        self.phase = Phase::Outdated;
    }

    /// Nobody could enter. The next one may try.
    pub(crate) fn enter_failed(&mut self) {
        if self.phase == Phase::Entering {
            self.phase = Phase::Opening;
            self.parked.clear();
        }
    }

    /// The log is about to be read from the position that this returns. What has arrived before will be in the answer.
    pub(crate) fn begin_read(&mut self) -> Option<Position> {
        if !matches!(self.phase, Phase::Outdated | Phase::Reading) {
            return None;
        }
        self.phase = Phase::Reading;
        self.parked.clear();
        self.is_stale = false;
        self.position
    }

    /// Reading has not worked. It will be tried again.
    pub(crate) fn read_failed(&mut self) {
        if self.phase == Phase::Reading {
            self.phase = Phase::Outdated;
            self.parked.clear();
        }
    }

    /// The log has been read.
    pub(crate) fn read(&mut self, page: Page) -> Outcome {
        let mut outcome = Outcome::default();
        let (Phase::Reading, Some(mut position)) = (self.phase, self.position) else { return outcome };
        if position.is_end() && position.epoch() != page.at.epoch {
            // The room was empty and has begun anew, so nothing is missing. What follows is in the log.
            self.position = Some(Position::start(page.at.epoch));
            self.phase = Phase::Outdated;
            outcome.must_read = true;
            return outcome;
        }
        let first = page.events.first().map(|event| event.stamp);
        // Behind the node in the same epoch: somebody has tampered with the keys.
        let is_behind = position.next_event() > page.at.event + 1;
        if position.epoch() != page.at.epoch || is_behind {
            outcome.reset = Some((page.at, ResetReason::EpochChanged));
        } else if position.next_event() <= page.at.event
            && first.is_none_or(|first| position.place(first) != Place::Next)
        {
            outcome.reset = Some((page.at, ResetReason::LogTrimmed));
        }
        if outcome.reset.is_some() {
            self.position = Some(Position::at(page.at));
            return self.go_live(outcome);
        }
        for event in page.events {
            if position.place(event.stamp) == Place::Next {
                position = Position::after(&event);
                outcome.events.push(event);
            }
        }
        self.position = Some(position);
        if position.next_event() <= page.at.event {
            self.phase = Phase::Outdated;
            outcome.must_read = true;
            return outcome;
        }
        self.go_live(outcome)
    }

    /// Delivers what was parked.
    fn go_live(&mut self, mut outcome: Outcome) -> Outcome {
        self.phase = Phase::Live;
        let (parked, has_overflowed) = self.parked.take();
        for event in parked {
            match self.receive(event) {
                Received::Deliver(event) => outcome.events.push(event),
                Received::Nothing => {}
                Received::Read => outcome.must_read = true,
            }
        }
        if mem::take(&mut self.is_stale) || has_overflowed {
            self.phase = Phase::Outdated;
            outcome.must_read = true;
        }
        outcome
    }

    /// Whether events up to this one may have yet to be delivered in a room that the node hears.
    pub(crate) fn is_behind(&self, stamp: Stamp) -> bool {
        self.is_live() && !self.position.is_some_and(|position| position.has_reached(stamp))
    }

    /// Whether everything has been delivered that was in the log when [`Room::set_stale`] was called last.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.phase == Phase::Live && !self.is_stale
    }

    /// Whether the log has to be read.
    pub(crate) fn has_to_be_read(&self) -> bool {
        matches!(self.phase, Phase::Outdated | Phase::Reading)
    }

    /// Whether the first member has entered.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Entering)
    }

    /// A call of `enter` begins.
    pub(crate) fn add_pending(&mut self, member: Arc<NewMember>) {
        self.pending.push(member);
    }

    /// A call of `enter` is over. Returns the member with what has changed meanwhile: the event of its enter may arrive
    /// before the answer.
    pub(crate) fn remove_pending(&mut self, member: &str) -> Option<Arc<NewMember>> {
        let at = self.pending.iter().position(|pending| pending.id() == member)?;
        Some(self.pending.swap_remove(at))
    }

    /// Adds a member, unless it is known that its session was taken over more often.
    pub(crate) fn add_member(&mut self, member: Arc<NewMember>) {
        let is_newer = |known: &Arc<NewMember>| known.generation() > member.generation();
        if !self.members.get(member.id()).is_some_and(is_newer) {
            self.members.insert(member.id().into(), member);
        }
    }

    /// Removes a member that is about to leave, if its session has this generation; any, if it is 0. Returns whether it was
    /// there; if so, [`Room::left`] must follow.
    pub(crate) fn remove_member(&mut self, member: &str, generation: u64) -> bool {
        let is_it = |known: &Arc<NewMember>| generation == 0 || known.generation() == generation;
        let was_there = self.members.get(member).is_some_and(is_it);
        if was_there {
            self.members.remove(member);
        }
        self.leaving += usize::from(was_there);
        was_there
    }

    /// Removes the members of a session, without a leave.
    pub(crate) fn remove_session(&mut self, session: &str) {
        self.members.retain(|_, member| member.session_id() != session);
    }

    /// A member has replaced another one of this node.
    pub(crate) fn replace_member(&mut self, member: &str) {
        self.members.remove(member);
    }

    pub(crate) fn has_member(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    pub(crate) fn member(&self, member: &str) -> Option<&Arc<NewMember>> {
        self.members.get(member)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<NewMember>> {
        self.members.values()
    }

    /// Whether the member has entered on this node, or is about to.
    pub(crate) fn knows(&self, member: &str) -> bool {
        self.has_member(member) || self.pending.iter().any(|pending| pending.id() == member)
    }

    /// Replaces what is kept of a member.
    pub(crate) fn update_member(&mut self, member: &str, update: impl FnOnce(&mut NewMember)) {
        let mut pending = self.pending.iter_mut().filter(|pending| pending.id() == member);
        if let Some(member) = self.members.get_mut(member).or_else(|| pending.next()) {
            update(Arc::make_mut(member));
        }
    }

    /// A removed member has left, or is gone already. The room stays until its leave is delivered.
    pub(crate) fn left(&mut self, stamp: Option<Stamp>) {
        self.leaving -= 1;
        let is_later = |stamp: Stamp, last: Stamp| stamp.epoch != last.epoch || stamp.event > last.event;
        if let Some(stamp) = stamp
            && self.last_leave.is_none_or(|last| is_later(stamp, last))
        {
            self.last_leave = Some(stamp);
        }
    }

    /// Redis does not have the room any more, so the last leave cannot be delivered.
    pub(crate) fn give_up_last_leave(&mut self) {
        self.last_leave = None;
    }

    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.leaving == 0
    }

    /// Whether this node has no members in the room any more, and has delivered the last one's leave.
    pub(crate) fn is_done(&self) -> bool {
        let is_delivered = match (self.last_leave, self.position) {
            (Some(leave), Some(position)) => position.is_past(leave),
            _ => true,
        };
        self.is_unused() && is_delivered
    }
}

/// Events that wait for an answer. If there are too many, the rest is dropped and will be read from the log.
#[derive(Debug, Default)]
struct Parked {
    events: VecDeque<RoomEvent>,
    bytes: usize,
    has_overflowed: bool,
}

impl Parked {
    const MAX_EVENTS: usize = 1024;
    const MAX_BYTES: usize = 1 << 20;

    fn push(&mut self, event: RoomEvent) {
        self.bytes += event.body.len();
        if self.events.len() >= Parked::MAX_EVENTS || self.bytes > Parked::MAX_BYTES {
            self.has_overflowed = true;
        }
        if !self.has_overflowed {
            self.events.push_back(event);
        }
    }

    fn clear(&mut self) {
        *self = Parked::default();
    }

    /// The events, and whether there were more.
    fn take(&mut self) -> (VecDeque<RoomEvent>, bool) {
        let parked = mem::take(self);
        (parked.events, parked.has_overflowed)
    }
}

#[cfg(test)]
mod tests;
