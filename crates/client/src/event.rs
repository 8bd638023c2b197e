//! What a client reports to its application.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tower_chat_rooms_protocol::{MESSAGE_ID_COUNTER_BITS, MESSAGE_ID_START};

use crate::error::ClientError;
use crate::presence::Presence;

/// An event of a [`Client`](crate::Client).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The client's state has changed.
    State(ClientState),
    /// The client has entered its room, for the first time or after a lost connection.
    #[non_exhaustive]
    Entered {
        /// The client's name in the room. Some servers assign another name than the requested one.
        name: String,
        /// The id of this member. It stays the same when the session is resumed.
        member: String,
        /// Number of members in the room.
        num: u64,
        /// The session was resumed: no other member has noticed the lost connection.
        resumed: bool,
        /// Whether all missed frames follow or, after a restart of a server with a message store, all missed messages. If
        /// `false` after a lost connection, a [`Gap`](ClientEvent::Gap) reports any missed frames, followed by those that
        /// the server still has.
        recovered: bool,
    },
    /// What the client knows about the members of the room has changed. If the application has not taken earlier
    /// changes yet, it gets only the latest one.
    Presence(Presence),
    /// The host lets this member only read from now on, or write again: see
    /// [`is_read_only`](crate::Client::is_read_only).
    ReadOnly(bool),
    /// A member has entered the room.
    Enter(RoomFrame),
    /// A member has left the room.
    Out(RoomFrame),
    /// A message was published in the room. [`RoomFrame::event`] is its event name.
    Message(RoomFrame),
    /// A member or the host has published a transient event, such as that somebody is typing. It is not part of the
    /// room log, and may get lost.
    Transient(RoomFrame),
    /// The host has sent a frame to this connection only or to its user, or another user has sent a
    /// [direct message](crate::ClientSender::send_to_user). It is not part of the room log, even if it has a `roomId`. A
    /// client of a [`Chat`](crate::Chat) does not get it: see [`ChatEvent::Direct`].
    Direct(RoomFrame),
    /// Frames to this user were missed and can't be recovered: see [`ChatEvent::DirectGap`].
    #[non_exhaustive]
    DirectGap {
        /// How many; `None` if unknown.
        missed: Option<u64>,
    },
    /// Frames of the room were missed and can't be recovered.
    #[non_exhaustive]
    Gap {
        /// How many; `None` if unknown, for example after a restart of the server.
        missed: Option<u64>,
    },
    /// The application took no events for too long, and some that can't be recovered were
    /// dropped: direct frames, messages of the history, errors and, after many lost connections, states and gaps.
    #[non_exhaustive]
    Overflow {
        /// How many were dropped.
        lost: u64,
    },
    /// Something went wrong that does not concern a [`send`](crate::ClientSender::send) and changes no state.
    ///
    /// The server reports an error ([`Refused`](ClientError::Refused)), sends something that can't be read
    /// ([`BadFrame`](ClientError::BadFrame)) or refuses a renewed token ([`NoAuth`](ClientError::NoAuth)), or the
    /// token function fails ([`Token`](ClientError::Token)). A client of a [`Chat`](crate::Chat) only gets the errors that
    /// concern its room: see [`ChatEvent::Error`].
    Error(ClientError),
}

/// An event of a [`Chat`](crate::Chat): something that concerns its connection, and not one of its rooms.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The state of the connection has changed.
    State(ChatState),
    /// The host has sent a frame to this connection only or to its user, or another user has sent a
    /// [direct message](crate::ChatHandle::send_to_user). It is not part of a room log, even if it has a `roomId`.
    ///
    /// Frames to the user arrive once and in order, even after a lost connection if the session is resumed.
    Direct(RoomFrame),
    /// Frames to this user were missed and can't be recovered. If you store them on the server, fetch what is new.
    #[non_exhaustive]
    DirectGap {
        /// How many; `None` if unknown, because the session could not be resumed after a lost connection. In that case,
        /// it is possible that none were missed. If the session was resumed on another of several nodes, this is 1,
        /// however many were missed, and even if none were.
        missed: Option<u64>,
    },
    /// The application took no events for too long, and some were dropped.
    #[non_exhaustive]
    Overflow {
        /// How many were dropped.
        lost: u64,
    },
    /// Something went wrong that concerns neither a room nor a [`send`](crate::ClientSender::send), as for
    /// [`ClientEvent::Error`]. If the server requires another token, the rooms are
    /// [`Outside`](ClientState::Outside) meanwhile.
    Error(ClientError),
}

impl ChatEvent {
    /// The same event of a client in one room, whose state is that of the room.
    pub(crate) fn of_room(self) -> Option<ClientEvent> {
        match self {
            ChatEvent::State(_) => None,
            ChatEvent::Direct(frame) => Some(ClientEvent::Direct(frame)),
            ChatEvent::DirectGap { missed } => Some(ClientEvent::DirectGap { missed }),
            ChatEvent::Overflow { lost } => Some(ClientEvent::Overflow { lost }),
            ChatEvent::Error(error) => Some(ClientEvent::Error(error)),
        }
    }
}

/// The state of a [`Chat`](crate::Chat)'s connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatState {
    /// It is connected.
    Online,
    /// The server has closed the connection, because the chat was in no room. [`Chat::join`](crate::Chat::join)
    /// connects again.
    Idle,
    /// It has no connection, and is reconnecting.
    #[non_exhaustive]
    Reconnecting {
        /// Why the last connection was lost, or the last attempt failed.
        reason: ClientError,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// It is closed for good, and so are its rooms. This is the last event.
    #[non_exhaustive]
    Closed {
        /// Why: [`Closed`](ClientError::Closed) with code 1000 if the application closed it.
        reason: ClientError,
    },
}

