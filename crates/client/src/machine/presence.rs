//! What a client knows about the members of a room: how many there are, the roster, and its own state.
//!
//! The roster changes with the frames of the room, in their order. If some are missing, or the server says that the
//! client has missed changes, the client requests the roster again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::own_state::OwnState;
use self::paging::{Paging, Start};
use self::roster::Roster;
use super::context::Context;
use super::outputs::Output;
use super::{Now, RoomKey};
use crate::incoming::{Page, StateChange};
use crate::presence::{Member, Presence, PresenceMode};

mod own_state;
mod paging;
mod roster;

/// The maximum number of members in the first page of a roster, which is part of `entered`.
const PAGE: usize = 100;

/// The time over which the clients of a room spread their requests if all of them need the roster.
const SPREAD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct RoomPresence {
    key: RoomKey,
    /// How many members to request at most.
    max_requested: usize,
    mode: PresenceMode,
    num: u64,
    users: u64,
    /// `None` if the mode is not full, or nothing of the roster has arrived.
    roster: Option<Roster>,
    is_complete: bool,
    paging: Paging,
    /// This client's member id.
    own: Option<Arc<str>>,
    own_state: OwnState,
    /// What the application is told.
    snapshot: Presence,
    has_changed: bool,
}

/// A frame that is to be sent.
#[derive(Debug)]
pub(super) enum Request {
    Members(Value),
    State(Value),
}

/// How this client has entered the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// As a new member.
    New,
    /// It was in the room already.
    Resumed,
}

impl RoomPresence {
    pub(super) fn new(key: RoomKey, max_requested: usize, state: Value) -> RoomPresence {
        RoomPresence {
            key,
            max_requested,
            mode: PresenceMode::Quiet,
            num: 0,
            users: 0,
            roster: None,
            is_complete: false,
            paging: Paging::default(),
            own: None,
            own_state: OwnState::new(state),
            snapshot: Presence::default(),
            has_changed: false,
        }
    }

    #[cfg(test)]
    pub(super) fn max_requested(&self) -> usize {
        self.max_requested
    }

    pub(super) fn snapshot(&self) -> &Presence {
        &self.snapshot
    }

    /// The state that the member is to have if it is a new one. It is part of the enter that is sent now.
    pub(super) fn state_to_enter(&mut self) -> Option<&Value> {
        self.own_state.enter()
    }

    /// The client is in the room.
    pub(super) fn enter(&mut self, page: Page, own: Arc<str>, entry: Entry, now: Now) {
        match entry {
            Entry::New => self.own_state.on_entered(),
            // The server may have had another enter since, whose answer was lost.
            Entry::Resumed => self.own_state.forget(),
        }
        let own_entry = page.members.iter().flatten().find(|member| *member.id() == *own);
        if let Some(member) = own_entry {
            self.own_state.learn(member.state().cloned().unwrap_or_default());
        }
        self.own = Some(own);
        self.paging.stop();
        self.begin_roster(page, now);
    }

    /// The client has left the room, or the connection is lost. The application still sees what was known, marked as
    /// incomplete.
    pub(super) fn leave(&mut self) {
        self.has_changed |= std::mem::take(&mut self.is_complete);
        self.paging.forget();
    }

    /// The connection is lost.
    pub(super) fn on_lost(&mut self) {
        self.own_state.on_lost();
    }

    /// The answer to a request.
    pub(super) fn on_page(&mut self, page: Page, now: Now) {
        match self.paging.answer() {
            None => {}
            Some(Start::Beginning) => self.begin_roster(page, now),
            Some(Start::After(_)) => self.go_on(page, now),
        }
    }

    fn begin_roster(&mut self, page: Page, now: Now) {
        self.roster = page.members.is_some().then(Roster::new);
        self.go_on(page, now);
    }

    fn go_on(&mut self, page: Page, now: Now) {
        let Page { mode, num, users, members, next } = page;
        self.set_counts(mode, num, users);
        let Some(roster) = self.roster.as_mut().filter(|_| members.is_some()) else {
            return self.drop_roster();
        };
        for member in members.into_iter().flatten() {
            if self.own.as_deref() == Some(member.id()) {
                self.own_state.check(member.state());
            }
            roster.add(own_marked(member, self.own.as_deref(), &self.own_state));
        }
        self.is_complete = next.is_none();
        self.has_changed = true;
        if let Some(next) = next.filter(|_| roster.len() < self.max_requested) {
            self.paging.want(Start::After(next), now);
        }
    }

    fn set_counts(&mut self, mode: PresenceMode, num: u64, users: u64) {
        self.has_changed |= (self.mode, self.num, self.users) != (mode, num, users);
        (self.mode, self.num, self.users) = (mode, num, users);
    }

    fn drop_roster(&mut self) {
        self.has_changed |= self.roster.take().is_some();
        self.is_complete = false;
        self.paging.stop();
    }

    /// A `presence` frame. In full mode, it means that the client may have missed changes of the roster.
    pub(super) fn on_presence<T>(&mut self, mode: PresenceMode, num: u64, users: u64, cx: &mut Context<T>) {
        let is_other_mode = self.mode != mode;
        self.set_counts(mode, num, users);
        if mode != PresenceMode::Full {
            return self.drop_roster();
        }
        // When the mode of a room changes, all of its members request the roster.
        let wait = if is_other_mode { SPREAD.mul_f64(cx.random.part()) } else { Duration::ZERO };
        self.request_again(cx.now.saturating_add(wait));
    }

