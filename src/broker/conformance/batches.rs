//! The suite for batches, which every broker that several nodes share must pass. To test a broker, implement
//! [`BatchNodes`] and write `batch_conformance_tests!(constructor)`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{
    BatchId, BatchMessage, BatchOutcome, BatchStart, BrokerNode, EntryId, EventKind, NewMember, RemoteBroker,
    RemoteEvent, RemoteEvents, RoomEvent, RoomPlace, Submitted, Unavailable,
};
use crate::ids::{ConnectionId, MaxLen, MessageId, Name, RoomId};
use crate::room::Profile;

/// How long to wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this time, a batch that is not prolonged has ended: it ends after three seconds.
const BATCH_END: Duration = Duration::from_secs(4);

/// The latest id in the store. The broker may ask for it.
const FLOOR: u64 = 1 << 50;

/// Two nodes, each with one member of a room. The methods are the calls of one of them.
pub(crate) trait BatchNodes {
    fn entry(&self, node: usize) -> EntryId;

    fn begin(
        &self,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> impl Future<Output = Result<BatchStart, Unavailable>>;

    fn finish(
        &self,
        batch: BatchId,
        outcome: BatchOutcome,
    ) -> impl Future<Output = Result<Vec<Submitted>, Unavailable>>;

    fn publish(&self, node: usize, key: &str) -> impl Future<Output = Result<Submitted, Unavailable>>;

    fn place(&self, node: usize, after: Option<MessageId>) -> impl Future<Output = Option<RoomPlace>>;

    /// Returns the next message that arrives at a node.
    fn next_message(&mut self, node: usize) -> impl Future<Output = RoomEvent>;

    /// Lets a node crash.
    fn lose(&mut self, node: usize);
}

/// Nodes of a broker.
pub(crate) struct RemoteNodes<K> {
    nodes: Vec<RemoteNode>,
    /// Dropped with the nodes, and used to let a node crash.
    keeper: K,
    lose: fn(&K, u32),
}

struct RemoteNode {
    broker: Arc<dyn RemoteBroker>,
    events: Box<dyn RemoteEvents>,
    entry: EntryId,
}

fn room() -> RoomId {
    RoomId::from("r")
}

impl<K> RemoteNodes<K> {
    /// Enters a member on each of two nodes.
    pub(crate) async fn new(nodes: [BrokerNode; 2], keeper: K, lose: fn(&K, u32)) -> RemoteNodes<K> {
        let mut all = Vec::new();
        for BrokerNode { broker, events } in nodes {
            let entry = EntryId { member: ConnectionId::of_node(broker.node(), 1), number: 1 };
            let member = NewMember {
                entry,
                name: Name::parse(&format!("member {}", broker.node()), MaxLen::ANY).unwrap(),
                unique: None,
                profile: Profile::default(),
                replaces: None,
                is_silent: true,
                session: None,
                body: Bytes::new(),
                leave_body: Bytes::new(),
            };
            broker.enter(&room(), member, 99).await.unwrap();
            all.push(RemoteNode { broker, events, entry });
        }
        RemoteNodes { nodes: all, keeper, lose }
    }

    fn broker_of(&self, batch: BatchId) -> &dyn RemoteBroker {
        let node = self.nodes.iter().find(|node| node.broker.node() == batch.node);
        &*node.expect("the batch is one of these nodes").broker
    }
}

impl<K> BatchNodes for RemoteNodes<K> {
    fn entry(&self, node: usize) -> EntryId {
        self.nodes[node].entry
    }