/// A position in a room log: the last frame that a client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    epoch: Arc<str>,
    seq: u64,
}

impl Position {
    pub(crate) fn new(epoch: Arc<str>, seq: u64) -> Position {
        Position { epoch, seq }
    }

    /// Which numbers these are. It changes whenever the room is created anew.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The sequence number of the frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn advance(&mut self, seq: u64) {
        self.seq = seq;
    }
}

/// The state of a [`Client`](crate::Client), which is that of its room.
///
/// A state may be reported again with another reason, for example when a further attempt to connect fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientState {
    /// It is in its room.
    Online,
    /// It is connected, but not in its room: it was removed from the room, was refused, or has to authenticate again.
    /// Messages wait to be sent.
    #[non_exhaustive]
    Outside {
        /// Why.
        reason: ClientError,
        /// When it enters again by itself. `None` if it waits for a token, or for
        /// [`ClientSender::enter`](crate::ClientSender::enter).
        retry_in: Option<Duration>,
    },
    /// It has no connection, and is reconnecting. Messages wait to be sent.
    #[non_exhaustive]
    Reconnecting {
        /// Why the last connection was lost, or the last attempt failed.
        reason: ClientError,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// It is closed for good: the connection, or the room. This is the last event.
    #[non_exhaustive]
    Closed {
        /// Why: [`Closed`](ClientError::Closed) with code 1000 if the application left.
        reason: ClientError,
    },
}

/// A JSON object sent by the room or the host.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomFrame {
    object: Map<String, Value>,
    is_own: bool,
    is_replayed: bool,
    is_history: bool,
    /// It comes from the server's store, and has no `seq`.
    is_stored: bool,
}

impl RoomFrame {
    pub(crate) fn new(object: Map<String, Value>, is_own: bool) -> RoomFrame {
        RoomFrame { object, is_own, is_replayed: false, is_history: false, is_stored: false }
    }

    pub(crate) fn of_store(self) -> RoomFrame {
        RoomFrame { is_stored: true, ..self }
    }

    pub(crate) fn replayed(self, is_replayed: bool) -> RoomFrame {
        RoomFrame { is_replayed, ..self }
    }

    pub(crate) fn of_history(self) -> RoomFrame {
        RoomFrame { is_history: true, ..self }
    }

    /// The event's name, usually `message`; empty if the host sent an object without one.
    pub fn event(&self) -> &str {
        self.text("event").unwrap_or_default()
    }

    /// The name of the member that published the frame, entered or left, or of the user that sent a direct message.
    /// `None` if the host sent the frame, or if the user has no name of its own.
    pub fn name(&self) -> Option<&str> {
        if self.event() == "direct" { self.from()?.get("name")?.as_str() } else { self.text("name") }
    }

    /// The id of the user that sent a direct message or entered; `None` for all other frames, and for anonymous members.
    pub fn user(&self) -> Option<&str> {
        match self.event() {
            "direct" => self.from()?.get("user")?.as_str(),
            "enter" => self.text("user"),
            _ => None,
        }
    }

    /// The id of that member, unique in the room; `None` if the host sent it.
    pub fn member(&self) -> Option<&str> {
        self.text("member")
    }

    /// The message; `null` if there is none.
    pub fn message(&self) -> &Value {
        self.object.get("message").unwrap_or(&Value::Null)
    }

    /// Number of members in the room.
    pub fn num(&self) -> Option<u64> {
        self.object.get("num")?.as_u64()
    }

    /// The sequence number in the room log; `None` for a frame sent to this client only.
    pub fn seq(&self) -> Option<u64> {
        self.object.get("seq")?.as_u64()
    }

    /// The id of a message, which rises in the order of the room and is never used again, not even after a restart of the
    /// server. `None` for other frames.
    pub fn id(&self) -> Option<u64> {
        self.object.get("id")?.as_u64().filter(|_| self.is_stored || self.seq().is_some())
    }

    /// The server's time when the message was published, to the millisecond. It is part of the [`id`](RoomFrame::id).
    pub fn time(&self) -> Option<SystemTime> {
        let since_start = Duration::from_millis(self.id()? >> MESSAGE_ID_COUNTER_BITS);
        SystemTime::UNIX_EPOCH.checked_add(MESSAGE_ID_START + since_start)
    }

    /// Whether this client published it, or it is this client's own enter or out.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether it was missed while the connection was lost.
    pub fn is_replayed(&self) -> bool {
        self.is_replayed
    }

    /// Whether it was published before the client entered the room for the first time, and is one of the latest messages
    /// that it has asked for then: see [`history`](crate::ClientBuilder::history).
    pub fn is_history(&self) -> bool {
        self.is_history
    }

    /// The whole object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Converts the frame into the whole object.
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }

    fn from(&self) -> Option<&Map<String, Value>> {
        self.object.get("from")?.as_object()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.object.get(key)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(object: Value) -> RoomFrame {
        RoomFrame::new(object.as_object().cloned().unwrap_or_default(), false)
    }

    #[test]
    fn a_message_has_an_id_with_its_time() {
        let message =
            frame(serde_json::json!({"event": "message", "id": (86_400_000_u64 << 12) + 7, "seq": 3}));
        assert_eq!(message.id(), Some((86_400_000 << 12) + 7));
        let second_of_january = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800 + 86_400);
        assert_eq!(message.time(), Some(second_of_january));
        // Without a `seq`, it is a key of the host.
        let direct = frame(serde_json::json!({"event": "notice", "id": 7}));
        assert_eq!((direct.id(), direct.time()), (None, None));
    }
}
