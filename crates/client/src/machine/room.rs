//! Handles the server's frames.

use serde_json::{Map, Value};

use super::membership::{Membership, Place};
use super::{Machine, Now, Output};
use crate::error::ClientError;
use crate::event::{ClientEvent, RoomFrame};
use crate::incoming::Incoming;

impl<T> Machine<T> {
    pub(crate) fn on_text(&mut self, now: Now, text: &str) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_open) else { return };
        link.liveness.receive(now);
        match Incoming::parse(text) {
            Incoming::Heartbeat => {
                link.liveness.receive_heartbeat(now);
                self.outputs.push_back(Output::Pong);
            }
            Incoming::Pong => {}
            Incoming::Welcome(welcome) => self.on_welcome(now, welcome),
            Incoming::Entered(entered) => self.on_entered(now, entered),
            Incoming::Ack { cid, seq } => self.on_acknowledged(now, &cid, seq),
            Incoming::Authenticated => self.on_authenticated(now),
            Incoming::Expiring(left) => self.on_expiring(now, left),
            Incoming::NoAuth { why, has_room } => self.on_no_auth(now, why, has_room),
            Incoming::Error(error) => self.on_error(now, error),
            Incoming::Lagged(missed) => self.on_lagged(now, missed),
            Incoming::Frame(object) => self.on_frame(now, object),
            Incoming::Unreadable { seq, why } => self.on_unreadable(now, seq, &why),
            Incoming::Malformed(event) => {
                let why = format!("a frame {event:?} of the protocol lacks a key");
                self.emit_error(ClientError::BadFrame(why));
            }
        }
    }

    /// Something was received that is not text.
    pub(crate) fn on_binary(&mut self, now: Now) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_open) else { return };
        link.liveness.receive(now);
        self.on_unreadable(now, None, "it is binary");
    }

    fn on_acknowledged(&mut self, now: Now, cid: &str, seq: u64) {
        if let Some(waiting) = self.outgoing.acknowledge(cid) {
            self.outputs.push_back(Output::Resolve(waiting, Ok(seq)));
            self.flush(now);
        }
    }

    fn on_frame(&mut self, now: Now, object: Map<String, Value>) {
        let Some(seq) = object.get("seq").and_then(Value::as_u64) else {
            return self.emit_unrecoverable(ClientEvent::Direct(RoomFrame::new(object, false, false)));
        };
        let Some(is_replayed) = self.receive_place(now, seq) else { return };
        let is_own = self.is_own(object.get("member"), is_replayed);
        if is_own && let Some(cid) = object.get("cid").and_then(Value::as_str) {
            self.on_acknowledged(now, cid, seq);
        }
        if self.advance(seq) {
            let frame = RoomFrame::new(object, is_own, is_replayed);
            self.emit(match frame.event() {
                "enter" => ClientEvent::Enter(frame),
                "out" => ClientEvent::Out(frame),
                _ => ClientEvent::Message(frame),
            });
        }
        self.start_sending(now);
    }

    /// Whether a frame of this member is the client's own. In a replay, it may be of an earlier membership.
    fn is_own(&self, member: Option<&Value>, is_replayed: bool) -> bool {
        let Some(member) = member.and_then(Value::as_str).filter(|member| !member.is_empty()) else {
            return false;
        };
        let mut latest_first = self.members.iter().rev();
        if is_replayed {
            latest_first.any(|own| **own == *member)
        } else {
            latest_first.next().is_some_and(|own| **own == *member)
        }
    }

    /// A frame that this client can't represent. If it is a frame of the room, it is missed.
    fn on_unreadable(&mut self, now: Now, seq: Option<u64>, why: &str) {
        self.emit_error(ClientError::BadFrame(format!("the server sent a frame that can't be read: {why}")));
        let missed = match seq {
            Some(seq) => self.receive_place(now, seq).map(|_| seq),
            None => self.membership().and_then(Membership::receive_unreadable),
        };
        if let Some(seq) = missed {
            self.miss(seq, 1);
            self.start_sending(now);
        }
    }

    /// The server has dropped the next frames of the room on purpose. The client does not request them again.
    fn on_lagged(&mut self, now: Now, missed: u64) {
        let Some(membership) = self.membership() else { return };
        membership.skip(missed);
        let last = membership.last();
        self.miss(last, missed);
        self.start_sending(now);
    }

    /// Gives a frame its place in the room. Returns whether it is part of the replay; `None` if it is to be ignored.
    fn receive_place(&mut self, now: Now, seq: u64) -> Option<bool> {
        let membership = self.membership()?;
        match membership.receive(seq) {
            Place::Old => None,
            Place::TooEarly => {
                self.reconnect(now, "frames of the room are missing");
                None
            }
            Place::Next { unread } => {
                let is_replayed = membership.is_replayed(seq);
                if unread > 0 {
                    self.miss(seq - 1, unread);
                }
                Some(is_replayed)
            }
        }
    }

    /// This many frames up to this one will not arrive.
    fn miss(&mut self, up_to: u64, missed: u64) {
        // If the client itself drops frames, a replay will start before these.
        if self.advance(up_to) {
            self.emit(ClientEvent::Gap { missed: Some(missed) });
        }
    }

    /// The application is told of the frames up to this one, unless they are to be replayed later.
    fn advance(&mut self, seq: u64) -> bool {
        let emits = !self.drops_frames();
        if emits && let Some(position) = &mut self.position {
            position.seq = seq;
        }
        emits
    }

    fn membership(&mut self) -> Option<&mut Membership> {
        self.link.as_mut()?.membership.as_mut()
    }
}