    async fn begin(
        &self,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> Result<BatchStart, Unavailable> {
        self.broker_of(batch).begin_batch(&room(), batch, len, floor).await
    }

    async fn finish(&self, batch: BatchId, outcome: BatchOutcome) -> Result<Vec<Submitted>, Unavailable> {
        self.broker_of(batch).finish_batch(&room(), batch, outcome).await
    }

    async fn publish(&self, node: usize, key: &str) -> Result<Submitted, Unavailable> {
        let RemoteNode { broker, entry, .. } = &self.nodes[node];
        broker.publish(&room(), Some(*entry), Some(key), Bytes::copy_from_slice(key.as_bytes())).await
    }

    async fn place(&self, node: usize, after: Option<MessageId>) -> Option<RoomPlace> {
        self.nodes[node].broker.place(&room(), after).await
    }

    async fn next_message(&mut self, node: usize) -> RoomEvent {
        loop {
            match self.nodes[node].events.next().await.expect("the node goes on") {
                RemoteEvent::Room(event) if event.kind == EventKind::Publish => return event,
                _ => {}
            }
        }
    }

    fn lose(&mut self, node: usize) {
        (self.lose)(&self.keeper, self.nodes[node].broker.node());
    }
}

/// The tests of one broker. `$new` is an async function that returns [`BatchNodes`] of a new broker.
macro_rules! batch_conformance_tests {
    ($new:expr, $(#[$attribute:meta])*) => {
        $crate::broker::conformance::batches::batch_conformance_tests!(@ $new, [$(#[$attribute])*],
            one_batch_is_under_way
            a_batch_goes_on_while_it_is_prolonged
            the_batch_of_a_node_that_is_lost_ends
            the_batch_of_a_node_that_was_slow_changes_nothing
            a_repeated_finish_changes_nothing
            a_key_is_published_once
            what_has_failed_can_be_published_later
            of_what_is_unknown_only_messages_of_members_are_published);
    };
    (@ $new:expr, $attributes:tt, $($case:ident)*) => {
        $($crate::broker::conformance::batches::batch_conformance_tests!(@@ $new, $attributes, $case);)*
    };
    (@@ $new:expr, [$(#[$attribute:meta])*], $case:ident) => {
        #[tokio::test]
        $(#[$attribute])*
        async fn $case() {
            $crate::broker::conformance::batches::$case($new().await).await;
        }
    };
}

pub(crate) use batch_conformance_tests;

/// The batch of a node with this number. In a test, each batch has a different number.
fn batch(nodes: &impl BatchNodes, node: usize, number: u64) -> BatchId {
    BatchId { node: nodes.entry(node).member.node(), number }
}

fn id(n: u64) -> MessageId {
    MessageId::from_u64(n).unwrap()
}

/// The id that is higher by this much.
fn nth(first: MessageId, n: u64) -> MessageId {
    id(first.as_u64() + n)
}

/// A message of the member of a node.
fn message(nodes: &impl BatchNodes, node: usize, key: &str, id: MessageId) -> BatchMessage {
    let (entry, body) = (Some(nodes.entry(node)), Bytes::copy_from_slice(key.as_bytes()));
    BatchMessage { entry, key: key.to_owned(), id, is_known: false, body }
}

fn known(message: BatchMessage) -> BatchMessage {
    BatchMessage { is_known: true, ..message }
}

fn stored(messages: impl Into<Vec<BatchMessage>>) -> BatchOutcome {
    BatchOutcome { messages: messages.into(), has_failed: false }
}

/// Begins a batch, now or when the current batch has ended.
async fn begin(nodes: &impl BatchNodes, batch: BatchId, len: usize) -> MessageId {
    let (mut floor, since) = (None, Instant::now());
    loop {
        match nodes.begin(batch, len, floor).await.expect("the broker can be reached") {
            BatchStart::Begun(first) => return first,
            BatchStart::NeedsFloor => {
                assert_eq!(floor, None, "it knows the floor");
                floor = Some(id(FLOOR));
            }
            BatchStart::Busy => sleep(Duration::from_millis(5)).await,
        }
        assert!(since.elapsed() < PATIENCE, "{batch} does not begin");
    }
}

/// Ends a batch. Returns the id of each message, and whether it was published before.
async fn finish(nodes: &impl BatchNodes, batch: BatchId, outcome: BatchOutcome) -> Vec<(MessageId, bool)> {
    let published = nodes.finish(batch, outcome).await.expect("the batch is under way");
    published.iter().map(|submitted| (submitted.id, submitted.is_repeat)).collect()
}

/// Expects these messages to arrive at these nodes, with no other messages before them.
async fn expect_messages(nodes: &mut impl BatchNodes, listening: &[usize], expected: &[(&str, MessageId)]) {
    for node in listening {
        let mut seq = None;
        for (body, id) in expected {
            let event = timeout(PATIENCE, nodes.next_message(*node)).await;
            let event = event.unwrap_or_else(|_| panic!("node {node} does not get {body:?}"));
            let heard = (std::str::from_utf8(&event.body).unwrap(), event.id);
            assert_eq!(heard, (*body, Some(*id)), "node {node}");
            assert!(seq.replace(event.stamp.seq) < Some(event.stamp.seq), "node {node}: {event:?}");
        }
    }
}

/// A batch that begins later has higher ids. Messages are in the order of their ids.
pub(crate) async fn one_batch_is_under_way(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 0, 1), batch(&nodes, 1, 2)];
    assert_eq!(nodes.begin(one, 2, None).await.unwrap(), BatchStart::NeedsFloor);
    let first = begin(&nodes, one, 2).await;
    assert!(first > id(FLOOR), "{first}");
    for _ in 0..3 {
        assert_eq!(nodes.begin(two, 1, None).await.unwrap(), BatchStart::Busy, "another one is under way");
        assert_eq!(
            nodes.begin(one, 2, None).await.unwrap(),
            BatchStart::Begun(first),
            "the call is repeated"
        );
    }
    // Its messages are not published yet.
    assert_eq!(nodes.place(1, None).await.unwrap().last_id, Some(first.previous()));
    let messages = [message(&nodes, 0, "a", first), message(&nodes, 0, "b", nth(first, 1))];
    let published = nodes.finish(one, stored(messages)).await.unwrap();
    let ids: Vec<_> = published.iter().map(|submitted| (submitted.id, submitted.is_repeat)).collect();
    assert_eq!(ids, [(first, false), (nth(first, 1), false)]);
    let place = nodes.place(1, None).await.unwrap();
    assert_eq!((place.position, place.last_id), (Some(published[1].position), Some(nth(first, 1))));
    let second = begin(&nodes, two, 1).await;
    assert!(second > nth(first, 1), "{second} after {first}");
    let last = stored([message(&nodes, 1, "c", second)]);
    assert_eq!(finish(&nodes, two, last).await, [(second, false)]);
    expect_messages(&mut nodes, &[0, 1], &[("a", first), ("b", nth(first, 1)), ("c", second)]).await;
}

pub(crate) async fn a_batch_goes_on_while_it_is_prolonged(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 0, 1), batch(&nodes, 1, 2)];
    let (first, since) = (begin(&nodes, one, 1).await, Instant::now());
    while since.elapsed() < BATCH_END {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(nodes.begin(one, 1, None).await.unwrap(), BatchStart::Begun(first));
        assert_eq!(nodes.begin(two, 1, None).await.unwrap(), BatchStart::Busy);
    }
    let messages = stored([message(&nodes, 0, "a", first)]);
    assert_eq!(finish(&nodes, one, messages).await, [(first, false)]);
    expect_messages(&mut nodes, &[0, 1], &[("a", first)]).await;
}

/// The store may have its messages, which are published when they are sent again.
pub(crate) async fn the_batch_of_a_node_that_is_lost_ends(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 1, 1), batch(&nodes, 0, 2)];
    let lost = begin(&nodes, one, 2).await;
    nodes.lose(1);
    let next = begin(&nodes, two, 3).await;
    assert!(next > nth(lost, 1), "{next} after {lost}");
    let (again, after) = (known(message(&nodes, 0, "lost", lost)), nth(next, 1));
    let messages = [message(&nodes, 0, "next", after), again.clone(), again];
    let published = finish(&nodes, two, stored(messages)).await;
    assert_eq!(published, [(after, false), (lost, false), (lost, true)]);
    expect_messages(&mut nodes, &[0], &[("next", after), ("lost", lost)]).await;
    // A client may have received `next` but not `lost`, which has a lower id.
    for (latest, late) in [(lost.previous(), vec![]), (after, vec![lost]), (nth(after, 1), vec![])] {
        let place = nodes.place(0, Some(latest)).await.unwrap();
        assert_eq!(place.late, Some(late), "{latest} of {lost} and {after}");
    }
}

/// Another node has begun a batch meanwhile.
pub(crate) async fn the_batch_of_a_node_that_was_slow_changes_nothing(mut nodes: impl BatchNodes) {
    let [one, two, three] = [batch(&nodes, 0, 1), batch(&nodes, 1, 2), batch(&nodes, 0, 3)];
    let slow = begin(&nodes, one, 1).await;
    let next = begin(&nodes, two, 1).await;
    let late = stored([message(&nodes, 0, "slow", slow)]);
    nodes.finish(one, late.clone()).await.expect_err("another batch is under way");
    let messages = stored([message(&nodes, 1, "next", next)]);
    assert_eq!(finish(&nodes, two, messages).await, [(next, false)]);
    nodes.finish(one, late).await.expect_err("its time is over");
    // The message is sent again.
    let last = begin(&nodes, three, 1).await;
    let messages = stored([known(message(&nodes, 0, "slow", slow))]);
    assert_eq!(finish(&nodes, three, messages).await, [(slow, false)]);
    assert!(last > next);
    expect_messages(&mut nodes, &[0, 1], &[("next", next), ("slow", slow)]).await;
}

/// The answer to the first call may have been lost.
pub(crate) async fn a_repeated_finish_changes_nothing(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 0, 1), batch(&nodes, 0, 2)];
    let first = begin(&nodes, one, 2).await;
    // Messages without a key get one from the batch.
    let messages = stored([message(&nodes, 0, "a", first), message(&nodes, 0, "b", nth(first, 1))]);
    let published = nodes.finish(one, messages.clone()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(nodes.finish(one, messages.clone()).await.as_ref(), Ok(&published));
        nodes.begin(one, 2, None).await.expect_err("it has ended");
    }
    let last = begin(&nodes, two, 1).await;
    assert!(last > nth(first, 1));
    let other = stored([message(&nodes, 0, "c", last)]);
    assert_eq!(finish(&nodes, two, other).await, [(last, false)]);
    expect_messages(&mut nodes, &[0, 1], &[("a", first), ("b", nth(first, 1)), ("c", last)]).await;
}

