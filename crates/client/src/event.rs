//! What a client reports to its application.

use serde_json::{Map, Value};

/// An event of a [`Client`](crate::Client).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The client's state has changed.
    State(ClientState),
    /// The client has entered its room, for the first time or after a lost connection.
    #[non_exhaustive]
    Entered {
        /// The client's name in the room. Some servers assign another than the one asked for.
        name: String,
        /// The client's member id, which is in every frame from it. It stays the same when the
        /// session is resumed.
        member: String,
        /// Number of members in the room.
        num: u64,
        /// The session was resumed: no other member has noticed the lost connection.
        resumed: bool,
        /// All missed frames follow. If `false` after a lost connection, a
        /// [`Gap`](ClientEvent::Gap) follows where frames may have been missed.
        recovered: bool,
    },
    /// A member has entered the room.
    Enter(RoomFrame),
    /// A member has left the room.
    Out(RoomFrame),
    /// A message was published in the room. [`RoomFrame::event`] is its event name.
    Message(RoomFrame),
    /// The host has sent a frame to this client only. It is not part of the room log.
    Direct(RoomFrame),
    /// Frames of the room were missed and can't be recovered.
    #[non_exhaustive]
    Gap {
        /// How many; `None` if unknown, as after a restart of the server.
        missed: Option<u64>,
    },
    /// The application took no events for too long, and some that can't be recovered were
    /// dropped: direct frames, errors and, after many lost connections, states and gaps.
    #[non_exhaustive]
    Overflow {
        /// How many were dropped.
        lost: u64,
    },
    /// The server reported an error that does not concern a [`send`](crate::ClientSender::send).
    #[non_exhaustive]
    Error {
        /// The code, one of the server's [`ErrorCode`]s.
        ///
        /// [`ErrorCode`]: https://docs.rs/tower-chat-rooms/latest/tower_chat_rooms/enum.ErrorCode.html
        code: String,
        /// A description for people.
        message: String,
    },
    /// The client is closed for good. This is the last event.
    #[non_exhaustive]
    Closed {
        /// The close code: 1000 if the client left, or was not allowed to enter its room.
        code: u16,
        /// The reason.
        reason: String,
    },
}

/// The state of a [`Client`](crate::Client).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientState {
    /// It is in its room.
    Online,
    /// It has lost its connection and is reconnecting. Messages wait to be sent.
    Reconnecting,
    /// It is closed for good.
    Closed,
}

/// A JSON object sent by the room or the host.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomFrame {
    object: Map<String, Value>,
    own: bool,
}

impl RoomFrame {
    pub(crate) fn new(object: Map<String, Value>, own: bool) -> RoomFrame {
        RoomFrame { object, own }
    }

    /// The event's name, usually `message`.
    pub fn event(&self) -> &str {
        self.text("event").unwrap_or_default()
    }

    /// The member that published it, entered or left; `None` if the host sent it.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// The message; `null` if there is none.
    pub fn message(&self) -> &Value {
        self.object.get("message").unwrap_or(&Value::Null)
    }

    /// Number of members in the room.
    pub fn num(&self) -> Option<u64> {
        self.object.get("num")?.as_u64()
    }

    /// The id of the member that it is from; `None` if the host sent it.
    pub fn member(&self) -> Option<&str> {
        self.text("member")
    }

    /// The sequence number in the room log; `None` for a frame sent to this client only.
    pub fn seq(&self) -> Option<u64> {
        self.object.get("seq")?.as_u64()
    }

    /// Whether the frame is from this client, be it from an earlier session.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The whole object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Converts the frame into the whole object.
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.object.get(key)?.as_str()
    }
}
