//! The ordering seam. Every event of a room goes to a broker, which gives it a place in the room's
//! order, and comes back to the room's replica on each node, which applies it.
//!
//! In one process the broker is [`MemoryBroker`]: the room itself, under its lock. A broker between
//! processes sends the command away and calls [`Replica::apply`] when the event arrives; the rest of
//! the crate does not see the difference. `conformance` is the contract as tests.

mod memory;

pub(crate) use memory::{MemoryBroker, RoomOrder};

/// What happens in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A member enters: the count grows by one.
    Enter,
    /// A member leaves: the count shrinks by one.
    Leave,
    /// A frame for all members.
    Publish,
}

/// An event's place in its room's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// One more than that of the event before, from 1 on.
    pub(crate) seq: u64,
    /// Members of the room right after this event, on all nodes.
    pub(crate) num: u64,
}

/// The state of a room on one node. It applies each event once, in the order of their stamps.
pub(crate) trait Replica {
    fn apply(&mut self, kind: EventKind, stamp: Stamp);
}

/// Puts the events of rooms in order.
pub(crate) trait Broker: Send + Sync {
    /// Orders one event and applies it to the replica, before it returns the event's stamp. Whoever
    /// sent the event is told only after that.
    fn submit(&self, order: &mut RoomOrder, kind: EventKind, replica: &mut impl Replica) -> Stamp;
}
