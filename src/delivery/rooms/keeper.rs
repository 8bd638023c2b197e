//! Stores the messages of rooms before, or after, their members get them.
//!
//! Each room has a queue, and while that is not empty, a task that works on it: it has the store append what waits, all
//! at once, and then publishes it. What comes meanwhile is the next batch. No lock is held while the store works, and
//! rooms do not wait for each other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::doubts::Doubts;
use super::{BATCH_SHARE, Rooms};
use crate::broker::Unavailable;
use crate::config::{Config, Keep};
use crate::delivery::live_room::LiveRoom;
use crate::delivery::message_hooks::Called;
use crate::delivery::refusal::NotPublished;
use crate::delivery::room_state::RoomState;
use crate::delivery::store_queue::{Outcome, StoreQueue};
use crate::hooks::guard::{self, Panicked};
use crate::hooks::message::Message;
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::inbound::Body;
use crate::protocol::outbound::RoomFrame;
use crate::protocol::receipt::Receipt;
use crate::stats::{Counters, LiveHistogram};
use crate::store::erased::{ErasedStore, StoreError};
use crate::store::{MAX_APPEND, PageRange, StoredMessage};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::tasks::Tasks;

/// How long the task waits before it tries again with the same batch.
const TRIES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// How long it waits before it tries again to store what the members have already: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// After this many times, it gives up.
const MAX_RETRIES: u32 = 30;

/// While the room has to deliver other frames first, this is how often it is checked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// The store, and what is known about it.
pub(crate) struct Keeper {
    store: Arc<dyn ErasedStore>,
    timeout: Duration,
    /// Once a shutdown has begun, the store has this much time.
    shutdown_timeout: Duration,
    doubts: Mutex<Doubts>,
    counters: Arc<Counters>,
}

/// A message that is to be stored.
pub(crate) struct Draft {
    pub(crate) body: Body<'static>,
    pub(crate) tail: Box<str>,
    /// `None` for the host.
    pub(crate) member: Option<ConnectionId>,
    pub(crate) key: Option<String>,
    /// When it was received, if it is measured how long its delivery takes.
    pub(crate) received: Option<Duration>,
    /// What the host is told. Its id, position and time are still to be set.
    pub(crate) message: Message,
}

/// What the sender of a message learns.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) receipt: Receipt,
    /// The members have had it before.
    pub(crate) is_repeated: bool,
    /// The callback for the message, if the host wants to be told.
    pub(crate) called: Option<Called>,
}

pub(crate) type Keeping = oneshot::Receiver<Result<Kept, Unavailable>>;

/// A message in the queue.
pub(crate) struct Waiting {
    pub(super) draft: Draft,
    /// Until it was answered.
    reply: Option<oneshot::Sender<Result<Kept, Unavailable>>>,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn ErasedStore>, config: &Config, counters: Arc<Counters>) -> Keeper {
        let timeouts = &config.timeouts;
        Keeper {
            store,
            timeout: timeouts.store_timeout,
            shutdown_timeout: timeouts.shutdown_timeout,
            doubts: Mutex::new(Doubts::new(SystemTime::now())),
            counters,
        }
    }

    /// Appends messages, and repeats it if the store fails: so an answer that was lost does no harm.
    async fn append(
        &self,
        tasks: &Tasks,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> Option<Vec<MessageId>> {
        let work = async {
            for wait in TRIES {
                match self.store.append(room, messages).await {
                    Ok(ids) => return Ok(ids),
                    Err(error) => tracing::warn!(%room, %error, "messages could not be stored; trying again"),
                }
                sleep(wait).await;
            }
            self.store.append(room, messages).await
        };
        self.answer(tasks, room, &self.counters.store_append, work).await
    }

    /// The id of the latest message in the store; `None` if the store has failed.
    async fn latest(&self, tasks: &Tasks, room: &RoomId) -> Option<Option<MessageId>> {
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
        let limit = async {
            if tasks.is_closing_within(self.timeout).await {
                sleep(self.shutdown_timeout.min(self.timeout)).await;
            }
        };
        let (mut work, mut limit) = (pin!(guard::catch("store", work)), pin!(limit));
        let answer = poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| None),
        });
        let start = Instant::now();
        let answer = answer.await;
        times.add(start.elapsed());
        match answer {
            Some(Ok(Ok(answer))) => return Some(answer),
            Some(Ok(Err(error))) => tracing::error!(%room, %error, "the message store has failed"),
            Some(Err(Panicked)) => {}
            None => {
                tracing::error!(%room, "the message store did not answer within `Timeouts::store_timeout`")
            }
        }
        self.counters.store_failures.add(1);
        None
    }

    /// What is known of messages that the store may have without the members having had them.
    pub(super) fn doubts(&self) -> MutexGuard<'_, Doubts> {
        lock(&self.doubts)
    }
}

