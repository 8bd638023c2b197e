//! What a client tells its application.

use serde_json::{Map, Value};

/// Something that a [`Client`](crate::Client) tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The client is in this state now.
    State(ClientState),
    /// The client is in its room, for the first time or again.
    #[non_exhaustive]
    Entered {
        /// The name under which it is there; with some servers not the one it asked for.
        name: String,
        /// The id of its seat in the room, which a resumption keeps.
        connection: String,
        /// Members of the room.
        num: u64,
        /// Its seat was kept, and nobody has noticed that it was away.
        resumed: bool,
        /// All that was missed follows. With `false`, on coming back, a
        /// [`Gap`](ClientEvent::Gap) is told of where something may have been missed.
        recovered: bool,
    },
    /// Somebody has entered the room.
    Enter(RoomFrame),
    /// Somebody has left the room.
    Out(RoomFrame),
    /// Somebody has said something in the room: [`RoomFrame::event`] tells what.
    Message(RoomFrame),
    /// The host has said something to this connection alone, beside the room's order.
    Direct(RoomFrame),
    /// Frames of the room were missed and can't be had any more.
    #[non_exhaustive]
    Gap {
        /// How many; `None` where nobody knows, as after a restart of the server.
        missed: Option<u64>,
    },
    /// The application has taken no events for too long, and some that can't be had again were
    /// dropped: what the host said to this connection alone, errors, and, after many lost
    /// connections, states and gaps.
    #[non_exhaustive]
    Overflow {
        /// How many were dropped.
        lost: u64,
    },
    /// The server complained about something that no [`send`](crate::ClientSender::send) is
    /// waiting for.
    #[non_exhaustive]
    Error {
        /// The code, one of the server's [`ErrorCode`]s.
        ///
        /// [`ErrorCode`]: https://docs.rs/tower-chat-rooms/latest/tower_chat_rooms/enum.ErrorCode.html
        code: String,
        /// A text for people.
        message: String,
    },
    /// The client is closed for good. The last event.
    #[non_exhaustive]
    Closed {
        /// The close code: 1000 where the client itself left, or was refused in its room.
        code: u16,
        /// Why.
        reason: String,
    },
}

/// What a [`Client`](crate::Client) is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientState {
    /// It is in its room.
    Online,
    /// It has lost its connection and is coming back. What is sent now waits.
    Reconnecting,
    /// It is closed for good.
    Closed,
}

/// A JSON object that came from the room or the host.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomFrame {
    object: Map<String, Value>,
    own: bool,
}

impl RoomFrame {
    pub(crate) fn new(object: Map<String, Value>, own: bool) -> RoomFrame {
        RoomFrame { object, own }
    }

    /// The event's name, mostly `message`.
    pub fn event(&self) -> &str {
        self.text("event").unwrap_or_default()
    }

    /// Who said it, entered or left; `None` where the host spoke for nobody.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// What was said.
    pub fn message(&self) -> &Value {
        self.object.get("message").unwrap_or(&Value::Null)
    }

    /// Members of the room.
    pub fn num(&self) -> Option<u64> {
        self.object.get("num")?.as_u64()
    }

    /// The place among the room's frames; `None` for what the host said to this connection.
    pub fn seq(&self) -> Option<u64> {
        self.object.get("seq")?.as_u64()
    }

    /// Whether this client has said it, or it is its own enter.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The whole object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The whole object, to keep.
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.object.get(key)?.as_str()
    }
}
