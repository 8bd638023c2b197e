//! Access to the message store: with timeouts, again after failures, and for each room one batch at a time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::doubts::Doubts;
use super::store_watch::StoreWatch;
use crate::config::Config;
use crate::health::Health;
use crate::hooks::guard::{self, Panicked};
use crate::ids::{MessageId, RoomId};
use crate::stats::{Counters, LiveHistogram};
use crate::store::erased::{ErasedStore, StoreError};
use crate::store::{PageRange, StoredMessage};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::tasks::Tasks;

/// How long it takes until the store is asked again to append the same batch.
const TRIES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// If the store refuses this many messages one by one and has accepted none, the messages are not the reason.
const MAX_REFUSED: usize = 16;

/// The store, and what is known about it.
pub(crate) struct Keeper {
    store: Arc<dyn ErasedStore>,
    timeout: Duration,
    /// Once a shutdown has begun, the store has this much time for everything.
    shutdown_timeout: Duration,
    doubts: Mutex<Doubts>,
    counters: Arc<Counters>,
    turns: Arc<Turns>,
    watch: StoreWatch,
}

/// The rooms for which the store works on a batch, and the batches that wait for their turns, in order. A closed room and
/// a new room with the same id take turns.
#[derive(Default)]
struct Turns(Mutex<HashMap<RoomId, VecDeque<oneshot::Sender<Turn>>>>);

/// Until it is dropped, the store works on no other batch of the room.
pub(super) struct Turn {
    turns: Arc<Turns>,
    room: RoomId,
}

/// Under which ids the store has the messages of a batch; `None` for those that it refuses.
pub(super) type Stored = Vec<Option<MessageId>>;

impl Keeper {
    pub(super) fn new(store: Arc<dyn ErasedStore>, config: &Config, counters: Arc<Counters>) -> Keeper {
        let timeouts = &config.timeouts;
        Keeper {
            store,
            timeout: timeouts.store_timeout,
            shutdown_timeout: timeouts.shutdown_timeout,
            doubts: Mutex::new(Doubts::new(SystemTime::now())),
            turns: Arc::default(),
            watch: StoreWatch::new(),
            counters,
        }
    }

    /// Whether the store works.
    pub(super) fn health(&self) -> Health {
        self.watch.health()
    }

    /// Waits until the store works on no other batch of the room.
    pub(super) async fn turn(&self, room: &RoomId) -> Turn {
        Turns::next(&self.turns, room).await
    }