impl Draft {
    /// The message as the store gets it.
    pub(super) fn stored(&self, id: MessageId) -> StoredMessage {
        let mut stored = StoredMessage::new(id, self.message.body.as_str());
        if let Some(key) = &self.key {
            stored = stored.with_key(key.as_str());
        }
        let Some(sender) = &self.message.sender else { return stored };
        stored = stored.with_connection(sender.connection).with_name(sender.name.as_str());
        match &sender.user {
            Some(user) => stored.with_user(user.id()),
            None => stored,
        }
    }

    fn frame(&self, room: &RoomId) -> RoomFrame<'_> {
        match self.member {
            Some(member) => self.body.frame(&self.tail, member, room),
            None => self.body.host_frame(room),
        }
    }

    fn len(&self) -> usize {
        self.message.body.len() + self.tail.len()
    }
}

impl Rooms {
    /// Has a message stored and published. Returns where the answer comes from.
    pub(crate) fn keep(
        self: &Arc<Self>,
        room: &Arc<LiveRoom>,
        keep: Keep,
        draft: Draft,
    ) -> Result<Keeping, NotPublished> {
        let (reply, keeping) = oneshot::channel();
        let (bytes, mut waiting) = (draft.len(), Waiting { draft, reply: Some(reply) });
        let now = SystemTime::now();
        let mut guard = room.lock();
        let state = &mut *guard;
        self.check_backpressure(room, state, &waiting.draft.frame(room.id()))?;
        let queue = state.store_queue.get_or_insert_default();
        if queue.bytes() > 0 && queue.bytes().saturating_add(bytes) > self.max_queue_bytes {
            return Err(NotPublished::StoreFull);
        }
        let may_go_out = keep == Keep::Behind && queue.in_order_after.is_some() && !queue.has_waiting();
        let id = may_go_out.then(|| state.take_id(now));
        if let Some(id) = id {
            self.send_out(room, state, &mut waiting, id);
        }
        let Some(queue) = &mut state.store_queue else { return Err(NotPublished::Closed) };
        queue.push(keep, id, bytes, waiting);
        let was_running = std::mem::replace(&mut queue.is_running, true);
        self.start_flush(room, guard, true);
        if !was_running {
            self.tasks.spawn_for_host(work(self.clone(), room.clone()));
        }
        Ok(keeping)
    }

    /// Publishes a message, and answers its sender.
    fn send_out(&self, room: &Arc<LiveRoom>, state: &mut RoomState, waiting: &mut Waiting, id: MessageId) {
        let Waiting { draft, reply } = waiting;
        if let Some(member) = draft.member {
            state.drop_transients(member);
        }
        let receipt = state.publish_as(&self.broker, &draft.frame(room.id()), id);
        state.pending.note_received(draft.received);
        let called = self.hooks.as_ref().map(|hooks| {
            let Receipt { position, id } = receipt;
            let message = Message { id, position, time: id.time(), ..draft.message.clone() };
            hooks.queue_in_task(room, state, message)
        });
        answer(reply, Ok(Kept { receipt, is_repeated: false, called }));
    }

