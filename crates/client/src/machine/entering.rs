//! Resumes the session, enters rooms and leaves them.

use serde_json::json;

use super::link::{Link, Resumption};
use super::questions::Question;
use super::refusal::Refusal;
use super::{Machine, Output, Owner, RoomKey};
use crate::error::ClientError;
use crate::event::ChatState;
use crate::incoming::{Entered, Left, Removal, Resumed, Welcome};

impl<T> Machine<T> {
    pub(super) fn on_welcome(&mut self, welcome: Welcome) {
        let Some(link) = &mut self.link else { return };
        if !link.set_welcome(welcome) {
            return;
        }
        if !matches!(self.owner, Owner::Room(_)) {
            self.attempts.end_first();
            if self.rooms.is_empty() {
                link.become_useful();
                self.attempts.succeed(self.cx.now);
            }
            self.emit_state(ChatState::Online);
        }
        self.begin();
        self.expect_answer();
    }

    /// Resumes the session from before, and enters all rooms.
    pub(super) fn begin(&mut self) {
        self.resume();
        self.enter_rooms();
        self.start_directs();
    }

    fn resume(&mut self) {
        let Some(link) = self.link.as_mut() else { return };
        if !matches!(link.resumption, Resumption::Unasked | Resumption::Postponed(_)) {
            return;
        }
        let own = link.token().map(str::to_owned);
        let tokens = self.resume_tokens.to_resume(own.as_deref());
        if tokens.is_empty() {
            link.resumption = Resumption::Done;
            // The server may keep the session of an authenticated client that is in no room.
            self.resume_tokens.replace(own.as_deref());
            self.begin_session();
            return self.leaving.retain(&[]);
        }
        link.resumption = Resumption::Asked;
        let mut frame = json!({"event": "resume", "message": tokens});
        if let Some((member, last)) = self.directs.last() {
            frame["member"] = json!(member);
            frame["direct"] = json!(last);
        }
        own.iter().for_each(|own| self.resume_tokens.add(own));
        self.ask(Question::Resume, &frame);
    }

    pub(super) fn on_resumed(&mut self, resumed: &Resumed) {
        self.end_resumption();
        match &resumed.member {
            Some(member) => self.continue_session(member, resumed.direct),
            None => self.begin_session(),
        }
        self.leaving.retain(&resumed.rooms);
        for id in &resumed.rooms {
            if self.leaving.is_unsent(id) || !(self.rooms.contains(id) || self.leaving.contains(id)) {
                self.send_leave(id.clone(), None);
            }
        }
        self.enter_rooms();
        self.start_directs();
        self.expect_answer();
    }

    /// The server has not resumed the session.
    pub(super) fn on_resume_refused(&mut self, refusal: Refusal) {
        let Some(link) = &mut self.link else { return };
        if refusal.is_postponement() {
            link.questions.answer(&Question::Resume);
            link.resumption = Resumption::Postponed(self.cx.now.saturating_add(refusal.wait()));
            self.expect_answer();
        } else {
            self.emit_error(refusal.error());
            self.on_resumed(&Resumed { member: None, direct: None, rooms: Vec::new() });
        }
    }

    /// It is known whether this connection continues the session from before.
    fn end_resumption(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(&Question::Resume);
        link.resumption = Resumption::Done;
        self.resume_tokens.replace(link.token());
    }

    /// From now on, the client keeps to the limits of the server, unless it does already.
    pub(super) fn use_limits(&mut self) {
        let Some(link) = &mut self.link else { return };
        if let Some(welcome) = link.take_limits() {
            self.cx.outgoing.set_limits(welcome, self.cx.now);
            self.cx.transients.set_limits(welcome, self.cx.now);
            (0..link.questions.len()).for_each(|_| self.cx.outgoing.charge(0));
        }
    }

    fn enter_rooms(&mut self) {
        for key in self.rooms.keys() {
            if self.rooms.get(key).is_some_and(|room| !room.is_in() && !room.is_entering()) {
                self.enter(key);
            }
        }
    }

    pub(super) fn enter(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.enter_at(None);
        let Some(link) = self.link.as_ref().filter(|link| link.may_enter()) else { return };
        // It was joined again, and has to be left first.
        if self.leaving.contains(room.id()) {
            return;
        }
        if link.enter_time(self.cx.now) != Some(self.cx.now) {
            return room.enter_at(Some(self.cx.now));
        }
        link.token().into_iter().for_each(|own| self.resume_tokens.add(own));
        // If the server has removed the client from the room meanwhile, it has refused the messages before the enter. One
        // after the enter would overtake them.
        self.cx.outgoing.hold(key.into());
        let frame = room.enter();
        self.ask(Question::Enter(key), &frame);
        self.check_pause();
    }

    /// Does what is due in the rooms.
    pub(super) fn tick_rooms(&mut self) {
        let now = self.cx.now;
        if self.link.as_ref().is_some_and(|link| link.is_resume_due(now)) {
            self.begin();
        }
        self.enter_due();
        for id in self.leaving.due(now) {
            self.send_leave(id, None);
        }
    }

    /// Enters the rooms that have to be entered by now, as far as the server accepts it.
    fn enter_due(&mut self) {
        let now = self.cx.now;
        while self.link.as_ref().is_some_and(|link| link.enter_time(now) == Some(now))
            && let Some(key) = self.rooms.next_due(now)
        {
            self.enter(key);
        }
    }

