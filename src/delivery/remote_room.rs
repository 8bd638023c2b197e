//! The replica of a room whose events a broker orders that several nodes share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::{EntryId, RemoteMember, Stamp};
use crate::delivery::batch::Batch;
use crate::delivery::enter_outcome::EnterOutcome;
use crate::delivery::live_room::Handle;
use crate::delivery::presence::Counts;
use crate::delivery::room_state::RoomState;
use crate::delivery::rooms::Entrant;
use crate::ids::ConnectionId;
use crate::protocol::position::Position;
use crate::room::{Member, MemberElsewhere, Profile};

/// What a room has in addition if its events come from other nodes, too.
#[derive(Default)]
pub(super) struct RemoteRoom {
    /// Whether the replica follows the room's order: from the first event that this node has heard.
    is_following: bool,
    /// The members of this node that are about to enter.
    expected: HashMap<EntryId, Expected>,
    /// The members of this node.
    entries: HashMap<ConnectionId, Stay>,
    /// What members of this node have published, and has not arrived yet.
    in_flight: InFlight,
    /// The latest profiles of members of this node, as events have told them, if the members have others by now or had. Those
    /// events are of this node, unless a member is on another one already.
    told_profiles: HashMap<ConnectionId, Profile>,
    /// While a member has left that enters again with the next event: the counts before.
    counts_before: Option<Counts>,
    /// Events that the host waits for. It stops waiting when the sender is dropped.
    awaited: Vec<(Position, oneshot::Sender<()>)>,
}

/// Frames that are on their way through the broker.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    frames: HashMap<EntryId, usize>,
    bytes: usize,
    /// The frame whose delivery is measured.
    measured: Option<Measured>,
}

/// A stay of a member of this node.
#[derive(Debug, Clone, Copy)]
struct Stay {
    number: u64,
    /// That of its session, or 0.
    generation: u64,
    /// Whether the broker has lost it, so that this node enters it again.
    is_lost: bool,
}

/// A member that is about to enter: until the event of its enter has arrived.
pub(super) struct Expected {
    pub(super) entrant: Entrant,
    pub(super) reply: oneshot::Sender<Entered>,
    /// That of its session, or 0.
    pub(super) generation: u64,
    /// The stay of the same member that ends with the enter.
    pub(super) replaces: Option<EntryId>,
    /// Present when that stay has ended.
    pub(super) replaced: Option<Replaced>,
}

/// A member that has entered.
pub(crate) struct Entered {
    pub(crate) outcome: EnterOutcome,
    /// If it was in the room before under another name: how many members remained then.
    pub(crate) left: u64,
}

/// A stay that has ended because the member enters again.
pub(super) struct Replaced {
    /// The frames that the member had yet to get.
    undelivered: Vec<Batch>,
    /// The `seq` of the frame before them.
    delivered: u64,
    left: u64,
}

/// A stay that has ended on this node.
pub(super) struct EndedStay {
    pub(super) entry: EntryId,
    /// That of its session, or 0.
    pub(super) generation: u64,
    pub(super) member: Arc<Member<Handle>>,
    pub(super) was_hidden: bool,
}

impl Entered {
    pub(super) fn new(mut outcome: EnterOutcome, replaced: Option<Replaced>) -> Entered {
        let Some(Replaced { undelivered, delivered, left }) = replaced else {
            return Entered { outcome, left: 0 };
        };
        outcome.keep(undelivered, delivered);
        Entered { outcome, left }
    }
}

/// A frame on its way whose delivery is measured.
#[derive(Debug)]
struct Measured {
    sender: EntryId,
    /// How many frames of its sender have yet to arrive, up to and including this one.
    left: usize,
    received: Duration,
}

impl InFlight {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `received` is when the frame was received, if its delivery is measured.
    pub(super) fn add(&mut self, sender: EntryId, bytes: usize, received: Option<Duration>) {
        let left = self.frames.entry(sender).or_default();
        *left += 1;
        if let (None, Some(received)) = (&self.measured, received) {
            self.measured = Some(Measured { sender, left: *left, received });
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A frame has arrived, or will not. May be called for both if the broker answers too late. Returns when the frame was
    /// received, if its delivery is measured.
    pub(super) fn remove(&mut self, sender: EntryId, bytes: usize) -> Option<Duration> {
        let frames = self.frames.get_mut(&sender)?;
        *frames -= 1;
        if *frames == 0 {
            self.frames.remove(&sender);
        }
        self.bytes = if self.frames.is_empty() { 0 } else { self.bytes.saturating_sub(bytes) };
        let measured = self.measured.as_mut().filter(|measured| measured.sender == sender)?;
        measured.left -= 1;
        if measured.left > 0 { None } else { self.measured.take().map(|measured| measured.received) }
    }
}

/// Where an event is, seen from the latest one that was applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Distance {
    Next,
    /// It was applied already.
    Before,
    /// Events before it are missing.
    Beyond,
}

impl RemoteRoom {
    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    pub(super) fn expect(&mut self, entry: EntryId, expected: Expected) {
        self.expected.insert(entry, expected);
    }

