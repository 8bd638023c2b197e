//! The ordering of events. Every event of a room is submitted to a broker. The broker puts it in the room's order
//! and hands it to the room's replica on each node, which applies it.
//!
//! The order of a room is a sequence of [`Stamp`]s, each of which follows from the one before by [`Stamp::next`].
//! A replica knows the latest stamp that it has applied, so it can tell the next event from a repeated one, and from
//! one that arrives while others before it are missing.
//!
//! In one process the broker is [`MemoryBroker`]: the room itself, under its lock, and `submit` returns when
//! the event has been applied. A [`RemoteBroker`] is shared by several processes. It sends each event to all of them, and
//! an event is applied when it arrives, on the node of its submitter too. `conformance` tests what holds for both.

mod batches;
pub(crate) mod commands;
#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod remote;
mod sessions;
#[cfg(any(test, feature = "test-util"))]
mod shared;
#[cfg(feature = "test-util")]
mod watched;
pub(crate) mod wire;

use crate::protocol::position::{Epoch, Position};

pub(crate) use batches::{BatchId, BatchMessage, BatchOutcome, BatchStart, RoomPlace};
pub(crate) use memory::MemoryBroker;
pub use remote::BrokerNode;
pub(crate) use remote::{
    BoxFuture, EntryId, LoggedEvent, LostMember, NewMember, NotEntered, RemoteBroker, RemoteEvent,
    RemoteEvents, RemoteMember, RemoteSession, RoomEvent, Submitted, Unavailable, UniqueName,
};
pub(crate) use sessions::{
    KeptSession, MemberSession, NewSession, NotTaken, TakenMember, TakenSession, TokenHash,
};
#[cfg(any(test, feature = "test-util"))]
pub use shared::SharedBroker;

/// What happens in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A member enters: the count grows by one.
    Enter,
    /// A member leaves: the count shrinks by one.
    Leave,
    /// A member enters, and the others get no frame: only the count changes.
    SilentEnter,
    /// A member leaves, and the others get no frame: only the count changes.
    SilentLeave,
    /// A frame for all members.
    Publish,
    /// A member's profile changes. It has no frame of its own. Only a [`RemoteBroker`] orders such events.
    #[cfg_attr(
        not(any(feature = "redis", feature = "test-util")),
        allow(dead_code, reason = "there is no such broker")
    )]
    Profile,
    /// A hidden member enters. Only a [`RemoteBroker`] orders such events: they matter only to the host's other nodes.
    #[cfg_attr(
        not(any(feature = "redis", feature = "test-util")),
        allow(dead_code, reason = "there is no such broker")
    )]
    HiddenEnter,
    /// A hidden member leaves. As [`EventKind::HiddenEnter`].
    #[cfg_attr(
        not(any(feature = "redis", feature = "test-util")),
        allow(dead_code, reason = "there is no such broker")
    )]
    HiddenLeave,
}

impl EventKind {
    /// Whether the event has no frame, and so no place in the room log.
    pub(crate) fn is_silent(self) -> bool {
        !matches!(self, EventKind::Enter | EventKind::Leave | EventKind::Publish)
    }
}

/// An event's place in its room's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Distinguishes this order from that of an earlier room with the same id. A room that was empty gets a new epoch.
    pub(crate) epoch: Epoch,
    /// One more than that of the event before, starting at 1. Replicas follow the order by it.
    pub(crate) event: u64,
    /// The number of frames so far. Silent events have no frame.
    pub(crate) seq: u64,
    /// Members of the room that are not hidden, right after this event, on all nodes.
    pub(crate) num: u64,
}

impl Stamp {
    /// Where a room begins, before its first event.
    pub(crate) fn start(epoch: Epoch) -> Stamp {
        Stamp { epoch, event: 0, seq: 0, num: 0 }
    }

    /// The position of the latest frame.
    pub(crate) fn position(self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }

    /// The stamp of the event right after this one.
    pub(crate) fn next(self, kind: EventKind) -> Stamp {
        let num = match kind {
            EventKind::Enter | EventKind::SilentEnter => self.num + 1,
            EventKind::Leave | EventKind::SilentLeave => self.num.saturating_sub(1),
            _ => self.num,
        };
        let seq = if kind.is_silent() { self.seq } else { self.seq + 1 };
        Stamp { event: self.event + 1, seq, num, ..self }
    }

    /// The stamp of the event right before this one, which is of this kind.
    pub(crate) fn before(self, kind: EventKind) -> Stamp {
        let num = match kind {
            EventKind::Enter | EventKind::SilentEnter => self.num.saturating_sub(1),
            EventKind::Leave | EventKind::SilentLeave => self.num + 1,
            _ => self.num,
        };
        let seq = if kind.is_silent() { self.seq } else { self.seq.saturating_sub(1) };
        Stamp { event: self.event.saturating_sub(1), seq, num, ..self }
    }
}

/// The state of a room on one node.
pub(crate) trait Replica {
    /// The stamp of the latest event that was applied.
    fn latest(&self) -> Stamp;

    /// Applies the next event.
    fn apply(&mut self, kind: EventKind, stamp: Stamp);
}

/// Puts the events of rooms in order.
pub(crate) trait Broker: Send + Sync {
    /// Where a room begins that is about to get its first member, in an epoch of its own.
    fn open(&self) -> Stamp;

    /// Puts an event after all others of its room, and applies it to the replica before it returns the stamp:
    /// nobody hears of an event that its own node has not applied.
    fn submit(&self, kind: EventKind, replica: &mut impl Replica) -> Stamp;

    /// Whether an enter or a leave has no frame, in a room whose mode says `is_silent`.
    fn is_silent(&self, is_silent: bool) -> bool {
        is_silent
    }

    /// Whether the enter of a hidden member has a place in the order.
    fn orders_hidden(&self) -> bool {
        false
    }
}

/// Applies an event to which a [`RemoteBroker`] has given its place.
pub(crate) struct Ordered {
    pub(crate) kind: EventKind,
    pub(crate) stamp: Stamp,
}

impl Broker for Ordered {
    fn open(&self) -> Stamp {
        self.stamp.before(self.kind)
    }

    fn submit(&self, _: EventKind, replica: &mut impl Replica) -> Stamp {
        replica.apply(self.kind, self.stamp);
        self.stamp
    }

    fn is_silent(&self, _: bool) -> bool {
        self.kind.is_silent()
    }

    fn orders_hidden(&self) -> bool {
        true
    }
}