    /// Does with the messages of a batch what their outcomes say.
    fn conclude(&self, keeper: &Keeper, room: &Arc<LiveRoom>, ids: Option<Vec<MessageId>>) {
        let mut guard = room.lock();
        let state = &mut *guard;
        let Some(mut queue) = state.store_queue.take() else { return };
        let mut is_in_order = true;
        queue.finish(ids, |waiting, outcome| match outcome {
            Outcome::Out(id) => self.send_out(room, state, waiting, id),
            Outcome::Known(id) if keeper.doubts().is_out(room.id(), id) => {
                let receipt = Receipt { position: state.position(), id };
                answer(&mut waiting.reply, Ok(Kept { receipt, is_repeated: true, called: None }));
            }
            Outcome::Known(id) => {
                is_in_order = false;
                // Clients that have entered before have been told of lower ids, and later ones of this one.
                let until = state.take_id(SystemTime::now());
                keeper.doubts().note_late(room.id(), id, until);
                self.send_out(room, state, waiting, id);
            }
            Outcome::Failed(id) => {
                is_in_order = false;
                keeper.doubts().note_failed(room.id(), id);
                answer(&mut waiting.reply, Err(Unavailable));
            }
        });
        if !is_in_order {
            // Before the store is known, it stays unknown.
            queue.in_order_after = queue.in_order_after.map(|_| state.last_id());
        }
        state.store_queue = Some(queue);
        self.start_flush(room, guard, true);
    }

    /// Waits until the room has delivered so much that the next batch fits into the members' send queues.
    async fn until_delivered(&self, room: &LiveRoom) {
        while room.lock().pending.len() > self.max_batch_bytes() {
            sleep(LOOK).await;
        }
    }

    /// The room has room for a batch of this size if as much waits already.
    fn max_batch_bytes(&self) -> usize {
        self.max_queue_bytes / BATCH_SHARE / 2
    }

    /// Begins with the next batch of a room. `None` if nothing waits, and the task has to end.
    fn begin_batch(&self, room: &Arc<LiveRoom>) -> Option<Vec<StoredMessage>> {
        self.registry.visit(room, |_, state| {
            let mut queue = state.store_queue.take()?;
            queue.is_running = !queue.is_empty();
            let now = SystemTime::now();
            let messages = queue.is_running.then(|| {
                let batch = queue.begin(MAX_APPEND, self.max_batch_bytes(), || state.take_id(now));
                batch.into_iter().map(|(id, waiting)| waiting.draft.stored(id)).collect()
            });
            state.store_queue = Some(queue);
            messages
        })
    }
}

fn answer(reply: &mut Option<oneshot::Sender<Result<Kept, Unavailable>>>, answer: Result<Kept, Unavailable>) {
    if let Some(reply) = reply.take() {
        // The sender may be gone.
        let _ = reply.send(answer);
    }
}

/// Works on the queue of a room until it is empty.
async fn work(rooms: Arc<Rooms>, room: Arc<LiveRoom>) {
    let Some(keeper) = &rooms.keeper else { return };
    let (tasks, mut wait, mut retries) = (&rooms.tasks, RETRY.0, 0);
    loop {
        rooms.until_delivered(&room).await;
        let is_primed = prime(keeper, tasks, &room).await;
        let Some(messages) = rooms.begin_batch(&room) else { return };
        let ids = match (messages.is_empty(), is_primed) {
            (true, _) => Some(Vec::new()),
            (false, true) => keeper.append(tasks, room.id(), &messages).await,
            (false, false) => None,
        };
        let has_failed = ids.is_none();
        rooms.conclude(keeper, &room, ids);
        if !has_failed {
            (wait, retries) = (RETRY.0, 0);
            continue;
        }
        let has_messages = |queue: &mut Box<StoreQueue<Waiting>>| !queue.is_empty() && !queue.has_waiting();
        if !room.lock().store_queue.as_mut().is_some_and(has_messages) {
            continue;
        }
        retries += 1;
        if tasks.is_closing_within(wait).await || retries == MAX_RETRIES {
            let lost = room.lock().store_queue.as_mut().map_or(0, |queue| queue.give_up());
            tracing::error!(room = %room.id(), lost, "messages that the members have could not be stored");
        }
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Makes sure that the ids of the room are higher than those in the store, even if the clock was set back.
async fn prime(keeper: &Keeper, tasks: &Tasks, room: &LiveRoom) -> bool {
    if room.lock().store_queue.as_ref().is_none_or(|queue| queue.in_order_after.is_some() || queue.is_empty())
    {
        return true;
    }
    let Some(latest) = keeper.latest(tasks, room.id()).await else { return false };
    let mut state = room.lock();
    if let Some(latest) = latest {
        state.raise_last_id(latest);
    }
    let last_id = state.last_id();
    if let Some(queue) = &mut state.store_queue {
        queue.in_order_after = Some(last_id);
    }
    true
}