    /// The event of this enter has arrived.
    pub(super) fn take_expected(&mut self, entry: EntryId) -> Option<Expected> {
        self.expected.remove(&entry)
    }

    /// The enter of this member will not be waited for.
    pub(super) fn take_expected_of(&mut self, member: ConnectionId) -> Option<(EntryId, Expected)> {
        let entry = *self.expected.keys().find(|entry| entry.member == member)?;
        self.expected.remove_entry(&entry)
    }

    /// The enter that ends this stay.
    fn expected_instead_of(&mut self, entry: EntryId) -> Option<&mut Expected> {
        self.expected.values_mut().find(|expected| expected.replaces == Some(entry))
    }

    /// The members that are about to enter.
    pub(super) fn expected(&self) -> Vec<ConnectionId> {
        self.expected.keys().map(|entry| entry.member).collect()
    }

    /// Whether this is the current stay of a member of this node, or will be, in this generation of its session.
    pub(super) fn has_or_expects(&self, entry: EntryId, generation: u64) -> bool {
        let stay = self.entries.get(&entry.member);
        let has = stay.is_some_and(|stay| stay.number == entry.number && stay.generation == generation);
        has || self.expected.contains_key(&entry)
    }

    pub(super) fn add(&mut self, entry: EntryId, generation: u64) {
        let stay = Stay { number: entry.number, generation, is_lost: false };
        self.entries.insert(entry.member, stay);
    }

    fn remove(&mut self, member: ConnectionId) -> Option<Stay> {
        self.told_profiles.remove(&member);
        self.entries.remove(&member)
    }

    /// An event has told the profile of a member of this node.
    pub(super) fn note_profile(&mut self, entry: EntryId, profile: Profile) {
        if self.has(entry) {
            self.told_profiles.insert(entry.member, profile);
        }
    }

    /// The latest profile of a member of this node that an event has told.
    pub(super) fn take_profile(&mut self, member: ConnectionId) -> Option<Profile> {
        self.told_profiles.remove(&member)
    }

    /// Notes whether the broker has lost a member of this node.
    pub(super) fn set_lost(&mut self, entry: EntryId, is_lost: bool) {
        let stay = self.entries.get_mut(&entry.member).filter(|stay| stay.number == entry.number);
        if let Some(stay) = stay {
            stay.is_lost = is_lost;
        }
    }

    /// The current stay of a member of this node.
    pub(super) fn entry_of(&self, member: ConnectionId) -> Option<EntryId> {
        self.entries.get(&member).map(|stay| EntryId { member, number: stay.number })
    }

    /// Whether the broker has lost the current stay of a member of this node.
    pub(super) fn has_lost(&self, member: ConnectionId) -> bool {
        self.entries.get(&member).is_some_and(|stay| stay.is_lost)
    }

    /// Whether this is the current stay of a member of this node.
    pub(super) fn has(&self, entry: EntryId) -> bool {
        self.entry_of(entry.member) == Some(entry)
    }
}

impl RoomState {
    /// Whether this is a member, on whatever node.
    pub(super) fn has_member(&self, id: ConnectionId) -> bool {
        let is_here = self.remote.as_ref().is_some_and(|remote| remote.entry_of(id).is_some());
        is_here || self.room.elsewhere(id).is_some()
    }

    /// Ends the current stay of a member on this node. From now on, it counts as one of another node, until the event of its
    /// leave arrives; but not if the broker has lost it, because then no such event follows.
    pub(super) fn end_stay(&mut self, id: ConnectionId) -> Option<EndedStay> {
        let Stay { number, generation, is_lost } = self.remote.as_mut()?.remove(id)?;
        let entry = EntryId { member: id, number };
        let was_hidden = self.room.profile(id).is_some_and(|profile| profile.is_hidden);
        let member = match is_lost {
            true => self.remove(id)?.member,
            false => self.move_elsewhere(entry)?,
        };
        Some(EndedStay { entry, generation, member, was_hidden })
    }

    /// A member of this node counts as one of another node from now on.
    fn move_elsewhere(&mut self, entry: EntryId) -> Option<Arc<Member<Handle>>> {
        let member = self.room.move_elsewhere(entry.member, entry.number)?;
        self.pending.remove_listener(member.handle.subprotocol());
        self.drop_transients(entry.member);
        Some(member)
    }

    /// A member of this node has left, because it enters again with the next event. It gets the frames from before, but not
    /// its own leave. To be called before the event of the leave is applied.
    pub(super) fn replace(&mut self, entry: EntryId, left: u64) {
        let Some(remote) = &mut self.remote else { return };
        if !remote.has(entry) {
            return;
        }
        let Some(expected) = remote.expected_instead_of(entry) else { return };
        let (undelivered, delivered) = (self.pending.undelivered(), self.pending.delivered());
        expected.replaced = Some(Replaced { undelivered, delivered, left });
        remote.remove(entry.member);
        self.remove(entry.member);
    }