    /// Appends messages, and tries again if the store fails, so a lost answer does no harm. If the store continues to
    /// fail, one of the messages may be the reason, so they are appended one by one. `None` if the store has failed.
    pub(super) async fn append(
        &self,
        tasks: &Tasks,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> Option<Stored> {
        let work = async {
            for wait in TRIES {
                match self.append_once(room, messages).await {
                    Ok(ids) => return Ok(ids.into_iter().map(Some).collect()),
                    Err(error) => self.watch.tries_again(room, &error),
                }
                sleep(wait).await;
            }
            match self.append_once(room, messages).await {
                Ok(ids) => Ok(ids.into_iter().map(Some).collect()),
                Err(error) if messages.len() == 1 => Err(error),
                Err(error) => self.append_each(room, messages, error).await,
            }
        };
        self.answer(tasks, room, &self.counters.store_append, work).await
    }

    /// Appends messages. If the store panics, it has failed: one of the messages may be the reason.
    async fn append_once(
        &self,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> Result<Vec<MessageId>, StoreError> {
        let answer = guard::catch("append", self.store.append(room, messages)).await;
        answer.unwrap_or_else(|Panicked| Err(StoreError::panicked()))
    }

    /// Appends messages one by one. Fails if the store takes none of them.
    async fn append_each(
        &self,
        room: &RoomId,
        messages: &[StoredMessage],
        mut error: StoreError,
    ) -> Result<Stored, StoreError> {
        let mut stored = vec![None; messages.len()];
        // If the store has recovered in the meantime, it accepts in the second round what it refused in the first.
        for _ in 0..2 {
            let (mut taken, mut refused) = (0, 0);
            for (message, stored) in messages.iter().zip(&mut stored).filter(|(_, stored)| stored.is_none()) {
                match self.append_once(room, slice::from_ref(message)).await {
                    Ok(ids) => {
                        *stored = ids.first().copied();
                        taken += 1;
                    }
                    Err(refusal) => {
                        error = refusal;
                        refused += 1;
                    }
                }
                if taken == 0 && refused == MAX_REFUSED {
                    break;
                }
            }
            if stored.iter().all(Option::is_none) {
                return Err(error);
            }
        }
        let refused = messages.iter().zip(&stored).filter(|(_, stored)| stored.is_none());
        for (message, _) in refused {
            self.watch.refuses(room, message.id(), &error);
        }
        Ok(stored)
    }

    /// The id of the latest message in the store; `None` if the store has failed.
    pub(super) async fn latest(&self, tasks: &Tasks, room: &RoomId) -> Option<Option<MessageId>> {
        let page = self.page(tasks, room, PageRange::Latest, 1).await?;
        Some(page.last().map(StoredMessage::id))
    }

    /// A page of messages; `None` if the store has failed.
    pub(super) async fn page(
        &self,
        tasks: &Tasks,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Option<Vec<StoredMessage>> {
        self.answer(tasks, room, &self.counters.store_page, self.store.page(room, range, limit)).await
    }

    async fn answer<T>(
        &self,
        tasks: &Tasks,
        room: &RoomId,
        times: &LiveHistogram,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let limit = self.limit(tasks, self.timeout);
        let (mut work, mut limit) = (pin!(guard::catch("store", work)), pin!(limit));
        let answer = poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| None),
        });
        let start = Instant::now();
        let answer = answer.await;
        times.add(start.elapsed());
        match answer {
            Some(Ok(Ok(answer))) => {
                self.watch.works();
                return Some(answer);
            }
            Some(Ok(Err(error))) => self.watch.has_failed(room, &error),
            Some(Err(Panicked)) => self.watch.has_panicked(),
            None => self.watch.was_too_slow(room, self.timeout),
        }
        self.counters.store_failures.add(1);
        None
    }

    /// Completes after this time, or when a shutdown has taken too long.
    pub(super) async fn limit(&self, tasks: &Tasks, time: Duration) {
        let _ = timeout(time, tasks.closing_for(self.shutdown_timeout)).await;
    }

    /// How long the store may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is known of messages that the store may have without the members having had them.
    pub(super) fn doubts(&self) -> MutexGuard<'_, Doubts> {
        lock(&self.doubts)
    }
}

impl Turns {
    async fn next(turns: &Arc<Turns>, room: &RoomId) -> Turn {
        let own = || Turn { turns: turns.clone(), room: room.clone() };
        let turn = match lock(&turns.0).entry(room.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::new());
                return own();
            }
            Entry::Occupied(mut entry) => {
                let (begin, turn) = oneshot::channel();
                entry.get_mut().push_back(begin);
                turn
            }
        };
        // Nobody drops the sender without sending.
        turn.await.unwrap_or_else(|_| own())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut rooms = lock(&self.turns.0);
        let next = rooms.get_mut(&self.room).and_then(VecDeque::pop_front);
        if next.is_none() {
            rooms.remove(&self.room);
        }
        drop(rooms);
        if let Some(next) = next {
            // If the receiver is gone, the turn is dropped again, and so the next one begins.
            let _ = next.send(Turn { turns: self.turns.clone(), room: self.room.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn turns_come_in_the_order_in_which_they_are_asked_for() {
        let (turns, room) = (Arc::new(Turns::default()), RoomId::from("r"));
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = Turns::next(&turns, &room).await;
        let mut tasks = Vec::new();
        for n in 0..4 {
            let (turns, room, order) = (turns.clone(), room.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let turn = Turns::next(&turns, &room).await;
                lock(&order).push(n);
                // Others wait, so this task does not get the next turn immediately.
                drop(turn);
                drop(Turns::next(&turns, &room).await);
                lock(&order).push(n);
            }));
            yield_now().await;
        }
        // This task stops waiting.
        tasks.remove(1).abort();
        yield_now().await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*lock(&order), [0, 2, 3, 0, 2, 3]);
        assert!(lock(&turns.0).is_empty());
        drop(Turns::next(&turns, &RoomId::from("other")).await);
    }
}
