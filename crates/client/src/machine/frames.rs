//! Handles the server's frames.

use serde_json::{Map, Value};

use super::questions::Question;
use super::refusal::Refusal;
use super::sending::HISTORY;
use super::{Machine, Now, Output};
use crate::error::ClientError;
use crate::event::{ChatEvent, ClientEvent, RoomFrame};
use crate::history::HistoryPage;
use crate::incoming::{Incoming, ServerError};
use crate::outgoing::Recipient;

impl<T> Machine<T> {
    pub(crate) fn on_text(&mut self, now: Now, text: &str) {
        self.cx.now = now;
        let Some(link) = self.link.as_mut().filter(|link| link.is_open()) else { return };
        link.liveness.receive(now);
        match Incoming::parse(text) {
            Incoming::Heartbeat => {
                link.liveness.receive_heartbeat(now);
                self.cx.outputs.push(Output::Pong);
            }
            Incoming::Pong => {}
            Incoming::Welcome(welcome) => self.on_welcome(welcome),
            Incoming::Entered(entered) => self.on_entered(entered),
            Incoming::Left(left) => self.on_left(left),
            Incoming::Resumed(resumed) => self.on_resumed(&resumed),
            Incoming::Ack { cid, result } => self.on_acknowledged(&cid, result),
            Incoming::History { room, cid, messages, has_more } => {
                self.on_history(room.as_deref(), &cid, messages, has_more);
            }
            Incoming::Authenticated => self.on_authenticated(),
            Incoming::Expiring(left) => self.on_expiring(left),
            Incoming::NoAuth(why) => self.on_no_auth(why),
            Incoming::Error(error) => self.on_error(error),
            Incoming::Lagged { room, missed } => self.on_lagged(room.as_deref(), missed),
            Incoming::Presence { room, mode, num, users } => {
                self.on_presence(room.as_deref(), mode, num, users);
            }
            Incoming::Members { room, page } => self.on_members(room.as_deref(), page),
            Incoming::State { room, change } => self.on_state(room.as_deref(), change),
            Incoming::Direct(number, object) => self.on_direct(number, object),
            Incoming::Frame(object) => self.on_frame(object),
            Incoming::Unreadable { room, seq, why } => self.on_unreadable(room.as_deref(), seq, &why),
            Incoming::Malformed(event) => {
                let why = format!("a frame {event:?} of the protocol lacks a key");
                self.emit_error(ClientError::BadFrame(why));
            }
        }
    }

    /// Something was received that is not text.
    pub(crate) fn on_binary(&mut self, now: Now) {
        self.cx.now = now;
        let Some(link) = self.link.as_mut().filter(|link| link.is_open()) else { return };
        link.liveness.receive(now);
        self.on_unreadable(None, None, "it is binary");
    }

    fn on_acknowledged(&mut self, cid: &str, result: u64) {
        if let Some(waiting) = self.cx.outgoing.acknowledge(cid) {
            self.cx.outputs.resolve(waiting, Ok(result));
            self.flush();
        }
    }

    fn on_history(
        &mut self,
        room: Option<&str>,
        cid: &str,
        messages: Vec<Map<String, Value>>,
        has_more: bool,
    ) {
        let Some(waiting) = self.cx.outgoing.acknowledge(cid) else { return };
        let room = self.rooms.find(room);
        let is_own = |message: &_| room.as_ref().is_some_and(|room| room.was_own(message));
        let messages = messages.into_iter().map(|message| {
            let is_own = is_own(&message);
            RoomFrame::new(message, is_own).of_store()
        });
        let page = HistoryPage { messages: messages.collect(), has_more };
        self.cx.outputs.push(Output::ResolveHistory(waiting, page));
        self.flush();
    }

    fn on_frame(&mut self, object: Map<String, Value>) {
        let Some(seq) = object.get("seq").and_then(Value::as_u64) else { return self.on_other_frame(object) };
        let Some(room) = self.rooms.find(object.get("roomId").and_then(Value::as_str)) else { return };
        let (key, outcome) = (room.key(), room.on_frame(seq, object, &mut self.cx));
        self.conclude(key, outcome);
    }

    /// A transient frame of a room, or a frame to this connection only.
    fn on_other_frame(&mut self, object: Map<String, Value>) {
        // The host may name a room in a frame to this connection only, which has no member.
        let event = object.get("event").and_then(Value::as_str);
        let is_transient =
            object.contains_key("member") || event.is_some_and(|event| self.cx.transients.declares(event));
        let Some(id) = object.get("roomId").and_then(Value::as_str).filter(|_| is_transient) else {
            return self.emit_unrecoverable(ChatEvent::Direct(RoomFrame::new(object, false)));
        };
        // In any other room, it is too late for it.
        if let Some(room) = self.rooms.find(Some(id)).filter(|room| room.is_in()) {
            room.on_transient(object, &mut self.cx);
        }
    }

