//! What a node answers to its host. These types are only data.

use crate::member::Profile;
use crate::stamp::{Epoch, Stamp};

/// The answer to [`Node::publish`](crate::Node::publish).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Published {
    /// The event's position in the room.
    pub stamp: Stamp,
    /// The id of the message, as in [`RoomEvent::id`](crate::RoomEvent::id).
    pub id: u64,
    /// Whether a message with this key was published before. The stamp and the id are those of the first one.
    pub is_repeat: bool,
}

/// What a node has done since it connected. See [`Node::stats`](crate::Node::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Connections to Redis that were opened again.
    pub reconnects: u64,
    /// Messages that arrived in channels: events of rooms, transient bodies and commands.
    pub events: u64,
    /// As [`Node::dropped_messages`](crate::Node::dropped_messages).
    pub dropped_messages: u64,
    /// Members of lost nodes that this node has removed.
    pub lost_members: u64,
    /// Bodies that are being published now, or that wait for Redis.
    pub waiting_calls: usize,
}

/// A member in a [`Roster`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RosterEntry {
    /// The member.
    pub member: Box<str>,
    /// What the other members may know about it.
    pub profile: Profile,
    /// Its place in the order in which the room's members entered, for the `after` of
    /// [`Node::roster`](crate::Node::roster).
    pub place: u64,
    /// The event with which it entered.
    pub event: u64,
    /// The epoch of that event, which may be an earlier one.
    pub epoch: Epoch,
    /// Whether it is [hidden](crate::NewMember::hidden).
    pub is_hidden: bool,
}

/// A page of the members of a room, in the order in which they entered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Roster {
    /// The room's position; `None` if the room has no members.
    pub stamp: Option<Stamp>,
    /// The members.
    pub members: Vec<RosterEntry>,
}

/// A room with its members on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomCount {
    /// The room.
    pub room: String,
    /// As [`Stamp::num`].
    pub num: u64,
}

/// Where a room is. See [`Node::place`](crate::Node::place).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomPlace {
    /// Its epoch and the number of its latest frame; `None` if the room has no members.
    pub position: Option<(Epoch, u64)>,
    /// The messages of batches with ids up to this one are published. `None` if the room has had no batch lately.
    pub published: Option<u64>,
    /// The messages of batches with ids up to the asked one that were published after others with higher ids, so that a client
    /// may have missed them. `None` if they are not known.
    pub late: Option<Vec<u64>>,
}