    /// Frames of the room are missing. The roster may have changed in them.
    pub(super) fn miss(&mut self, now: Now) {
        if self.mode == PresenceMode::Full {
            self.request_again(now);
        }
    }

    fn request_again(&mut self, at: Now) {
        if self.max_requested == 0 {
            return self.drop_roster();
        }
        self.has_changed |= std::mem::take(&mut self.is_complete);
        self.paging.want(Start::Beginning, at);
    }

    /// A frame of the room that is not replayed.
    pub(super) fn on_frame(&mut self, frame: &Map<String, Value>, now: Now) {
        if let Some(num) = frame.get("num").and_then(Value::as_u64) {
            self.has_changed |= std::mem::replace(&mut self.num, num) != num;
        }
        let Some(roster) = &mut self.roster else { return };
        let Some(member) = Member::of(frame) else { return };
        match frame.get("event").and_then(Value::as_str) {
            Some("enter")
                if roster.len() >= self.max_requested.max(PAGE) && !roster.contains(member.id()) =>
            {
                self.is_complete = false;
            }
            Some("enter") => roster.enter(own_marked(member, self.own.as_deref(), &self.own_state)),
            Some("out") => {
                roster.remove(member.id());
                let fits = self.max_requested > 0 && self.num <= self.max_requested as u64 / 2;
                if !self.is_complete && fits && self.paging.is_idle() {
                    self.paging.want(Start::Beginning, now);
                }
            }
            _ => return,
        }
        self.has_changed = true;
    }

    /// A member has changed.
    pub(super) fn on_state(&mut self, change: StateChange) {
        if let Some(num) = change.num {
            self.has_changed |= std::mem::replace(&mut self.num, num) != num;
        }
        if self.own.as_deref() == Some(&*change.member)
            && let Some(state) = &change.state
        {
            self.own_state.learn(state.clone());
        }
        let Some(roster) = &mut self.roster else { return };
        self.has_changed |= roster.change(change);
    }

    /// Tells the application what has changed.
    pub(super) fn publish<T>(&mut self, cx: &mut Context<T>) {
        if !std::mem::take(&mut self.has_changed) {
            return;
        }
        if let Some(roster) = self.roster.as_ref().filter(|_| self.is_complete) {
            self.users = roster.users();
        }
        let counts = Presence::new(self.mode, self.num, self.users);
        self.snapshot = match &self.roster {
            Some(roster) => counts.with_members(roster.snapshot(), self.is_complete),
            None => counts,
        };
        cx.outputs.push(Output::Presence(self.key));
    }

    /// The application gives this member another state.
    pub(super) fn set_state(&mut self, state: Value) {
        self.own_state.set(state);
    }

    /// When the next frame is to be sent.
    pub(super) fn deadline(&self) -> Option<Now> {
        [self.own_state.deadline(), self.paging.deadline()].into_iter().flatten().min()
    }

    /// The next frame that is to be sent by now. It counts as sent.
    pub(super) fn next_request(&mut self, room: &str, now: Now) -> Option<Request> {
        if let Some(state) = self.own_state.send(now) {
            let frame = json!({"event": "state", "state": state, "roomId": room});
            self.show_own_state();
            return Some(Request::State(frame));
        }
        let start = self.paging.ask(now)?;
        let mut frame = json!({"event": "members", "roomId": room});
        if let Start::After(cursor) = start {
            frame["after"] = json!(cursor);
        }
        Some(Request::Members(frame))
    }

    /// Shows a change of this client's own state, because the server does not send it back.
    fn show_own_state(&mut self) {
        if let (Some(own), Some(roster), Some(state)) = (&self.own, &mut self.roster, self.own_state.known())
            && let Some(member) = roster.get_mut(own)
        {
            member.set_state(state.clone());
            self.has_changed = true;
        }
    }

    /// The server has put off a request for a page of the roster.
    pub(super) fn postpone(&mut self, at: Now) {
        self.paging.postpone(at);
    }

    /// The server has refused a request for a page of the roster.
    pub(super) fn on_members_refused(&mut self) {
        self.paging.answer();
    }

    /// Whether the server may refuse a change of this member's state.
    pub(super) fn may_refuse_state(&self) -> bool {
        self.own_state.may_be_refused()
    }

    /// The server has put off a change of this client's state until this time.
    pub(super) fn on_state_postponed(&mut self, at: Now) {
        self.own_state.postpone(at);
    }

    /// The server has refused a change of this client's state. Only the roster tells which state is valid.
    pub(super) fn on_state_refused(&mut self, now: Now) {
        self.own_state.refuse();
        self.show_own_state();
        self.miss(now);
    }
}

/// Marks this client's member in the roster. Its own state may be newer than the one that the server has sent.
fn own_marked(member: Member, own: Option<&str>, own_state: &OwnState) -> Member {
    if own != Some(member.id()) {
        return member;
    }
    let mut member = member.of_self();
    own_state.known().into_iter().for_each(|state| member.set_state(state.clone()));
    member
}