    /// A frame that this client can't represent. If it is a frame of a room, it is missed there.
    fn on_unreadable(&mut self, id: Option<&str>, seq: Option<u64>, why: &str) {
        let error = ClientError::BadFrame(format!("the server sent a frame that can't be read: {why}"));
        match self.rooms.find(id).filter(|_| id.is_some()) {
            Some(room) => room.emit_unrecoverable(ClientEvent::Error(error), &mut self.cx),
            None => self.emit_error(error),
        }
        let only = self.rooms.only_one(|room| room.is_in());
        let key = match (id, seq) {
            (Some(_), _) | (_, Some(_)) => self.rooms.find(id).map(|room| room.key()),
            (None, None) => only.or_else(|| self.rooms.only_one(|room| room.is_replaying())),
        };
        match key.and_then(|key| self.rooms.get_mut(key)) {
            Some(room) => {
                let (key, outcome) = (room.key(), room.on_unreadable(seq, &mut self.cx));
                self.conclude(key, outcome);
            }
            // It may be a frame of any room. The next frame of that room shows it.
            None if seq.is_none() => self.rooms.iter_mut().for_each(|room| room.note_unreadable()),
            None => {}
        }
    }

    fn on_lagged(&mut self, id: Option<&str>, missed: u64) {
        let Some(room) = self.rooms.find(id) else { return };
        room.on_lagged(missed, &mut self.cx);
        self.flush();
    }

    fn on_error(&mut self, error: ServerError) {
        let (cid, id) = (error.cid.clone(), error.room.clone());
        let refusal = Refusal::of(error);
        if let Some(cid) = cid {
            return self.on_message_refused(&cid, refusal);
        }
        let Some(id) = id else { return self.on_unnamed_error(refusal) };
        let room = self.rooms.find(Some(&id)).map(|room| (room.key(), room.is_entering()));
        if let Some((key, _)) = room
            && self.on_members_error(key, &refusal)
        {
            return;
        }
        match room.filter(|(_, is_entering)| *is_entering).map(|(key, _)| key) {
            Some(key) => self.on_enter_refused(key, refusal),
            // It is about an enter of a room that was left meanwhile.
            None if self.leaving.contains(&id) => {}
            None => self.emit_error(refusal.error()),
        }
    }

    fn on_message_refused(&mut self, cid: &str, refusal: Refusal) {
        let recipient = self.cx.outgoing.recipient_of(cid);
        // A refused request is not sent again, because messages must not wait for it.
        let is_request = self.cx.outgoing.has_event(cid, HISTORY);
        if let Some(Recipient::Room(key)) =
            recipient.filter(|_| refusal.has_code("not_entered") && !is_request)
        {
            // It was in flight when the client left the room. It is sent again in the room.
            let Some(room) = self.rooms.get_mut(key) else { return };
            let outcome = room.on_not_entered(refusal, &mut self.cx);
            self.postpone_attempts();
            self.conclude(key, outcome);
        } else if refusal.is_postponement() && !is_request {
            self.cx.outgoing.postpone(cid, refusal.wait(), self.cx.now);
            self.flush();
        } else if let Some(waiting) = self.cx.outgoing.take(cid) {
            self.cx.outputs.resolve(waiting, Err(refusal.error()));
            self.flush();
        } else {
            self.emit_error(refusal.error());
        }
    }

    /// The server does not say what it has refused. It answers in order.
    fn on_unnamed_error(&mut self, refusal: Refusal) {
        if refusal.may_be_of_transient() && self.cx.transients.in_flight(self.cx.now) > 0 {
            return self.on_transient_refused(refusal);
        }
        let oldest = self.link.as_ref().and_then(|link| link.questions.oldest());
        let message = self.cx.outgoing.oldest_in_flight();
        let asked_first = match (oldest, message) {
            (Some((question, frame)), message) if message.is_none_or(|message| frame < message) => {
                Some(question)
            }
            _ => None,
        };
        match asked_first.cloned() {
            Some(Question::Auth) if refusal.is_postponement() => self.on_token_postponed(refusal),
            Some(Question::Resume) => self.on_resume_refused(refusal),
            Some(Question::Enter(key)) => self.on_enter_refused(key, refusal),
            Some(Question::Members(key)) if refusal.is_postponement() => {
                self.on_members_postponed(key, &refusal);
                self.flush();
            }
            Some(Question::Members(key)) if refusal.is_of_unreadable() => {
                self.on_members_refused(key, &refusal);
            }
            Some(Question::Leave(id)) if refusal.is_postponement() => self.postpone_leave(&id, refusal),
            _ if refusal.is_of_unreadable() && message.is_some() => {
                if let Some(waiting) = self.cx.outgoing.take_oldest() {
                    self.cx.outputs.resolve(waiting, Err(refusal.error()));
                }
                self.flush();
            }
            _ => self.emit_error(refusal.error()),
        }
    }

    fn on_transient_refused(&mut self, refusal: Refusal) {
        // It may get lost, for example if the client has left the room meanwhile.
        if !refusal.has_code("not_entered") {
            self.emit_error(refusal.error());
        }
    }

    fn postpone_leave(&mut self, id: &str, refusal: Refusal) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(&Question::Leave(id.to_owned()));
        self.leaving.send(id, self.cx.now.saturating_add(refusal.wait()));
        self.expect_answer();
    }
}
