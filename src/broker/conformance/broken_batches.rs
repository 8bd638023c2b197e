//! Runs the suite for batches with the shared broker, and with brokers that break its rules, which it must detect.

use crate::broker::conformance::batches::{self as suite, BatchNodes, RemoteNodes, batch_conformance_tests};
use crate::broker::{
    BatchId, BatchOutcome, BatchStart, EntryId, RoomEvent, RoomPlace, SharedBroker, Submitted, Unavailable,
};
use crate::ids::MessageId;
use crate::sync::{Mutex, lock};

async fn shared() -> RemoteNodes<SharedBroker> {
    let broker = SharedBroker::new();
    RemoteNodes::new([broker.node(), broker.node()], broker, |broker, node| broker.remove_node(node)).await
}

async fn in_paused_time() -> RemoteNodes<SharedBroker> {
    tokio::time::pause();
    shared().await
}

batch_conformance_tests!(in_paused_time,);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Two batches may be under way.
    BothBegin,
    /// A batch that is not prolonged goes on.
    NeverEnds,
    /// A batch that is prolonged ends.
    IsNotProlonged,
    /// A batch can be finished after its time is over.
    FinishesLate,
    /// A finish that is repeated publishes the messages again.
    FinishesAgain,
    ForgetsKeys,
    /// The messages of a failed batch count as published.
    ForgetsFailures,
}

/// Nodes with a fault.
struct Broken {
    nodes: RemoteNodes<SharedBroker>,
    fault: Fault,
    state: Mutex<BrokenState>,
}

#[derive(Default)]
struct BrokenState {
    /// The batches that have begun so far, with their first ids.
    begun: Vec<(BatchId, MessageId)>,
    finished: Vec<BatchId>,
    /// How many keys were replaced.
    keys: u64,
}

impl Broken {
    async fn new(fault: Fault) -> Broken {
        Broken { nodes: shared().await, fault, state: Mutex::default() }
    }

    /// Gives the messages keys that nothing else has.
    fn replace_keys(&self, outcome: &mut BatchOutcome) {
        for message in &mut outcome.messages {
            let mut state = lock(&self.state);
            state.keys += 1;
            message.key = format!("{} {}", message.key, state.keys);
        }
    }
}

impl BatchNodes for Broken {
    fn entry(&self, node: usize) -> EntryId {
        self.nodes.entry(node)
    }

    async fn begin(
        &self,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> Result<BatchStart, Unavailable> {
        let (earlier, latest) = {
            let state = lock(&self.state);
            let earlier = state.begun.iter().find(|(earlier, _)| *earlier == batch).copied();
            (earlier, state.begun.last().copied())
        };
        match (self.fault, earlier, latest) {
            (Fault::IsNotProlonged, Some((_, first)), _) => return Ok(BatchStart::Begun(first)),
            (Fault::NeverEnds, None, Some((latest, _))) => drop(self.nodes.begin(latest, 0, None).await),
            _ => {}
        }
        let start = self.nodes.begin(batch, len, floor).await?;
        match (self.fault, start) {
            (Fault::BothBegin, BatchStart::Busy) => Ok(BatchStart::Begun(MessageId::ZERO)),
            (_, BatchStart::Begun(first)) if earlier.is_none() => {
                lock(&self.state).begun.push((batch, first));
                Ok(start)
            }
            _ => Ok(start),
        }
    }

    async fn finish(&self, batch: BatchId, mut outcome: BatchOutcome) -> Result<Vec<Submitted>, Unavailable> {
        match self.fault {
            Fault::ForgetsKeys => self.replace_keys(&mut outcome),
            Fault::ForgetsFailures => outcome.has_failed = false,
            Fault::FinishesAgain if lock(&self.state).finished.contains(&batch) => {
                self.replace_keys(&mut outcome);
                for message in &outcome.messages {
                    self.nodes.publish(0, &message.key).await?;
                }
            }
            _ => {}
        }
        let finished = self.nodes.finish(batch, outcome).await;
        lock(&self.state).finished.push(batch);
        match self.fault {
            Fault::FinishesLate => Ok(finished.unwrap_or_default()),
            _ => finished,
        }
    }

    async fn publish(&self, node: usize, key: &str) -> Result<Submitted, Unavailable> {
        self.nodes.publish(node, key).await
    }

    async fn place(&self, node: usize, after: Option<MessageId>) -> Option<RoomPlace> {
        self.nodes.place(node, after).await
    }

    async fn next_message(&mut self, node: usize) -> RoomEvent {
        self.nodes.next_message(node).await
    }

    fn lose(&mut self, node: usize) {
        self.nodes.lose(node);
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "another one is under way")]
async fn the_suite_detects_two_batches_at_a_time() {
    suite::one_batch_is_under_way(Broken::new(Fault::BothBegin).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "does not begin")]
async fn the_suite_detects_a_batch_that_never_ends() {
    suite::the_batch_of_a_node_that_was_slow_changes_nothing(Broken::new(Fault::NeverEnds).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left: Begun")]
async fn the_suite_detects_a_batch_that_ends_too_early() {
    suite::a_batch_goes_on_while_it_is_prolonged(Broken::new(Fault::IsNotProlonged).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "another batch is under way")]
async fn the_suite_detects_a_batch_that_is_finished_too_late() {
    suite::the_batch_of_a_node_that_was_slow_changes_nothing(Broken::new(Fault::FinishesLate).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "node 0")]
async fn the_suite_detects_messages_that_are_published_again() {
    suite::a_repeated_finish_changes_nothing(Broken::new(Fault::FinishesAgain).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left: [")]
async fn the_suite_detects_keys_that_are_forgotten() {
    suite::a_key_is_published_once(Broken::new(Fault::ForgetsKeys).await).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left: [")]
async fn the_suite_detects_failures_that_are_forgotten() {
    suite::what_has_failed_can_be_published_later(Broken::new(Fault::ForgetsFailures).await).await;
}
