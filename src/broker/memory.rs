//! The broker of a single process: synchronous, under the room's lock.

use crate::broker::{Broker, EventKind, Replica, Stamp};
use crate::protocol::position::Epoch;

/// How far a room's order has come.
#[derive(Debug)]
pub(crate) struct RoomOrder {
    epoch: Epoch,
    seq: u64,
    num: u64,
}

impl RoomOrder {
    pub(crate) fn new(epoch: Epoch) -> RoomOrder {
        RoomOrder { epoch, seq: 0, num: 0 }
    }

    /// Tells this order from that of an earlier room of the same id.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The `seq` of the latest event.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Members of the room.
    pub(crate) fn num(&self) -> u64 {
        self.num
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryBroker;

impl Broker for MemoryBroker {
    fn submit(&self, order: &mut RoomOrder, kind: EventKind, replica: &mut impl Replica) -> Stamp {
        order.seq += 1;
        match kind {
            EventKind::Enter => order.num += 1,
            EventKind::Leave => order.num = order.num.saturating_sub(1),
            EventKind::Publish => {}
        }
        let stamp = Stamp { seq: order.seq, num: order.num };
        replica.apply(kind, stamp);
        stamp
    }
}
