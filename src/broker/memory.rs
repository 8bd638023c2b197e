//! The broker of a single process: synchronous, under the room's lock.

use std::hash::{BuildHasher, RandomState};

use crate::broker::{Broker, EventKind, Replica, Stamp};
use crate::protocol::position::Epoch;
use crate::sync::atomic::{AtomicU64, Ordering};

/// There is one replica of each room, so its latest applied event is the latest event.
#[derive(Debug, Default)]
pub(crate) struct MemoryBroker {
    /// Its keys are random, so that epochs differ from those of other processes.
    hasher: RandomState,
    /// Rooms that have ever been opened.
    opened: AtomicU64,
}

impl Broker for MemoryBroker {
    fn open(&self) -> Stamp {
        Stamp::start(Epoch(self.hasher.hash_one(self.opened.fetch_add(1, Ordering::Relaxed))))
    }

    fn submit(&self, kind: EventKind, replica: &mut impl Replica) -> Stamp {
        let stamp = replica.latest().next(kind);
        replica.apply(kind, stamp);
        stamp
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::broker::conformance::{Applied, Nodes, conformance_tests};
    use crate::sync::{Mutex, lock};

    /// One node. It opens a room for the first member, and removes an empty one, as the engine does.
    #[derive(Default)]
    struct OneNode {
        broker: MemoryBroker,
        rooms: Mutex<HashMap<String, Stamp>>,
        applied: Mutex<HashMap<String, Vec<Applied>>>,
    }

    struct Recorder<'a> {
        latest: &'a mut Stamp,
        applied: &'a mut Vec<Applied>,
        id: u64,
    }

    impl Replica for Recorder<'_> {
        fn latest(&self) -> Stamp {
            *self.latest
        }

        fn apply(&mut self, kind: EventKind, stamp: Stamp) {
            *self.latest = stamp;
            self.applied.push(Applied { id: self.id, kind, stamp });
        }
    }

    impl Nodes for OneNode {
        fn count(&self) -> usize {
            1
        }

        async fn submit(&self, _: usize, room: &str, kind: EventKind, id: u64) -> Stamp {
            let mut rooms = lock(&self.rooms);
            let latest = rooms.entry(room.to_owned()).or_insert_with(|| self.broker.open());
            let mut applied = lock(&self.applied);
            let applied = applied.entry(room.to_owned()).or_default();
            let stamp = self.broker.submit(kind, &mut Recorder { latest, applied, id });
            if stamp.num == 0 {
                rooms.remove(room);
            }
            stamp
        }

        fn applied(&self, _: usize, room: &str) -> Vec<Applied> {
            lock(&self.applied).get(room).cloned().unwrap_or_default()
        }

        async fn until_applied(&self, _: usize, _: &str, _: Stamp) {}
    }

    conformance_tests!(OneNode::default);
}
