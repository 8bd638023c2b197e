//! What the server says, and what is said to it.

use serde_json::{Map, Value, json};
use tower_chat_rooms_protocol::{MAX_RESUME_TOKENS, close};

use super::{FOR_GOOD, MAX_WINDOW, Machine, Now, Output, Phase, Position, UNREADABLE};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState, RoomFrame};
use crate::incoming::{Entered, Incoming, Welcome};

impl<T> Machine<T> {
    pub(crate) fn on_text(&mut self, now: Now, text: &str) {
        if !matches!(self.phase, Phase::Greeted(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        self.last_heard = now;
        match Incoming::parse(text) {
            None => tracing::debug!("the server sent a frame that makes no sense"),
            Some(Incoming::Heartbeat) => self.outputs.push_back(Output::Pong),
            Some(Incoming::Welcome(welcome)) => self.on_welcome(now, welcome),
            Some(Incoming::Entered(entered)) => self.on_entered(now, entered),
            Some(Incoming::Ack { cid, seq }) => {
                if let Some(waiting) = self.outgoing.settle(&cid) {
                    self.outputs.push_back(Output::Settle(waiting, Ok(seq)));
                    self.outgoing.expect(cid);
                    self.flush();
                }
            }
            Some(Incoming::NoAuth(reason)) => {
                self.refuse_token(now, reason);
            }
            Some(Incoming::Error { code, message, cid }) => self.on_error(now, code, message, cid),
            Some(Incoming::Lagged(missed)) => self.on_lagged(missed),
            Some(Incoming::Said(object)) => self.on_said(now, object),
        }
    }

    fn on_welcome(&mut self, now: Now, welcome: Welcome) {
        let Phase::Greeted(_) = self.phase else { return };
        let mut enter = json!({"event": "enter", "message": self.plan.name, "roomId": self.plan.room});
        if let Some(position) = &self.position {
            enter["since"] = json!({"epoch": position.epoch, "seq": position.seq});
        }
        if !self.secrets.is_empty() {
            enter["resume"] = json!(self.secrets);
        }
        self.send_frame(&enter);
        // Whether the server hears of it or not, the seat may be this connection's from now on.
        if let Some(secret) = &welcome.resume {
            // The first is that of the last connection which is known to have had the seat: the best
            // there is, if none of the enters since has arrived. Otherwise one of the latest has it.
            if self.secrets.len() == MAX_RESUME_TOKENS {
                self.secrets.remove(1);
            }
            self.secrets.push(secret.clone());
        }
        self.welcome = Some(welcome);
        self.phase = Phase::Entering(self.step_end(now));
    }

    fn on_entered(&mut self, now: Now, entered: Entered) {
        let (Phase::Entering(_), Some(welcome)) = (self.phase, &self.welcome) else { return };
        self.secrets = welcome.resume.iter().cloned().collect();
        self.phase = Phase::Online;
        self.was_online = true;
        self.online_since = now;
        self.refusals = 0;
        let Entered { name, connection, epoch, seq, num, resumed, recovered } = entered;
        self.entered = (seq, resumed);
        // A seat that came of an enter whose answer was lost is not the one of before.
        let same_room = self.position.as_ref().is_some_and(|position| position.epoch == epoch);
        let resumed = resumed && same_room && connection == self.seat;
        self.seat.clone_from(&connection);
        self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Online)));
        let told = ClientEvent::Entered { name, connection, num, resumed, recovered };
        self.outputs.push_back(Output::Tell(told));
        match &self.position {
            Some(position) if recovered => self.heard = position.seq,
            before => {
                let missed = match before {
                    None => Some(0),
                    Some(before) if before.epoch == epoch => seq.checked_sub(before.seq),
                    Some(_) => None,
                };
                if missed != Some(0) {
                    self.outputs.push_back(Output::Tell(ClientEvent::Gap { missed }));
                }
                self.heard = seq;
                self.position = Some(Position { epoch, seq });
            }
        }
        // A seat that was kept knows the cids of before. Another one doesn't: what the room has of
        // ours is in the replay, which must be heard to its end, be it on a later connection.
        if !(resumed && recovered) {
            self.hold = seq;
        }
        self.flush();
    }

    fn on_error(&mut self, now: Now, code: String, message: String, cid: Option<String>) {
        let refused = match cid {
            Some(cid) => self.outgoing.settle(&cid),
            // Frames are answered in order, and messages are all that can't be read.
            None if UNREADABLE.contains(&&*code) => self.outgoing.settle_oldest(),
            None => None,
        };
        if let Some(waiting) = refused {
            self.outputs.push_back(Output::Settle(waiting, Err(ClientError::Refused { code, message })));
            return self.flush();
        }
        match self.phase {
            Phase::Entering(_) if !self.was_online || FOR_GOOD.contains(&&*code) => {
                self.outputs.push_back(Output::Close(close::NORMAL));
                self.end(ClientError::Refused { code, message });
            }
            Phase::Entering(_) => self.come_back(now, &message),
            _ => self.tell_once(ClientEvent::Error { code, message }),
        }
    }

    fn on_said(&mut self, now: Now, object: Map<String, Value>) {
        let Some(seq) = object.get("seq").and_then(Value::as_u64) else {
            return self.tell_once(ClientEvent::Direct(RoomFrame::new(object, false)));
        };
        if self.phase != Phase::Online {
            return;
        }
        let mut own = false;
        if let Some(cid) = object.get("cid").and_then(Value::as_str) {
            own = self.outgoing.recognize(cid);
            if let Some(waiting) = self.outgoing.settle(cid) {
                own = true;
                self.outputs.push_back(Output::Settle(waiting, Ok(seq)));
            }
        }
        if seq > self.heard.saturating_add(1) {
            return self.come_back(now, "frames of the room are missing");
        }
        if seq > self.heard {
            self.heard = seq;
            self.tell_frame(seq, own, object);
        }
        self.flush();
    }

    /// The next frames of the room don't come. The server has chosen so; it is not asked for them.
    fn on_lagged(&mut self, missed: u64) {
        if self.phase != Phase::Online {
            return;
        }
        self.heard = self.heard.saturating_add(missed);
        // Where events were dropped here, a replay from before is still to come.
        if !self.overrun {
            if let Some(position) = &mut self.position {
                position.seq = self.heard;
            }
            self.tell_once(ClientEvent::Gap { missed: Some(missed) });
        }
        self.flush();
    }

    /// Tells of the room's next frame, unless it is left to a replay.
    fn tell_frame(&mut self, seq: u64, own: bool, object: Map<String, Value>) {
        if self.overrun {
            return;
        }
        if let Some(position) = &mut self.position {
            position.seq = seq;
        }
        let event = match object.get("event").and_then(Value::as_str) {
            // Who has entered anew finds its own enter right behind the place where it entered.
            Some("enter") => ClientEvent::Enter(RoomFrame::new(object, self.entered == (seq - 1, false))),
            Some("out") => ClientEvent::Out(RoomFrame::new(object, false)),
            _ => ClientEvent::Message(RoomFrame::new(object, own)),
        };
        self.outputs.push_back(Output::Tell(event));
    }

    /// Tells of what is in no replay.
    fn tell_once(&mut self, event: ClientEvent) {
        if self.overrun {
            self.lost += 1;
        } else {
            self.outputs.push_back(Output::Tell(event));
        }
    }

    /// Sends what may be sent.
    pub(super) fn flush(&mut self) {
        let (Phase::Online, Some(welcome)) = (self.phase, &self.welcome) else { return };
        if self.heard < self.hold {
            return;
        }
        // A window of none would be the end of all sending.
        let window = welcome.window.clamp(1, MAX_WINDOW);
        while let Some(text) = self.outgoing.next(window) {
            let (bytes, max) = (text.len(), welcome.message_bytes);
            if bytes <= max {
                self.outputs.push_back(Output::Send(text.into()));
                self.outgoing.advance();
            } else if let Some(waiting) = self.outgoing.refuse() {
                self.outputs.push_back(Output::Settle(waiting, Err(ClientError::TooBig { bytes, max })));
            }
        }
    }

    pub(super) fn send_frame(&mut self, frame: &Value) {
        self.outputs.push_back(Output::Send(frame.to_string()));
    }
}
