//! The requests that the room policy decides on.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::inbound::message_of;

/// A request to enter a room.
pub struct EnterRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) from: Option<&'a RoomId>,
    pub(crate) body: Option<&'a str>,
    pub(crate) is_renewal: bool,
}

/// Leaves out the frame, which may hold a secret.
impl fmt::Debug for EnterRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnterRequest")
            .field("connection", &self.connection)
            .field("peer", &self.peer)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("room", &self.room)
            .field("from", &self.from)
            .field("is_renewal", &self.is_renewal)
            .finish_non_exhaustive()
    }
}

impl EnterRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// The enter frame, a JSON object, with all keys that the client has added. They are relayed to the room.
    /// `None` if the client is in the room already.
    pub fn body(&self) -> Option<&str> {
        self.body
    }

    /// The room that the client would leave: for a plain client, the one that it is in; in `chat-rooms.v1`, this room, if
    /// the client is in it under another name.
    pub fn from(&self) -> Option<&RoomId> {
        self.from
    }

    /// Whether the connection is a member already and has sent a new token or resumed its session. A refusal then
    /// removes it from the room.
    pub fn is_renewal(&self) -> bool {
        self.is_renewal
    }
}

/// A request to read what was published in a room before.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) last: Option<usize>,
}

impl ReadRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// How many messages the client has asked for, at most. `None` if it has asked for the frames after its position.
    pub fn last(&self) -> Option<usize> {
        self.last
    }
}

/// A message that a member wants to send to its room.
pub struct MessageRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) event: &'a str,
    pub(crate) body: &'a str,
}

impl MessageRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The sender's name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// The name of the event, usually `message`.
    pub fn event(&self) -> &str {
        self.event
    }

    /// The frame as the client sent it, a JSON object.
    pub fn body(&self) -> &str {
        self.body
    }

    /// The text of the message as its readers see it, without JSON's escapes. `None` if `message` is not a string.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        message_of(self.body)
    }
}

/// Leaves out the body, because messages may be confidential.
impl fmt::Debug for MessageRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRequest")
            .field("connection", &self.connection)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("room", &self.room)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// A message that a client wants to send to all sessions of a user.
pub struct DirectRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: &'a User,
    pub(crate) to: &'a str,
    pub(crate) cid: Option<&'a str>,
    pub(crate) body: &'a str,
}

impl DirectRequest<'_> {
    /// The sender's connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The sender's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The sender.
    pub fn user(&self) -> &User {
        self.user
    }

    /// The id of the recipient, as the client sent it. There may be no such user.
    pub fn to(&self) -> &str {
        self.to
    }

    /// The id that the client has given to the message.
    pub fn cid(&self) -> Option<&str> {
        self.cid
    }

    /// The frame as the client sent it, a JSON object, without the keys that only the server sets and without `to`.
    pub fn body(&self) -> &str {
        self.body
    }

    /// The text of the message as its readers see it, without JSON's escapes. `None` if `message` is not a string.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        message_of(self.body)
    }
}

/// Leaves out the body, because messages may be confidential.
impl fmt::Debug for DirectRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectRequest")
            .field("connection", &self.connection)
            .field("peer", &self.peer)
            .field("user", &self.user)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
