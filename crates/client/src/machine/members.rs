//! Handles frames about the members of rooms, and sends this client's own states.

use serde_json::Value;

use super::presence::Request;
use super::questions::Question;
use super::refusal::Refusal;
use super::{Machine, Now, RoomKey};
use crate::event::ClientEvent;
use crate::incoming::{Page, StateChange};
use crate::presence::PresenceMode;

impl<T> Machine<T> {
    /// The application sets this client's state in a room; [`Value::Null`] removes it.
    pub(crate) fn set_state(&mut self, now: Now, key: RoomKey, state: Value) {
        self.cx.now = now;
        if let Some(room) = self.rooms.get_mut(key) {
            room.presence_mut().set_state(state);
            self.flush();
        }
    }

    pub(super) fn on_presence(&mut self, id: Option<&str>, mode: PresenceMode, num: u64, users: u64) {
        let Some(room) = self.rooms.find(id).filter(|room| room.is_in()) else { return };
        room.presence_mut().on_presence(mode, num, users, &mut self.cx);
        room.presence_mut().publish(&mut self.cx);
        self.flush();
    }

    pub(super) fn on_members(&mut self, id: Option<&str>, page: Page) {
        let Some(room) = self.rooms.find(id).filter(|room| room.is_in()) else { return };
        room.presence_mut().on_page(page, self.cx.now);
        room.presence_mut().publish(&mut self.cx);
        let question = Question::Members(room.key());
        self.link.iter_mut().for_each(|link| link.questions.answer(&question));
        self.flush();
    }

    pub(super) fn on_state(&mut self, id: Option<&str>, change: StateChange) {
        let Some(room) = self.rooms.find(id).filter(|room| room.is_in()) else { return };
        if let Some(is_read_only) = change.is_read_only {
            room.set_read_only(is_read_only, &mut self.cx);
        }
        room.presence_mut().on_state(change);
        room.presence_mut().publish(&mut self.cx);
    }

    /// Sends the frames about members that are due, as far as the server accepts them.
    pub(super) fn send_requests(&mut self) {
        let now = self.cx.now;
        while self.frames_not_before <= now
            && self.link.is_some()
            && let Some(key) = self.rooms.next_request(now)
        {
            let wait = self.cx.outgoing.wait_for_frame(now);
            if !wait.is_zero() {
                self.frames_not_before = now.saturating_add(wait);
                return;
            }
            let Some(room) = self.rooms.get_mut(key) else { return };
            let id = room.id().to_owned();
            let Some(request) = room.presence_mut().next_request(&id, now) else { return };
            room.presence_mut().publish(&mut self.cx);
            match request {
                Request::Members(frame) => self.ask(Question::Members(key), &frame),
                Request::State(frame) => self.send_unanswered(&frame),
            }
        }
    }

    /// When the next frame about members is to be sent.
    pub(super) fn request_deadline(&self) -> Option<Now> {
        self.link.as_ref()?;
        self.rooms.request_deadline().map(|at| at.max(self.frames_not_before))
    }

    /// An error about a room that the client is in. Returns `false` if it is not about its members.
    pub(super) fn on_members_error(&mut self, key: RoomKey, refusal: &Refusal) -> bool {
        let is_asking = self.link.as_ref().is_some_and(|link| link.questions.asks_for_members_first(key));
        let Some(room) = self.rooms.get_mut(key) else { return false };
        let may_be_of_state = room.is_in() && !room.is_entering() && room.presence().may_refuse_state();
        if refusal.has_code("not_entered") {
            // The server has removed the client from the room and says so, unless the client has entered again already.
            self.on_members_postponed(key, refusal);
        } else if refusal.is_postponement() && (is_asking || may_be_of_state) {
            // It may be about a request or a state, and both can be sent again.
            if may_be_of_state {
                room.presence_mut().on_state_postponed(self.cx.now.saturating_add(refusal.wait()));
            }
            if is_asking {
                self.on_members_postponed(key, refusal);
            }
        } else if is_asking && refusal.is_of_unreadable() {
            self.on_members_refused(key, refusal);
        } else if may_be_of_state && refusal.may_be_of_state() {
            room.presence_mut().on_state_refused(self.cx.now);
            room.presence_mut().publish(&mut self.cx);
            room.emit_unrecoverable(ClientEvent::Error(refusal.clone().error()), &mut self.cx);
        } else {
            return false;
        }
        self.flush();
        true
    }

    /// The server has put off a request for a page of the roster.
    pub(super) fn on_members_postponed(&mut self, key: RoomKey, refusal: &Refusal) {
        let at = self.cx.now.saturating_add(refusal.wait());
        self.link.iter_mut().for_each(|link| link.questions.answer(&Question::Members(key)));
        self.rooms.get_mut(key).into_iter().for_each(|room| room.presence_mut().postpone(at));
    }

    /// The server has refused a request for a page of the roster.
    pub(super) fn on_members_refused(&mut self, key: RoomKey, refusal: &Refusal) {
        self.link.iter_mut().for_each(|link| link.questions.answer(&Question::Members(key)));
        if let Some(room) = self.rooms.get_mut(key) {
            room.presence_mut().on_members_refused();
            room.emit_unrecoverable(ClientEvent::Error(refusal.clone().error()), &mut self.cx);
        }
    }
}
