//! The events that a node receives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::member::Profile;
use crate::session::Resumed;
use crate::stamp::{EventKind, Stamp};

/// An event that a node receives. See [`Events::recv`](crate::Events::recv).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next event of a room in which this node has members.
    Room(RoomEvent),
    /// A body that is not in the room's log.
    Transient {
        /// The room.
        room: Arc<str>,
        /// What [`Node::send_transient`](crate::Node::send_transient) was called with.
        body: Bytes,
    },
    /// Events of a room are missing or void. The next event of the room follows from `stamp`.
    Reset {
        /// The room.
        room: Arc<str>,
        /// The room's current position.
        stamp: Stamp,
        /// Why the events are missing.
        reason: ResetReason,
    },
    /// All nodes must remove their members from a room, because of [`Node::close_room`](crate::Node::close_room).
    CloseRoom {
        /// The room.
        room: Arc<str>,
    },
    /// A body for this node or for all nodes.
    Command {
        /// What [`Node::send_to_all`](crate::Node::send_to_all) or [`Node::send_to_node`](crate::Node::send_to_node)
        /// was called with.
        body: Bytes,
    },
    /// This node has removed a member of a node that is gone. Exactly one node gets this for each such member, unless
    /// that node ends or loses its connection to Redis at that moment.
    MemberLost {
        /// The room.
        room: Arc<str>,
        /// The member.
        member: Box<str>,
        /// What the other members knew about it.
        profile: Profile,
        /// Whether it was not in the roster.
        is_hidden: bool,
        /// The stamp of the member's leave.
        stamp: Stamp,
    },
    /// This node has taken over a session with [`Node::resume`](crate::Node::resume). If it did not receive the events
    /// of the session's rooms before, these events follow.
    SessionResumed(Resumed),
    /// Another node has taken over a session of this node, with its members. The members have not left their rooms, but
    /// no longer belong to this node.
    SessionTaken {
        /// The session's id.
        session: Box<str>,
        /// As [`Resumed::generation`].
        generation: u64,
    },
    /// The node no longer has a session, because other nodes have removed it: this node was away for longer than the
    /// session's window. Or, after Redis has lost its data, another node has the session as well.
    SessionGone {
        /// The session's id.
        session: Box<str>,
        /// The session does not belong to this node, unless this node has taken it over this often.
        generation: u64,
    },
    /// The node had to enter its members again, but could not enter this one. The member no longer belongs to this
    /// node.
    Evicted {
        /// The room.
        room: Arc<str>,
        /// The member.
        member: Box<str>,
        /// Why it could not enter.
        reason: EvictionReason,
    },
    /// There are two cases. In the first one, the other nodes have taken this node for gone and removed a member that
    /// is still there. The member has entered again, and the event of its enter arrives as well. In the second one,
    /// another node could not tell its host about the enter of a member that was then taken over
    /// ([`Node::undo_enter`](crate::Node::undo_enter)).
    EnteredAgain {
        /// The room.
        room: Arc<str>,
        /// The member.
        member: Box<str>,
    },
    /// This node has ended the last session of a user, because the node of that session is gone. Exactly one node gets
    /// this, with the same exceptions as for [`Event::MemberLost`].
    UserOffline {
        /// The user.
        user: Box<str>,
    },
    /// The other nodes have taken this node for gone and ended the last session of a user, but the user is still there.
    UserOnline {
        /// The user.
        user: Box<str>,
    },
    /// The connection to Redis has changed.
    State(State),
}

/// An event of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEvent {
    /// The room.
    pub room: Arc<str>,
    /// The event's position in the room.
    pub stamp: Stamp,
    /// What happened.
    pub kind: EventKind,
    /// Who entered, left or published. `None` if the host published.
    pub member: Option<Box<str>>,
    /// The id of a message ([`EventKind::Publish`]). It is higher than the ids of earlier messages of the room, even
    /// after a restart of Redis or after the room was empty, unless Redis's clock was set back. It is below 2^53: the
    /// milliseconds since 2020, followed by 12 bits that count the messages of the same millisecond.
    pub id: Option<u64>,
    /// The body that the event was submitted with. For [`EventKind::Profile`], see [`RoomEvent::profile`].
    pub body: Bytes,
    /// Whether it ends the room, because the room has no members any more.
    pub is_last: bool,
    /// Whether it is the leave of a member that is [replaced](crate::NewMember::replaces). The enter of its successor
    /// follows.
    pub is_replaced: bool,
}

impl RoomEvent {
    /// Returns the profile that a member has from this event on. `None` for events that are not an
    /// [`EventKind::Profile`].
    pub fn profile(&self) -> Option<Profile> {
        (self.kind == EventKind::Profile).then(|| Profile::decode(self.body.clone())).flatten()
    }

    /// Whether clients get a frame for it.
    pub(crate) fn has_frame(&self) -> bool {
        !self.kind.is_silent()
    }
}

/// An event in a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedEvent {
    /// The event.
    pub event: RoomEvent,
    /// How long it has been in the log, by Redis's clock.
    pub age: Duration,
}

/// Why events of a room are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The room has begun a new epoch: Redis was restarted, has failed over or has lost its data.
    EpochChanged,
    /// The missed events are no longer in the room's log.
    LogTrimmed,
}

/// Why a member could not enter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionReason {
    /// Another member has taken its name in between.
    NameTaken,
    /// Another node has taken over its session in between.
    SessionTaken,
}

/// Whether the node can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Connected to Redis, with a valid lease.
    Connected,
    /// Redis cannot be reached, or the node has been fenced and enters its members again.
    Degraded,
}
