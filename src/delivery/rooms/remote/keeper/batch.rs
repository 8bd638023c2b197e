//! Publishes the messages of a room, in batches: those that are stored first when they are stored.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Waiting, Work};
use crate::broker::{BatchId, BatchMessage, BatchOutcome, BatchStart, Submitted, Unavailable};
use crate::config::Keep;
use crate::delivery::rooms::keeper::Keeper;
use crate::delivery::rooms::remote::Remote;
use crate::ids::MessageId;
use crate::store::StoredMessage;

/// How long the broker may take to begin a batch.
const BEGIN_WAIT: Duration = Duration::from_secs(1);

/// How long it may take to end one. The messages are stored already, so it is worth to wait until the broker is there again.
const FINISH_WAIT: Duration = Duration::from_secs(4);

/// While the store works, the batch is prolonged this often.
const PROLONG_EVERY: Duration = Duration::from_secs(1);

/// While another batch is under way, the broker is asked again after this time: at first, and at most.
const BUSY_WAIT: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// The most messages of a batch: the broker publishes all of them in one step.
const MAX_MESSAGES: usize = 200;

/// A batch that is under way.
struct Batch<'a> {
    work: &'a Work,
    keeper: &'a Keeper,
    remote: &'a Remote,
    id: BatchId,
}

impl Work {
    /// Publishes the messages of the queue until it is empty.
    pub(super) async fn publish_all(mut self) {
        let rooms = self.rooms.clone();
        let (Some(keeper), Some(remote)) = (&rooms.keeper, &rooms.remote) else { return };
        loop {
            if let Some(room) = rooms.get(self.room.as_str()) {
                rooms.until_delivered(&room).await;
            }
            let max_bytes = rooms.max_batch_bytes();
            let Some(messages) = self.next(|queue| next_batch(&mut queue.waiting, max_bytes)) else { return };
            let bytes = messages.iter().map(Waiting::len).sum();
            let id = remote.unstored.next_id(remote.broker.node());
            let has_failed = Batch { work: &self, keeper, remote, id }.publish(messages).await.is_err();
            self.free(bytes);
            if has_failed && rooms.tasks.is_closing() {
                self.refuse_all();
            }
        }
    }
}

/// The next messages that are published together: those that must be stored first with what follows them, or only others.
fn next_batch(waiting: &mut VecDeque<Waiting>, max_bytes: usize) -> Option<Vec<Waiting>> {
    let is_stored_first = waiting.front()?.keep == Keep::First;
    let (mut len, mut bytes) = (0, 0);
    for message in waiting.iter().take(MAX_MESSAGES) {
        bytes += message.len();
        if len > 0 && (bytes > max_bytes || (!is_stored_first && message.keep == Keep::First)) {
            break;
        }
        len += 1;
    }
    Some(waiting.drain(..len).collect())
}

impl Batch<'_> {
    /// Has messages stored and published, and answers their senders. It fails if some of them were not stored.
    async fn publish(&self, messages: Vec<Waiting>) -> Result<(), Unavailable> {
        let begun = self.within(self.keeper.timeout(), self.begin(messages.len())).await;
        let Ok(first) = begun else {
            // The broker may have begun it nevertheless.
            let _ = self.finish(BatchOutcome { messages: Vec::new(), has_failed: true }, BEGIN_WAIT).await;
            return Err(Unavailable);
        };
        let ids = (first.as_u64()..).filter_map(MessageId::from_u64);
        let messages: Vec<(MessageId, Waiting)> = ids.zip(messages).collect();
        let is_stored_first = messages.first().is_some_and(|(_, first)| first.keep == Keep::First);
        let stored = if is_stored_first { self.store(&messages).await } else { Vec::new() };
        let mut stored = stored.into_iter();
        let (mut outcome, mut has_failed) = (Vec::new(), false);
        let (mut published, mut behind) = (Vec::new(), Vec::new());
        for (own, message) in messages {
            let Waiting { keep, entry, key, stored: draft, body, reply } = message;
            let stored = if keep == Keep::Never || !is_stored_first { None } else { stored.next().flatten() };
            has_failed |= stored.is_none() && is_stored_first && keep != Keep::Never;
            if keep == Keep::First && stored.is_none() {
                // The sender is refused.
                continue;
            }
            let id = stored.unwrap_or(own);
            outcome.push(BatchMessage { entry, key, id, is_known: id != own, body });
            behind.push((keep == Keep::Behind && stored.is_none()).then_some(draft));
            published.push(reply);
        }
        let answers = self.finish(BatchOutcome { messages: outcome, has_failed }, FINISH_WAIT).await?;
        let mut unstored = Vec::new();
        for ((reply, behind), answer) in published.into_iter().zip(behind).zip(answers) {
            // If it was published before, it may not be stored.
            unstored.extend(behind.map(|message| message.with_id(answer.id)));
            reply.published(answer);
        }
        self.work.store_behind(unstored);
        if has_failed { Err(Unavailable) } else { Ok(()) }
    }

    /// Begins the batch. Returns the id of its first message.
    async fn begin(&self, len: usize) -> Result<MessageId, Unavailable> {
        let (mut floor, mut wait, room) = (None, BUSY_WAIT.0, &self.work.room);
        loop {
            let start = self.remote.broker.begin_batch(room, self.id, len, floor);
            match timeout(BEGIN_WAIT, start).await.unwrap_or(Err(Unavailable))? {
                BatchStart::Begun(first) => return Ok(first),
                BatchStart::NeedsFloor => {
                    let latest = self.keeper.latest(&self.work.rooms.tasks, room).await.ok_or(Unavailable)?;
                    floor = Some(latest.unwrap_or(MessageId::ZERO));
                }
                BatchStart::Busy => {
                    sleep(wait).await;
                    wait = (wait * 2).min(BUSY_WAIT.1);
                }
            }
        }
    }

    /// Has messages appended to the store, and prolongs the batch meanwhile. Returns under which ids the store has them; `None`
    /// for those that it refuses.
    async fn store(&self, messages: &[(MessageId, Waiting)]) -> Vec<Option<MessageId>> {
        let stored = messages.iter().filter(|(_, message)| message.keep != Keep::Never);
        let all: Vec<StoredMessage> =
            stored.map(|(id, message)| message.stored.clone().with_id(*id)).collect();
        let append = self.keeper.append(&self.work.rooms.tasks, &self.work.room, &all);
        self.prolonged(append).await.unwrap_or_default()
    }

    /// Prolongs the batch while something goes on.
    async fn prolonged<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let mut prolong = pin!(async {
                sleep(PROLONG_EVERY).await;
                // The length counts only at the beginning.
                let _ =
                    timeout(BEGIN_WAIT, self.remote.broker.begin_batch(&self.work.room, self.id, 0, None))
                        .await;
            });
            let result = poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => prolong.as_mut().poll(cx).map(|()| None),
            });
            if let Some(result) = result.await {
                return result;
            }
        }
    }

    /// Ends the batch.
    async fn finish(&self, outcome: BatchOutcome, limit: Duration) -> Result<Vec<Submitted>, Unavailable> {
        let finished = self.remote.broker.finish_batch(&self.work.room, self.id, outcome);
        let start = Instant::now();
        let finished = self.within(limit, finished).await;
        self.remote.counters.broker_publish.add(start.elapsed());
        finished
    }

    /// Fails if something takes longer than this, or if a shutdown has taken too long.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let limit = self.keeper.limit(&self.work.rooms.tasks, limit);
        let (mut work, mut limit) = (pin!(work), pin!(limit));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(Unavailable)),
        })
        .await
    }
}
