//! What the host sends to rooms and connections.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::broker::commands::Command;
use crate::chat_rooms::{ChatRooms, Sending};
use crate::config::Keep;
use crate::delivery::{Draft, Keeping, LiveRoom, NotPublished};
use crate::error::SendError;
use crate::hooks::message::Message;
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::host_frame::{self, HostFrame};
use crate::protocol::inbound::{self, Body};
use crate::protocol::position::{Epoch, Position};
use crate::protocol::receipt::Receipt;

/// The maximum length of a key of the host.
const MAX_KEY_BYTES: usize = 250;

impl ChatRooms {
    /// Sends a JSON object to all members of a room.
    ///
    /// All members receive it at the same place among the room's other frames. The object needs a string `event`. Its
    /// `num` is set to the number of members. You may set a `name`.
    ///
    /// You can call this from a callback, because you need not await the returned [`Sending`]. Await it to learn the id
    /// of the message:
    ///
    /// ```
    /// # async fn notify(rooms: tower_chat_rooms::ChatRooms) -> Result<(), tower_chat_rooms::SendError> {
    /// use serde_json::json;
    ///
    /// let sent = rooms.send("lobby", &json!({"event": "notice", "message": "We close at ten."}))?.await?;
    /// println!("sent as {:?}", sent.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the room has no members, if the value is not an object with an `event` or is too big, or if too many frames
    /// of the room are waiting ([`SendError::Busy`]).
    pub fn send(&self, room: impl AsRef<str>, value: &impl Serialize) -> Result<Sending, SendError> {
        self.send_with_key(room.as_ref(), None, value)
    }

    /// Sends a JSON object to all members of a room as [`send`](ChatRooms::send) does, but only once for each key. If
    /// you do not know whether an earlier call was successful, repeat it with the same key.
    ///
    /// The room remembers the last 128 keys, as long as it has members. A [store](crate::ChatRoomsBuilder::store) remembers
    /// the keys of all messages that it has. With a broker, keys are remembered for as long as the ids of clients'
    /// messages. For [transient events](crate::ChatRoomsBuilder::transient_events), the key has no effect.
    ///
    /// # Errors
    ///
    /// As [`send`](ChatRooms::send), or if the key has more than 250 bytes.
    pub fn send_once(
        &self,
        room: impl AsRef<str>,
        key: impl AsRef<str>,
        value: &impl Serialize,
    ) -> Result<Sending, SendError> {
        self.send_with_key(room.as_ref(), Some(key.as_ref()), value)
    }

    /// Returns the position of the latest frame of a room, or `None` if there is no such room. Later frames have higher
    /// positions, in the same epoch or in another one.
    ///
    /// With a broker, this is the latest position that this node knows, and it knows only the rooms in which it has
    /// members.
    pub fn position(&self, room: impl AsRef<str>) -> Option<Position> {
        self.engine.rooms.position(room.as_ref())
    }

    fn send_with_key(
        &self,
        room: &str,
        key: Option<&str>,
        value: &impl Serialize,
    ) -> Result<Sending, SendError> {
        let text = self.serialize(value)?;
        let body = Body::of_host(&text).ok_or(SendError::NotAnObject)?;
        if key.is_some_and(|key| key.len() > MAX_KEY_BYTES) {
            return Err(SendError::KeyTooLong);
        }
        if self.engine.rooms.is_remote() {
            return self.send_to_all_nodes(&RoomId::from(room), key, &text, &body);
        }
        let key = key.map(|key| format!("host:{key}"));
        let key = key.as_deref();
        let room = self.engine.rooms.get(room).filter(|room| room.has_members());
        let room = room.ok_or(SendError::NoSuchRoom)?;
        let frame = body.host_frame(room.id());
        let sent = match self.transient_event(&text) {
            Some(event) => {
                let sent = self.engine.rooms.send_transient(&room, &event, &frame);
                sent.map(|()| Sending::transient())
            }
            None => {
                let describe = |receipt| host_message(room.id(), receipt, &text);
                let keep = self.engine.config().keep.unwrap_or_default();
                match self.engine.rooms.publish(&room, key, keep, &frame, None, describe) {
                    Ok((receipt, calling)) => {
                        self.engine.rooms.call_for_host(calling);
                        Ok(Sending::sent(receipt))
                    }
                    Err(NotPublished::IsStored) => self.keep(&room, key, keep, &text).map(Sending::kept),
                    Err(error) => Err(error),
                }
            }
        };
        match sent {
            Ok(sending) => Ok(sending),
            Err(NotPublished::Closed) => Err(SendError::NoSuchRoom),
            // Only members can be read-only.
            Err(
                NotPublished::BatchFull
                | NotPublished::Held
                | NotPublished::InFlight
                | NotPublished::ReadOnly
                | NotPublished::IsStored
                | NotPublished::StoreFull
                | NotPublished::IsRemote,
            ) => Err(SendError::Busy),
        }
    }

