//! Sends messages and transient frames to rooms.

use std::sync::Arc;

use serde_json::{Value, json};
use tower_chat_rooms_protocol::close;

use super::context::Context;
use super::{Machine, Now, Output, RoomKey};
use crate::body::Body;
use crate::error::ClientError;
use crate::outgoing::{Message, Next, Recipient};

/// The event of a request for messages, and of its answer.
pub(super) const HISTORY: &str = "history";

impl<T> Machine<T> {
    /// Publishes an object in a room.
    pub(crate) fn publish(&mut self, now: Now, key: RoomKey, body: &Body, waiting: T) {
        self.send_to_room(now, key, waiting, |room, cid| (body.event().to_owned(), body.message(room, cid)));
    }

    /// Asks for messages of a room. The request waits and is sent again like a message, until it is answered, even by a
    /// refusal.
    pub(crate) fn read_history(&mut self, now: Now, key: RoomKey, mut keys: Value, waiting: T) {
        self.send_to_room(now, key, waiting, |room, cid| {
            keys["event"] = json!(HISTORY);
            keys["roomId"] = json!(room);
            keys["cid"] = json!(cid);
            (HISTORY.to_owned(), keys.to_string())
        });
    }

    /// `frame` returns the event and the text of a frame to this room with this `cid`.
    fn send_to_room(
        &mut self,
        now: Now,
        key: RoomKey,
        waiting: T,
        frame: impl FnOnce(&str, &str) -> (String, String),
    ) {
        self.cx.now = now;
        let refused = match (&self.ended, self.rooms.get(key)) {
            (Some(error), _) => Some(error.as_closed()),
            (None, None) => {
                Some(ClientError::Closed { code: close::NORMAL, reason: "the room was left".into() })
            }
            _ if self.cx.outgoing.unsent(key.into()) >= self.settings.max_unsent => {
                Some(ClientError::QueueFull)
            }
            _ => None,
        };
        if let Some(error) = refused {
            return self.cx.outputs.resolve(waiting, Err(error));
        }
        let Some(room) = self.rooms.get(key) else { return };
        let cid = self.cx.random.message_id();
        let (event, text) = frame(room.id(), &cid);
        self.cx.outgoing.push(key.into(), Message::new(&event, cid, text), waiting);
        self.flush();
    }

    /// Sends a direct message to a user.
    pub(crate) fn send_to_user(&mut self, now: Now, user: &str, body: &Body, waiting: T) {
        self.cx.now = now;
        let refused = match &self.ended {
            Some(error) => Some(error.as_closed()),
            None if self.cx.outgoing.unsent(Recipient::Users) >= self.settings.max_unsent => {
                Some(ClientError::QueueFull)
            }
            None => None,
        };
        if let Some(error) = refused {
            return self.cx.outputs.resolve(waiting, Err(error));
        }
        let cid = self.cx.random.message_id();
        let text = body.direct(user, &cid);
        self.cx.outgoing.push(Recipient::Users, Message::new(body.event(), cid, text), waiting);
        if self.is_idle() {
            self.connect();
        }
        self.start_directs();
    }

    /// Sends a transient frame to a room. Drops it if this is not possible now, or if messages have to be sent before it.
    pub(crate) fn send_transient(&mut self, now: Now, key: RoomKey, body: &Body) {
        self.cx.now = now;
        let Some(room) = self.rooms.get(key).filter(|room| room.is_in()) else { return };
        let Some(link) = &mut self.link else { return };
        if !self.cx.outgoing.is_waiting(key.into()) && self.cx.transients.send(body.event(), now) {
            link.count_frame();
            self.cx.outputs.push(Output::SendTransient(body.transient(room.id())));
        }
    }

    /// The transient events of the server on which a room was entered last.
    pub(crate) fn transient_events(&self) -> &Arc<[String]> {
        self.cx.transients.events()
    }

    /// Sends what is due, as far as the server allows it.
    pub(super) fn flush(&mut self) {
        self.send_requests();
        let Context { now, outgoing, outputs, .. } = &mut self.cx;
        let Some(link) = &mut self.link else { return };
        while let Some(next) = outgoing.next(*now, link.next_frame()) {
            match next {
                Next::Send(text) => {
                    link.count_frame();
                    outputs.push(Output::Send(text));
                }
                Next::TooBig { waiting, bytes, max } => {
                    outputs.resolve(waiting, Err(ClientError::TooBig { bytes, max }));
                }
                Next::Transient { waiting, event } => {
                    let why =
                        format!("the event {event:?} is transient on this server: use `send_transient`");
                    outputs.resolve(waiting, Err(ClientError::Value(why)));
                }
            }
        }
    }
}
