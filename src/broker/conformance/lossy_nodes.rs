//! Nodes that miss events: the suite has to find this, and within its patience.

use std::time::Duration;

use crate::broker::conformance::late_nodes::LateNodes;
use crate::broker::conformance::{self as suite, Applied, Log, Nodes};
use crate::broker::{EventKind, Stamp};

struct LossyNodes(LateNodes);

impl LossyNodes {
    /// Node 1 misses the messages of which this is true.
    fn new(is_missed: fn(node: usize, id: u64) -> bool) -> LossyNodes {
        LossyNodes(LateNodes::losing(move |at, node, event| {
            at == 1 && event.kind == EventKind::Publish && is_missed(node, event.id)
        }))
    }
}

impl Nodes for LossyNodes {
    /// They are in this process, and time is paused or all events come at once.
    const PATIENCE: Duration = Duration::from_millis(100);

    fn count(&self) -> usize {
        self.0.count()
    }

    async fn submit(&self, node: usize, room: &str, kind: EventKind, id: u64) -> Stamp {
        self.0.submit(node, room, kind, id).await
    }

    fn applied(&self, node: usize, room: &str) -> Vec<Applied> {
        self.0.applied(node, room)
    }

    async fn until_applied(&self, node: usize, room: &str, stamp: Stamp) {
        self.0.until_applied(node, room, stamp).await;
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 1 has missed Applied { id: 4294967298, kind: Publish")]
async fn an_event_that_a_node_misses_is_found() {
    // The second event of the second member, which is a member on node 0.
    suite::concurrent_submitters_get_one_order(LossyNodes::new(|_, id| id == (1 << 32) + 2)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 1 was not told of the event 17179869185 (Publish in \"r\")")]
async fn an_event_that_its_own_node_misses_is_found() {
    // The first message of the fifth member, the first one on node 1.
    suite::concurrent_submitters_get_one_order(LossyNodes::new(|node, id| node == 1 && id == (4 << 32) + 1))
        .await;
}

/// Nothing comes after it, so only the limit of time shows that it is missing.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 1 has not applied Applied { id: 2, kind: Publish")]
async fn a_last_event_that_a_node_misses_is_found() {
    let (nodes, mut log) = (LossyNodes::new(|node, _| node == 0), Log::default());
    log.submit(&nodes, 1, "r", EventKind::Enter).await;
    log.submit(&nodes, 0, "r", EventKind::Enter).await;
    log.submit(&nodes, 0, "r", EventKind::Publish).await;
    log.check(&nodes).await;
}

#[test]
#[should_panic(expected = "node 1 has")]
fn an_event_that_a_node_misses_is_found_among_any_events() {
    suite::any_events_are_ordered_as_the_model_has_them(|| LossyNodes::new(|node, _| node != 1));
}