    /// Sends a JSON object to one connection.
    ///
    /// The object needs a string `event` and is sent unchanged, with one exception: `chat-rooms.v1` clients get it
    /// without the key `direct`, which numbers [direct messages](ChatRooms::send_to_user). Do not use the key `seq`,
    /// because a `chat-rooms.v1` client would take the object for a frame of its room.
    ///
    /// If the connection breaks first, the client does not get the object. Use
    /// [`send_to_user`](ChatRooms::send_to_user) if it must get the object even after it has reconnected.
    ///
    /// # Errors
    ///
    /// If the connection is not open (even if its session is kept), or if the value is not an object with an `event`
    /// or is too big.
    pub fn send_to(&self, connection: ConnectionId, value: &impl Serialize) -> Result<(), SendError> {
        let object = &*self.serialize(value)?;
        if self.engine.send_to(connection, &HostFrame::new(object)) {
            return Ok(());
        }
        match self.engine.nodes() {
            Some(nodes) => {
                nodes.tell_others(Command::SendTo { connection, object });
                Ok(())
            }
            None => Err(SendError::NoSuchConnection),
        }
    }

    /// Sends a JSON object to every open connection, in a room or not, and returns the number of connections.
    ///
    /// The object needs a string `event` and is sent as by [`send_to`](ChatRooms::send_to). It has no defined place among
    /// the frames of a room.
    /// Other tasks can run between two sends.
    ///
    /// # Errors
    ///
    /// If the value is not an object with an `event`, or is too big.
    pub async fn broadcast(&self, value: &impl Serialize) -> Result<usize, SendError> {
        let object = &*self.serialize(value)?;
        self.engine.tell_others(Command::Broadcast { object });
        Ok(self.engine.broadcast(&HostFrame::new(object)).await)
    }

    /// Has a message stored and sent to the members of a room.
    fn keep(
        &self,
        room: &Arc<LiveRoom>,
        key: Option<&str>,
        keep: Keep,
        text: &str,
    ) -> Result<Keeping, NotPublished> {
        let draft = self.draft(room.id(), key, text).ok_or(NotPublished::Closed)?;
        self.engine.rooms.keep(room, keep, draft)
    }

    fn draft(&self, room: &RoomId, key: Option<&str>, text: &str) -> Option<Draft> {
        let body = Body::of_host(text)?;
        // Until it is published, it has no place.
        let position = self.engine.rooms.position(room.as_str());
        let position = position.unwrap_or(Position { epoch: Epoch(0), seq: 0 });
        let message = host_message(room, Receipt { position, id: MessageId::ZERO }, text);
        Some(Draft::new(body, Box::default(), key.map(str::to_owned), message))
    }

    /// Sends a frame to the members of a room on all nodes.
    fn send_to_all_nodes(
        &self,
        room: &RoomId,
        key: Option<&str>,
        text: &str,
        body: &Body<'_>,
    ) -> Result<Sending, SendError> {
        let frame = body.host_frame(room);
        let (id, body) = (room.clone(), text.to_owned());
        let describe = move |receipt| host_message(&id, receipt, &body);
        let rooms = &self.engine.rooms;
        match self.transient_event(text) {
            Some(event) => {
                rooms.send_transient_for_host(room, &event, &frame);
                Ok(Sending::transient())
            }
            None if rooms.is_hook_late(room.as_str()) => Err(SendError::Busy),
            None => {
                let keep = self.engine.config().keep.unwrap_or_default();
                let store_key = key.map(|key| format!("host:{key}"));
                let has_store = rooms.has_store();
                let draft = if has_store { self.draft(room, store_key.as_deref(), text) } else { None };
                let draft = draft.map(|draft| (keep, draft));
                let sent = rooms.submit_for_host(room, key, &frame, draft, describe);
                sent.map(Sending::submitted).map_err(|_| SendError::Busy)
            }
        }
    }

    /// The event of a frame, if the event is transient.
    fn transient_event<'a>(&self, frame: &'a str) -> Option<Cow<'a, str>> {
        let events = &self.engine.config().events;
        if events.transient.is_empty() {
            return None;
        }
        inbound::event_of(frame).filter(|event| events.is_transient(event))
    }

    pub(super) fn serialize(&self, value: &impl Serialize) -> Result<String, SendError> {
        let text = host_frame::serialize(value)?;
        if self.engine.config().limits.is_too_big(text.len()) {
            return Err(SendError::TooBig);
        }
        Ok(text)
    }
}

/// What the host is told of its own message.
fn host_message(room: &RoomId, receipt: Receipt, body: &str) -> Message {
    let Receipt { position, id } = receipt;
    Message {
        room: room.clone(),
        id,
        position,
        time: id.time(),
        cid: None,
        sender: None,
        event: inbound::event_of(body).unwrap_or_default().into_owned(),
        body: body.to_owned(),
    }
}
