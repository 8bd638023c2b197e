//! Nodes that miss events. The suite must detect this within its time limit.

use std::time::Duration;

use crate::broker::conformance::late_nodes::LateNodes;
use crate::broker::conformance::{self as suite, Applied, Log, Nodes};
use crate::broker::{EventKind, Stamp};

struct LossyNodes(LateNodes);

impl LossyNodes {
    /// Node 1 misses the messages for which this returns true.
    fn new(is_missed: fn(node: usize, id: u64) -> bool) -> LossyNodes {
        LossyNodes(LateNodes::losing(move |at, node, event| {
            at == 1 && event.kind == EventKind::Publish && is_missed(node, event.id)
        }))
    }
}

impl Nodes for LossyNodes {
    /// Short, because all nodes are in this process, and time is paused or all events arrive at once.
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
async fn the_suite_detects_an_event_that_a_node_misses() {
    // The second event of the second member, which is on node 0.
    suite::concurrent_submitters_get_one_order(LossyNodes::new(|_, id| id == (1 << 32) + 2)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 1 was not told of the event 17179869185 (Publish in \"r\")")]
async fn the_suite_detects_an_event_that_the_submitting_node_misses() {
    // The first message of the fifth member, which is the first member on node 1.
    suite::concurrent_submitters_get_one_order(LossyNodes::new(|node, id| node == 1 && id == (4 << 32) + 1))
        .await;
}

/// No event follows it, so only the time limit shows that it is missing.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 1 has not applied Applied { id: 2, kind: Publish")]
async fn the_suite_detects_that_a_node_misses_the_last_event() {
    let (nodes, mut log) = (LossyNodes::new(|node, _| node == 0), Log::default());
    log.submit(&nodes, 1, "r", EventKind::Enter).await;
    log.submit(&nodes, 0, "r", EventKind::Enter).await;
    log.submit(&nodes, 0, "r", EventKind::Publish).await;
    log.check(&nodes).await;
}

#[test]
#[should_panic(expected = "node 1 has")]
fn the_suite_detects_a_missed_event_among_random_events() {
    suite::any_events_are_ordered_as_the_model_has_them(|| LossyNodes::new(|node, _| node != 1));
}