    /// The member will not enter.
    pub(super) fn cancel_expected(&mut self, entry: EntryId) {
        let expected = self.remote.as_mut().and_then(|remote| remote.take_expected(entry));
        if let Some(expected) = expected {
            self.room.cancel_reservation(&expected.entrant.name);
        }
    }

    /// The counts before the next event, or before the leave that it makes up for.
    pub(super) fn counts_before(&mut self) -> Counts {
        let before = self.remote.as_mut().and_then(|remote| remote.counts_before.take());
        before.unwrap_or_else(|| self.counts())
    }

    /// Notes the counts after the next event.
    pub(super) fn keep_counts_before(&mut self, before: Counts) {
        if let Some(remote) = &mut self.remote {
            remote.counts_before = Some(before);
        }
    }

    /// A member of this node has had this profile until now. If it moves to another node before an event tells the new one,
    /// that is void.
    pub(super) fn keep_told_profile(&mut self, member: ConnectionId, before: Profile) {
        if let Some(remote) = self.remote.as_mut().filter(|remote| remote.entries.contains_key(&member)) {
            remote.told_profiles.entry(member).or_insert(before);
        }
    }

    /// Whether the replica follows the room's order, and has come to this event.
    pub(super) fn has_reached(&self, stamp: Stamp) -> bool {
        let is_following = self.remote.as_ref().is_some_and(|remote| remote.is_following);
        is_following && stamp.epoch == self.latest.epoch && stamp.event <= self.latest.event
    }

    pub(super) fn distance_of(&self, stamp: Stamp) -> Distance {
        let is_following = self.remote.as_ref().is_some_and(|remote| remote.is_following);
        match stamp.event.checked_sub(self.latest.event) {
            _ if !is_following || stamp.epoch != self.latest.epoch => Distance::Beyond,
            Some(1) => Distance::Next,
            None | Some(0) => Distance::Before,
            Some(_) => Distance::Beyond,
        }
    }

    /// The receiver completes when the event at this position, or a later one, has arrived here. Returns `None` if there is
    /// nothing to wait for.
    pub(super) fn arrival_of(&mut self, at: Position) -> Option<oneshot::Receiver<()>> {
        let latest = self.position();
        let remote = self.remote.as_mut().filter(|remote| remote.is_following)?;
        if at.epoch != latest.epoch || at.seq <= latest.seq {
            return None;
        }
        let (arrived, arrival) = oneshot::channel();
        remote.awaited.push((at, arrived));
        Some(arrival)
    }

    /// Ends the waiting for events that have arrived.
    pub(super) fn note_arrivals(&mut self) {
        let latest = self.position();
        if let Some(remote) = &mut self.remote
            && !remote.awaited.is_empty()
        {
            remote.awaited.retain(|(at, _)| at.epoch == latest.epoch && at.seq > latest.seq);
        }
    }

    /// Follows the room's order after this event. `members` are those that the room has then or had later: later events
    /// may repeat what they tell. Returns the members of this node that have missed events.
    pub(super) fn follow_from(&mut self, stamp: Stamp, members: &[RemoteMember]) -> Vec<Handle> {
        let Some(remote) = &mut self.remote else { return Vec::new() };
        let has_missed = std::mem::replace(&mut remote.is_following, true);
        remote.counts_before = None;
        remote.in_flight = InFlight::default();
        self.room.clear_elsewhere();
        // Those that enter later come with their events.
        let is_later = |member: &RemoteMember| {
            let (epoch, event) = member.entered;
            epoch == stamp.epoch && event > stamp.event
        };
        // Members of this node that the broker does not know enter again, and are moved then.
        remote.entries.values_mut().for_each(|stay| stay.is_lost = true);
        // The sessions of some have been taken over, and they have entered again.
        let is_outdated = |member: &&RemoteMember| {
            let stay = remote.entry_of(member.entry.member);
            stay.is_some_and(|entry| entry != member.entry) && !is_later(member)
        };
        let outdated: Vec<ConnectionId> =
            members.iter().filter(is_outdated).map(|member| member.entry.member).collect();
        for member in outdated {
            self.end_stay(member);
        }
        let Some(remote) = &mut self.remote else { return Vec::new() };
        let mut places = HashMap::new();
        for member in members {
            let RemoteMember { entry: EntryId { member: id, number: entry }, name, profile, .. } =
                member.clone();
            if remote.has(member.entry) {
                remote.set_lost(member.entry, false);
                // Its session may have been taken over, and its new node may have changed it.
                remote.note_profile(member.entry, profile);
                places.insert(id, self.room.next_place());
            } else if !is_later(member) {
                self.room.enter_elsewhere(MemberElsewhere { id, name, entry }, profile);
            }
        }
        self.room.set_places(&places);
        self.latest = stamp;
        self.pending.restart(stamp.seq);
        if let Some(replay) = &mut self.replay {
            replay.restart(stamp.seq);
        }
        self.transients = None;
        self.first_page.clear();
        self.announcer.restart(stamp.num);
        match has_missed {
            true => self.room.members().iter().map(|member| member.handle.clone()).collect(),
            false => Vec::new(),
        }
    }
}
