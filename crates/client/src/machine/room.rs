//! Handles the server's frames, and sends the application's messages.

use serde_json::{Map, Value, json};
use tower_chat_rooms_protocol::{MAX_RESUME_TOKENS, close};

use super::{MAX_MEMBERS, MAX_WINDOW, Machine, Now, Output, PERMANENT_REFUSALS, Phase, Position, UNREADABLE};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState, RoomFrame};
use crate::incoming::{Entered, Incoming, Welcome};

impl<T> Machine<T> {
    pub(crate) fn on_text(&mut self, now: Now, text: &str) {
        if !matches!(self.phase, Phase::Connected(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        self.last_received = now;
        match Incoming::parse(text) {
            None => tracing::debug!("the server sent an invalid frame"),
            Some(Incoming::Heartbeat) => self.outputs.push_back(Output::Pong),
            Some(Incoming::Welcome(welcome)) => self.on_welcome(now, welcome),
            Some(Incoming::Entered(entered)) => self.on_entered(now, entered),
            Some(Incoming::Ack { cid, seq }) => {
                if let Some(waiting) = self.outgoing.take(&cid) {
                    self.outputs.push_back(Output::Resolve(waiting, Ok(seq)));
                    self.flush();
                }
            }
            // The user is of no concern to the client.
            Some(Incoming::Authenticated) => {}
            Some(Incoming::NoAuth(reason)) => self.on_token_refused(now, reason),
            Some(Incoming::Error { code, message, cid }) => self.on_error(now, code, message, cid),
            Some(Incoming::Lagged(missed)) => self.on_lagged(missed),
            Some(Incoming::Frame(object)) => self.on_frame(now, object),
        }
    }

    fn on_welcome(&mut self, now: Now, welcome: Welcome) {
        let Phase::Connected(_) = self.phase else { return };
        let mut enter =
            json!({"event": "enter", "message": self.settings.name, "roomId": self.settings.room});
        if let Some(position) = &self.position {
            enter["since"] = json!({"epoch": position.epoch, "seq": position.seq});
        }
        if !self.resume_tokens.is_empty() {
            enter["resume"] = json!(self.resume_tokens);
        }
        self.send_frame(&enter);
        // From now on this connection may hold the session, whether an answer arrives or not.
        if let Some(token) = &welcome.resume_token {
            // The first token is from the last connection that is known to have held the session. It
            // is the right one if no enter since has arrived; otherwise one of the latest is.
            if self.resume_tokens.len() == MAX_RESUME_TOKENS {
                self.resume_tokens.remove(1);
            }
            self.resume_tokens.push(token.clone());
        }
        self.welcome = Some(welcome);
        self.phase = Phase::Entering(self.step_deadline(now));
    }

    fn on_entered(&mut self, now: Now, entered: Entered) {
        let (Phase::Entering(_), Some(welcome)) = (self.phase, &self.welcome) else { return };
        self.resume_tokens = welcome.resume_token.iter().cloned().collect();
        self.phase = Phase::Online;
        self.was_online = true;
        self.online_since = now;
        self.refused_tokens = 0;
        let Entered { name, member, epoch, seq, num, resumed, recovered, replayed } = entered;
        let start = seq.saturating_sub(replayed);
        let missed = match &self.position {
            None => Some(0),
            Some(before) if before.epoch == epoch => start.checked_sub(before.seq),
            Some(_) => None,
        };
        if self.position.as_ref().is_some_and(|before| before.epoch != epoch) {
            self.members.clear();
        }
        self.last_seq = start;
        self.position = Some(Position { epoch, seq: start });
        // An earlier enter whose answer was lost may have started another session.
        let resumed = resumed && self.members.back() == Some(&member);
        if !resumed {
            if self.members.len() == MAX_MEMBERS {
                self.members.pop_front();
            }
            self.members.push_back(member.clone());
        }
        self.outputs.push_back(Output::Emit(ClientEvent::State(ClientState::Online)));
        let event = ClientEvent::Entered { name, member, num, resumed, recovered };
        self.outputs.push_back(Output::Emit(event));
        if missed != Some(0) {
            self.outputs.push_back(Output::Emit(ClientEvent::Gap { missed }));
        }
        // A resumed session knows the ids of the messages sent before. A new one doesn't, so the
        // replay has to show which of them were published, if need be on a later connection.
        if !(resumed && recovered) {
            self.send_after = seq;
        }
        self.flush();
    }

    fn on_error(&mut self, now: Now, code: String, message: String, cid: Option<String>) {
        let refused = match cid {
            Some(cid) => self.outgoing.take(&cid),
            // Frames are answered in order, and only a message can be unreadable.
            None if UNREADABLE.contains(&&*code) => self.outgoing.take_oldest(),
            None => None,
        };
        if let Some(waiting) = refused {
            self.outputs.push_back(Output::Resolve(waiting, Err(ClientError::Refused { code, message })));
            return self.flush();
        }
        match self.phase {
            Phase::Entering(_) if !self.was_online || PERMANENT_REFUSALS.contains(&&*code) => {
                self.outputs.push_back(Output::Close(close::NORMAL));
                self.end(ClientError::Refused { code, message });
            }
            Phase::Entering(_) => self.reconnect(now, &message),
            _ => self.emit_unrecoverable(ClientEvent::Error { code, message }),
        }
    }

    fn on_frame(&mut self, now: Now, object: Map<String, Value>) {
        let Some(seq) = object.get("seq").and_then(Value::as_u64) else {
            return self.emit_unrecoverable(ClientEvent::Direct(RoomFrame::new(object, false)));
        };
        if self.phase != Phase::Online {
            return;
        }
        let text = |key| object.get(key).and_then(Value::as_str);
        let mut own = text("member").is_some_and(|member| self.members.iter().any(|own| own == member));
        if let Some(waiting) = text("cid").and_then(|cid| self.outgoing.take(cid)) {
            own = true;
            self.outputs.push_back(Output::Resolve(waiting, Ok(seq)));
        }
        if seq > self.last_seq.saturating_add(1) {
            return self.reconnect(now, "frames of the room are missing");
        }
        if seq > self.last_seq {
            self.last_seq = seq;
            self.emit_frame(seq, own, object);
        }
        self.flush();
    }

    /// The server has dropped the next frames of the room on purpose. They are not asked for again.
    fn on_lagged(&mut self, missed: u64) {
        if self.phase != Phase::Online {
            return;
        }
        self.last_seq = self.last_seq.saturating_add(missed);
        // If the client itself drops frames, a replay is going to start before these.
        if !self.drops_frames {
            if let Some(position) = &mut self.position {
                position.seq = self.last_seq;
            }
            self.emit_unrecoverable(ClientEvent::Gap { missed: Some(missed) });
        }
        self.flush();
    }

    /// Emits the room's next frame, unless it is left to a replay.
    fn emit_frame(&mut self, seq: u64, own: bool, object: Map<String, Value>) {
        if self.drops_frames {
            return;
        }
        if let Some(position) = &mut self.position {
            position.seq = seq;
        }
        let variant = match object.get("event").and_then(Value::as_str) {
            Some("enter") => ClientEvent::Enter,
            Some("out") => ClientEvent::Out,
            _ => ClientEvent::Message,
        };
        self.outputs.push_back(Output::Emit(variant(RoomFrame::new(object, own))));
    }

    /// Emits an event that no replay contains.
    fn emit_unrecoverable(&mut self, event: ClientEvent) {
        if self.drops_frames {
            self.lost += 1;
        } else {
            self.outputs.push_back(Output::Emit(event));
        }
    }

    /// Sends as many messages as the server allows.
    pub(super) fn flush(&mut self) {
        let (Phase::Online, Some(welcome)) = (self.phase, &self.welcome) else { return };
        if self.last_seq < self.send_after {
            return;
        }
        // A limit of 0 would stop the client from ever sending.
        let window = welcome.window.clamp(1, MAX_WINDOW);
        while let Some(text) = self.outgoing.next(window) {
            let (bytes, max) = (text.len(), welcome.message_bytes);
            if bytes <= max {
                self.outputs.push_back(Output::Send(text.into()));
                self.outgoing.advance();
            } else if let Some(waiting) = self.outgoing.take_next() {
                self.outputs.push_back(Output::Resolve(waiting, Err(ClientError::TooBig { bytes, max })));
            }
        }
    }

    pub(super) fn send_frame(&mut self, frame: &Value) {
        self.outputs.push_back(Output::Send(frame.to_string()));
    }
}