/// A key may be in one batch, in two batches, or outside of batches. Later calls get the answer of the first one.
pub(crate) async fn a_key_is_published_once(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 0, 1), batch(&nodes, 1, 2)];
    let direct = nodes.publish(0, "direct").await.unwrap();
    assert!(!direct.is_repeat);
    let first = begin(&nodes, one, 4).await;
    assert!(first > direct.id);
    let keys = ["a", "a", "direct", "b"].iter().zip(0..);
    let messages: Vec<_> = keys.map(|(key, n)| message(&nodes, 0, key, nth(first, n))).collect();
    let published = finish(&nodes, one, stored(messages)).await;
    assert_eq!(published, [(first, false), (first, true), (direct.id, true), (nth(first, 3), false)]);
    let second = begin(&nodes, two, 3).await;
    let messages = [
        message(&nodes, 1, "b", second),
        known(message(&nodes, 1, "a", first)),
        message(&nodes, 1, "c", nth(second, 2)),
    ];
    let published = nodes.finish(two, stored(messages)).await.unwrap();
    let ids: Vec<_> = published.iter().map(|submitted| (submitted.id, submitted.is_repeat)).collect();
    assert_eq!(ids, [(nth(first, 3), true), (first, true), (nth(second, 2), false)]);
    assert_eq!(published[1].position.seq + 2, published[2].position.seq, "the position of the first message");
    let again = nodes.publish(1, "c").await.unwrap();
    assert_eq!((again.id, again.is_repeat), (nth(second, 2), true));
    let all = [("direct", direct.id), ("a", first), ("b", nth(first, 3)), ("c", nth(second, 2))];
    expect_messages(&mut nodes, &[0, 1], &all).await;
}

