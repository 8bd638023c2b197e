//! Several nodes to which events come late, as from a broker between processes: the suite's own test.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;

use crate::broker::conformance::{Applied, Nodes, conformance_tests};
use crate::broker::{Broker, EventKind, MemoryBroker, Stamp};
use crate::sync::{Mutex, lock};

const NODES: usize = 3;

/// One order for all rooms, of which each node gets everything.
pub(super) struct LateNodes {
    broker: MemoryBroker,
    rooms: Mutex<HashMap<String, Stamp>>,
    nodes: [Node; NODES],
    is_lost: Box<IsLost>,
}

/// Takes the receiving node, the submitting node and the event. Returns whether the receiving node misses the event.
type IsLost = dyn Fn(usize, usize, &Applied) -> bool + Send + Sync;

struct Node {
    arriving: mpsc::UnboundedSender<(String, Applied)>,
    applied: watch::Receiver<Vec<(String, Applied)>>,
}

impl Default for Node {
    fn default() -> Node {
        let (arriving, mut events) = mpsc::unbounded_channel();
        let (apply, applied) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                yield_now().await;
                apply.send_modify(|all| all.push(event));
            }
        });
        Node { arriving, applied }
    }
}

impl LateNodes {
    fn new() -> LateNodes {
        LateNodes::losing(|_, _, _| false)
    }

    pub(super) fn losing(
        is_lost: impl Fn(usize, usize, &Applied) -> bool + Send + Sync + 'static,
    ) -> LateNodes {
        let (broker, rooms, nodes) = Default::default();
        LateNodes { broker, rooms, nodes, is_lost: Box::new(is_lost) }
    }
}

impl Nodes for LateNodes {
    fn count(&self) -> usize {
        NODES
    }

    async fn submit(&self, node: usize, room: &str, kind: EventKind, id: u64) -> Stamp {
        let stamp = {
            let mut rooms = lock(&self.rooms);
            let before = rooms.remove(room).filter(|latest| latest.num > 0);
            let stamp = before.unwrap_or_else(|| self.broker.open()).next(kind);
            rooms.insert(room.to_owned(), stamp);
            let event = Applied { id, kind, stamp };
            for (at, to) in self.nodes.iter().enumerate() {
                if !(self.is_lost)(at, node, &event) {
                    to.arriving.send((room.to_owned(), event)).unwrap();
                }
            }
            stamp
        };
        self.until_applied(node, room, stamp).await;
        stamp
    }

    fn applied(&self, node: usize, room: &str) -> Vec<Applied> {
        let all = self.nodes[node].applied.borrow();
        all.iter().filter(|(of, _)| of == room).map(|(_, event)| *event).collect()
    }

    async fn until_applied(&self, node: usize, room: &str, stamp: Stamp) {
        let is_there =
            |all: &Vec<(String, Applied)>| all.iter().any(|(of, event)| of == room && event.stamp == stamp);
        self.nodes[node].applied.clone().wait_for(is_there).await.unwrap();
    }
}

conformance_tests!(LateNodes::new);