    pub(super) fn on_entered(&mut self, entered: Entered) {
        let id = entered.room.clone();
        let Some(key) = self.rooms.find(id.as_deref()).map(|room| room.key()) else {
            // It was entered for the application, which has left it meanwhile.
            return id.into_iter().for_each(|id| self.leave_unwanted(id));
        };
        if id.is_some_and(|id| self.leaving.contains(&id)) {
            return;
        }
        let Some(link) = self.link.as_mut().filter(|link| link.welcome().is_some()) else { return };
        link.questions.answer(&Question::Enter(key));
        link.enters.accept();
        link.become_useful();
        link.auth.accept();
        // The server has taken this enter out of its token buckets. From now on, they hold no less than the client's.
        self.use_limits();
        let Some(link) = self.link.as_mut() else { return };
        if link.resumption != Resumption::Asked {
            self.end_resumption();
        }
        if !self.rooms.is_in_any() {
            self.attempts.succeed(self.cx.now);
        }
        self.refused_tokens = 0;
        if let Some(room) = self.rooms.get_mut(key) {
            room.on_entered(entered, &mut self.cx);
        }
        self.enter_due();
        self.start_directs();
        self.expect_answer();
        self.flush();
    }

    fn leave_unwanted(&mut self, id: String) {
        if !self.leaving.contains(&id) {
            self.send_leave(id, None);
        }
    }

    pub(super) fn on_enter_refused(&mut self, key: RoomKey, refusal: Refusal) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(&Question::Enter(key));
        if refusal.has_code("rate_limited") {
            link.enters.refuse(self.cx.now.saturating_add(refusal.wait()));
        }
        let Some(room) = self.rooms.get_mut(key) else { return };
        let outcome = room.on_enter_refused(refusal, &mut self.cx);
        self.postpone_attempts();
        self.conclude(key, outcome);
        self.enter_due();
        self.expect_answer();
    }

    /// If no room lets the client in, the connection is of no use.
    pub(super) fn postpone_attempts(&mut self) {
        if !self.rooms.is_in_any()
            && let Some(backoff) = self.rooms.backoff()
        {
            self.attempts.postpone(self.cx.now, backoff);
        }
    }

    pub(super) fn on_left(&mut self, left: Left) {
        let Left { room: Some(id), removal } = left else { return };
        let key = self.rooms.find(Some(&id)).map(|room| room.key());
        match (removal, key) {
            (None, key) if self.leaving.contains(&id) => {
                self.finish_leave(&id);
                // It may have been joined again.
                key.into_iter().for_each(|key| self.enter(key));
            }
            (Some(removal), Some(key)) if !self.leaving.contains(&id) => self.on_removed(key, removal),
            // A repeated answer to a leave, or a removal before that answer.
            _ => {}
        }
        self.expect_answer();
    }

    /// The client is no longer in a room that it wanted to leave.
    pub(super) fn finish_leave(&mut self, id: &str) {
        if let Some(link) = &mut self.link {
            link.questions.answer(&Question::Leave(id.to_owned()));
            link.questions.forget_rooms(|key| self.rooms.get(key).is_none());
        }
        for key in self.leaving.finish(id) {
            self.cx.outputs.push(Output::Left(key));
        }
    }

    fn on_removed(&mut self, key: RoomKey, removal: Removal) {
        if removal.code == "token_expired" {
            return self.on_room_expired(key, removal.message);
        }
        let Some(room) = self.rooms.get_mut(key) else { return };
        let outcome = room.on_removed(Refusal::of_removal(removal), &mut self.cx);
        if let Some(link) = self.link.as_mut().filter(|_| !room.is_entering()) {
            link.questions.answer(&Question::Enter(key));
        }
        self.postpone_attempts();
        self.conclude(key, outcome);
    }

    /// Leaves a room, and closes it for good. `waiting` is told once the server knows.
    pub(super) fn remove_room(&mut self, key: RoomKey, error: ClientError, waiting: Option<RoomKey>) {
        let Some(room) = self.rooms.remove(key) else { return };
        for message in self.cx.outgoing.drain(key.into()) {
            self.cx.outputs.resolve(message, Err(error.as_closed()));
        }
        let (id, is_there) = (room.id().to_owned(), room.is_in() || room.is_entering());
        room.close(error.clone(), &mut self.cx.outputs);
        if is_there {
            self.send_leave(id, waiting);
        } else {
            if self.link.as_ref().is_none_or(Link::may_resume) {
                // The session from before may be in the room.
                self.leaving.add(&id, None);
            }
            waiting.into_iter().for_each(|key| self.cx.outputs.push(Output::Left(key)));
        }
        self.check_pause();
        self.close_if_unused(error);
    }

    /// A room is closed for good, though the application has not left it.
    pub(super) fn end_room(&mut self, key: RoomKey, error: ClientError) {
        if self.owner == Owner::Room(key) { self.close(error) } else { self.remove_room(key, error, None) }
    }

    fn send_leave(&mut self, id: String, waiting: Option<RoomKey>) {
        let Some(link) = &self.link else { return };
        let repeat_at = self.attempts.step_deadline(self.cx.now, link.liveness.patience());
        self.leaving.add(&id, waiting);
        self.leaving.send(&id, repeat_at);
        let frame = json!({"event": "leave", "roomId": id});
        self.ask(Question::Leave(id), &frame);
    }
}
