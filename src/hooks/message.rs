//! The report of a message to the host.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::hooks::user::User;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::position::Position;

/// A message was sent to a room.
#[derive(Clone)]
#[non_exhaustive]
pub struct Message {
    /// The room.
    pub room: RoomId,
    /// The id. It is the same on all nodes that share a [broker](crate::ChatRoomsBuilder::broker).
    pub id: MessageId,
    /// The position among the frames of the room.
    pub position: Position,
    /// The time when it was published, to the millisecond. See [`MessageId::time`].
    pub time: SystemTime,
    /// The client's own id for the message, if it has one. It is unguessable, so no other client can use it.
    pub cid: Option<String>,
    /// The member that has sent it, or `None` if the host has sent it.
    pub sender: Option<Sender>,
    /// The name of the event, usually `message`.
    pub event: String,
    /// The frame, a JSON object, as the sender sent it or as the policy replaced it.
    pub body: String,
}

/// The member that has sent a message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sender {
    /// The member's connection.
    pub connection: ConnectionId,
    /// The member's name in the room.
    pub name: Name,
    /// The user, if authenticated.
    pub user: Option<Arc<User>>,
}

/// Messages may be confidential, so the body is not shown.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("room", &self.room)
            .field("id", &self.id)
            .field("position", &self.position)
            .field("sender", &self.sender)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}
