//! What holds for every broker, as tests. A broker passes them with an implementation of [`Nodes`] and one
//! line, `conformance_tests!(constructor)`.
//!
//! Submitting is async, since a broker between processes answers later; and an event may reach other nodes
//! after its submitter was told. What only holds for brokers that several nodes share is in [`batches`].

pub(crate) mod batches;
mod broken_batches;
mod late_nodes;
mod lossy_nodes;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::broker::{EventKind, Stamp};

/// An event that the replica of a room has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    /// Which event it was, regardless of its place.
    pub(super) id: u64,
    pub(super) kind: EventKind,
    pub(super) stamp: Stamp,
}

/// Nodes that share one broker. A node has a replica of each room in which it has members.
pub(super) trait Nodes: Send + Sync + 'static {
    /// An event that takes longer than this to reach a node counts as lost.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// How many there are.
    fn count(&self) -> usize;

    /// Has a node submit an event of one of its members. Done when the submitter may be told.
    fn submit(&self, node: usize, room: &str, kind: EventKind, id: u64)
    -> impl Future<Output = Stamp> + Send;

    /// What a node's replicas of a room have applied so far, be it of an earlier room of that id.
    fn applied(&self, node: usize, room: &str) -> Vec<Applied>;

    /// Waits until a node has applied the event with this stamp.
    fn until_applied(&self, node: usize, room: &str, stamp: Stamp) -> impl Future<Output = ()> + Send;
}

/// The tests of one broker. `$new` makes nodes over a broker that nothing has used before.
macro_rules! conformance_tests {
    ($new:expr) => {
        #[tokio::test]
        async fn a_room_that_was_empty_begins_anew() {
            $crate::broker::conformance::a_room_that_was_empty_begins_anew($new()).await;
        }

        #[tokio::test]
        async fn rooms_are_independent() {
            $crate::broker::conformance::rooms_are_independent($new()).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn concurrent_submitters_get_one_order() {
            $crate::broker::conformance::concurrent_submitters_get_one_order($new()).await;
        }

        #[test]
        fn any_events_are_ordered_as_the_model_has_them() {
            $crate::broker::conformance::any_events_are_ordered_as_the_model_has_them($new);
        }
    };
}

pub(super) use conformance_tests;

pub(super) async fn a_room_that_was_empty_begins_anew(nodes: impl Nodes) {
    let mut log = Log::default();
    let mut epochs = HashSet::new();
    for _ in 0..3 {
        let stamp = log.submit(&nodes, 0, "r", EventKind::Enter).await;
        assert_eq!((stamp.event, stamp.seq, stamp.num), (1, 1, 1));
        assert!(epochs.insert(stamp.epoch.0), "the epoch of a room that was empty is used again");
        log.submit(&nodes, 0, "r", EventKind::Leave).await;
    }
    log.check(&nodes).await;
}

pub(super) async fn rooms_are_independent(nodes: impl Nodes) {
    let mut log = Log::default();
    let last = nodes.count() - 1;
    for kind in [EventKind::Enter, EventKind::Publish, EventKind::Publish] {
        let one = log.submit(&nodes, 0, "one", kind).await;
        let other = log.submit(&nodes, last, "other", kind).await;
        assert_ne!(one.epoch, other.epoch);
        assert_eq!((one.seq, one.num), (other.seq, other.num));
    }
    log.check(&nodes).await;
}

/// Several nodes, each with several members, which enter, publish and leave at the same time.
pub(super) async fn concurrent_submitters_get_one_order(nodes: impl Nodes) {
    const MEMBERS: usize = 4;
    const MESSAGES: u64 = 25;
    let nodes = Arc::new(nodes);
    let mut members = JoinSet::new();
    for n in 0..nodes.count() * MEMBERS {
        let nodes = nodes.clone();
        members.spawn(async move {
            // Ids that no other member uses.
            let mut log = Log { submitted: Vec::new(), next_id: (n as u64) << 32 };
            let node = n / MEMBERS;
            log.submit(&*nodes, node, "r", EventKind::Enter).await;
            for _ in 0..MESSAGES {
                log.submit(&*nodes, node, "r", EventKind::Publish).await;
                yield_now().await;
            }
            log.submit(&*nodes, node, "r", EventKind::Leave).await;
            log
        });
    }
    let mut all = Log::default();
    for log in members.join_all().await {
        all.submitted.extend(log.submitted);
    }
    all.check(&*nodes).await;
}

pub(super) fn any_events_are_ordered_as_the_model_has_them<N: Nodes>(new: impl Fn() -> N) {
    let runtime = Runtime::new().unwrap();
    use EventKind::{Enter, Leave, Publish, SilentEnter, SilentLeave};
    let kind = prop::sample::select(vec![Enter, Leave, SilentEnter, SilentLeave, Publish]);
    // A failing case takes the whole time limit, so shrinking it would take too long.
    let config =
        ProptestConfig { max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in prop::collection::vec((0usize..4, 0usize..3, kind), 0..60))| {
        runtime.block_on(async {
            let (nodes, mut log, mut rooms) = (new(), Log::default(), [const { Model::new() }; 3]);
            for (node, room, kind) in events {
                let node = node % nodes.count();
                if rooms[room].allows(node, kind) {
                    let stamp = log.submit(&nodes, node, ["a", "b", "c"][room], kind).await;
                    rooms[room].follow(node, kind, stamp);
                }
            }
            log.check(&nodes).await;
        });
    });
}