/// The store may have the message although its batch has failed.
pub(crate) async fn what_has_failed_can_be_published_later(mut nodes: impl BatchNodes) {
    let [one, two] = [batch(&nodes, 0, 1), batch(&nodes, 1, 2)];
    let first = begin(&nodes, one, 3).await;
    let outcome = BatchOutcome { has_failed: true, ..stored([message(&nodes, 0, "b", nth(first, 1))]) };
    assert_eq!(finish(&nodes, one, outcome).await, [(nth(first, 1), false)]);
    let next = begin(&nodes, two, 3).await;
    let messages = [
        known(message(&nodes, 1, "a", first)),
        // With another key, only the id shows that it was published.
        known(message(&nodes, 1, "b again", nth(first, 1))),
        message(&nodes, 1, "c", nth(next, 2)),
    ];
    let published = finish(&nodes, two, stored(messages)).await;
    assert_eq!(published, [(first, false), (nth(first, 1), true), (nth(next, 2), false)]);
    let all = [("b", nth(first, 1)), ("a", first), ("c", nth(next, 2))];
    expect_messages(&mut nodes, &[0, 1], &all).await;
}

/// A client repeats a message only if it got no acknowledgement. The host may always repeat one.
pub(crate) async fn of_what_is_unknown_only_messages_of_members_are_published(mut nodes: impl BatchNodes) {
    let one = batch(&nodes, 0, 1);
    let old = MessageId::first_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    begin(&nodes, one, 4).await;
    let of_member = known(message(&nodes, 0, "old", old));
    let of_host = BatchMessage { entry: None, ..known(message(&nodes, 0, "host", nth(old, 1))) };
    let published = finish(&nodes, one, stored([of_member.clone(), of_host, of_member])).await;
    assert_eq!(published, [(old, false), (nth(old, 1), true), (old, true)]);
    let end = nodes.publish(1, "end").await.unwrap();
    expect_messages(&mut nodes, &[0, 1], &[("old", old), ("end", end.id)]).await;
}