/// A room as it has to be.
struct Model {
    /// Members on each node.
    members: [u64; 4],
    /// After the latest event; `None` in a room that nobody has entered yet.
    latest: Option<Stamp>,
}

impl Model {
    const fn new() -> Model {
        Model { members: [0; 4], latest: None }
    }

    fn allows(&self, node: usize, kind: EventKind) -> bool {
        matches!(kind, EventKind::Enter | EventKind::SilentEnter) || self.members[node] > 0
    }

    fn follow(&mut self, node: usize, kind: EventKind, stamp: Stamp) {
        let before = self.latest.replace(stamp);
        let is_empty = self.members.iter().all(|members| *members == 0);
        match before {
            Some(before) if !is_empty => assert_eq!(stamp, before.next(kind)),
            before => {
                assert_ne!(Some(stamp.epoch), before.map(|before| before.epoch));
                assert_eq!(stamp, Stamp::start(stamp.epoch).next(kind));
            }
        }
        match kind {
            EventKind::Enter | EventKind::SilentEnter => self.members[node] += 1,
            EventKind::Leave | EventKind::SilentLeave => self.members[node] -= 1,
            _ => {}
        }
        assert_eq!(stamp.num, self.members.iter().sum::<u64>());
    }
}

/// All events that were submitted, with the stamps that their submitters were told.
#[derive(Default)]
struct Log {
    submitted: Vec<Submitted>,
    next_id: u64,
}

struct Submitted {
    node: usize,
    room: &'static str,
    event: Applied,
}

impl Log {
    async fn submit<N: Nodes>(
        &mut self,
        nodes: &N,
        node: usize,
        room: &'static str,
        kind: EventKind,
    ) -> Stamp {
        let id = self.next_id;
        self.next_id += 1;
        let answer = timeout(N::PATIENCE, nodes.submit(node, room, kind, id)).await;
        let stamp = answer.unwrap_or_else(|_| {
            panic!("node {node} was not told of the event {id} ({kind:?} in {room:?}) that it has submitted")
        });
        let event = Applied { id, kind, stamp };
        let is_applied = nodes.applied(node, room).contains(&event);
        assert!(is_applied, "the submitter was told before its own node had applied {event:?}");
        self.submitted.push(Submitted { node, room, event });
        stamp
    }

    /// The stamps are one order for each room and epoch, and all nodes have applied it.
    async fn check(&self, nodes: &impl Nodes) {
        let mut rooms: BTreeMap<_, Vec<&Submitted>> = BTreeMap::new();
        for submitted in &self.submitted {
            rooms.entry((submitted.room, submitted.event.stamp.epoch.0)).or_default().push(submitted);
        }
        for ((room, _), mut events) in rooms {
            events.sort_by_key(|submitted| submitted.event.stamp.event);
            check_order(&events);
            for node in 0..nodes.count() {
                check_node(nodes, node, room, &events).await;
            }
        }
    }
}

/// From the first event on, each follows from the one before.
fn check_order(events: &[&Submitted]) {
    let mut latest = Stamp::start(events[0].event.stamp.epoch);
    for Submitted { event, .. } in events {
        assert_eq!(event.stamp, latest.next(event.kind), "after {latest:?}");
        latest = event.stamp;
    }
}

/// A node has applied all events of a room that came while it had members there, and no others in their place.
async fn check_node<N: Nodes>(nodes: &N, node: usize, room: &str, events: &[&Submitted]) {
    let (mut members, mut due) = (0, Vec::new());
    for submitted in events {
        let before = members;
        if submitted.node == node {
            match submitted.event.kind {
                EventKind::Enter | EventKind::SilentEnter => members += 1,
                EventKind::Leave | EventKind::SilentLeave => members -= 1,
                _ => {}
            }
        }
        if before > 0 || members > 0 {
            due.push(submitted.event);
        }
    }
    let Some(last) = due.last() else { return };
    let arrived = timeout(N::PATIENCE, nodes.until_applied(node, room, last.stamp)).await;
    assert!(arrived.is_ok(), "node {node} has not applied {last:?} in {room:?}");
    let applied = nodes.applied(node, room);
    let is_of_epoch = |event: &Applied| event.stamp.epoch == last.stamp.epoch;
    let runs = applied.chunk_by(|one, other| is_of_epoch(one) == is_of_epoch(other));
    let mut runs = runs.filter(|run| is_of_epoch(&run[0]));
    let applied = runs.next().unwrap();
    assert_eq!(runs.next(), None, "node {node} has mixed two epochs");
    for pair in applied.windows(2) {
        assert!(pair[0].stamp.event < pair[1].stamp.event, "node {node} has applied {pair:?}");
    }
    for event in applied {
        assert_eq!(*event, events[event.stamp.event as usize - 1].event, "node {node} has another event");
    }
    for event in due {
        assert!(applied.contains(&event), "node {node} has missed {event:?}");
    }
}
