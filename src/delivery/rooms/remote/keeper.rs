//! Stores the messages of rooms that several nodes share.
//!
//! Each node stores what its own members and its host send. For each room with such messages it has a queue, and a task that
//! works on it: it begins a batch, has the store append the messages under the ids that the broker has given, and ends the
//! batch, which publishes them. As only one node has a batch of the room at a time, all nodes together store the messages of a
//! room in the order in which its members get them. If a node is gone, its batch ends by itself, and another one begins. What
//! the store has of it counts as not published, until its sender sends it again.
//!
//! A message that is stored behind is published in the same way, and a second task stores it.

mod batch;
mod behind;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Sent;
use crate::broker::wire;
use crate::broker::{BatchId, BoxFuture, EntryId, Submitted, Unavailable};
use crate::config::Keep;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::message_ids::WaitingId;
use crate::delivery::refusal::NotPublished;
use crate::delivery::rooms::Rooms;
use crate::delivery::rooms::keeping::Draft;
use crate::ids::{MessageId, RoomId};
use crate::protocol::receipt::Receipt;
use crate::store::StoredMessage;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

/// The messages of this node that are not stored yet.
pub(super) struct Unstored {
    /// A room is here as long as a task works on its queue.
    rooms: Mutex<HashMap<RoomId, Queue>>,
    next_number: AtomicU64,
}

/// The messages of a room.
#[derive(Default)]
struct Queue {
    /// They are published when they are stored, in this order.
    waiting: VecDeque<Waiting>,
    /// They are published already.
    behind: VecDeque<StoredMessage>,
    /// Those of all messages, including the ones that a task works on.
    bytes: usize,
    is_publishing: bool,
    is_storing_behind: bool,
}

/// A message that is to be published.
struct Waiting {
    keep: Keep,
    entry: Option<EntryId>,
    key: String,
    /// As the store gets it, with an id that is yet to be set.
    stored: StoredMessage,
    /// As the nodes get it.
    body: Bytes,
    reply: Reply,
}

/// Where the answer to a message goes.
struct Reply {
    /// Present if the sender's session remembers the message: also if its connection is replaced while it waits.
    waiting_id: Option<WaitingId>,
    sender: oneshot::Sender<Result<Submitted, Unavailable>>,
}

impl Reply {
    fn published(self, submitted: Submitted) {
        let Submitted { position, id, .. } = submitted;
        if let Some(waiting_id) = self.waiting_id {
            waiting_id.remember(Receipt { position, id });
        }
        // The sender may be gone.
        let _ = self.sender.send(Ok(submitted));
    }
}

/// A task that works on a queue. If it ends by a panic, what waits is refused.
struct Work {
    rooms: Arc<Rooms>,
    room: RoomId,
    kind: WorkKind,
    is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WorkKind {
    Publishing,
    StoringBehind,
}

impl Unstored {
    pub(super) fn new() -> Unstored {
        // An earlier process may have had the same number as a node.
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Unstored { rooms: Mutex::default(), next_number: AtomicU64::new(start.as_micros() as u64) }
    }

    fn next_id(&self, node: u32) -> BatchId {
        BatchId { node, number: self.next_number.fetch_add(1, Ordering::Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Queue>> {
        lock(&self.rooms)
    }

    /// The messages of a room that are published, but perhaps not stored yet.
    pub(super) fn behind(&self, room: &RoomId) -> Vec<StoredMessage> {
        self.lock().get(room).map_or(Vec::new(), |queue| queue.behind.iter().cloned().collect())
    }
}

impl Queue {
    fn is_running(&mut self, kind: WorkKind) -> &mut bool {
        match kind {
            WorkKind::Publishing => &mut self.is_publishing,
            WorkKind::StoringBehind => &mut self.is_storing_behind,
        }
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.body.len() + self.stored.body().len()
    }
}

impl Rooms {
    /// The messages of a room that members on several nodes have, but perhaps not the store yet, as far as they are of this
    /// node.
    pub(in crate::delivery::rooms) fn behind(&self, room: &RoomId) -> Vec<StoredMessage> {
        self.remote.as_ref().map_or(Vec::new(), |remote| remote.unstored.behind(room))
    }

    /// Submits a message of a member, as [`Rooms::submit`], and has it stored. `key` is for messages that are not stored.
    pub(crate) fn submit_to_store(
        self: &Arc<Self>,
        room: &Arc<LiveRoom>,
        keep: Keep,
        draft: Draft,
        key: Option<String>,
    ) -> Result<BoxFuture<'static, Result<Submitted, Unavailable>>, NotPublished> {
        let frame = draft.frame(room.id());
        let mut state = room.lock();
        self.check_backpressure(room, &mut state, &frame)?;
        let body = wire::encode_frame(&frame);
        let replica = state.remote.as_mut().ok_or(NotPublished::Closed)?;
        // Without an entry, it would be a frame of the host.
        let entry = draft.member.and_then(|member| replica.entry_of(member)).ok_or(NotPublished::Closed)?;
        replica.in_flight().add(entry, body.len(), draft.received);
        drop(state);
        let mut sent = Sent { room: room.clone(), sender: entry, bytes: body.len(), will_arrive: false };
        let published = self.enqueue(room.id(), keep, Some(entry), draft, key, body)?;
        Ok(Box::pin(async move {
            let published = published.await;
            sent.on_answer(published);
            published
        }))
    }

    /// Submits a message of the host, as [`Rooms::submit_for_host`], and has it stored.
    pub(super) fn submit_to_store_for_host(
        self: &Arc<Self>,
        room: &RoomId,
        keep: Keep,
        draft: Draft,
        key: Option<String>,
    ) -> Result<BoxFuture<'static, Result<Submitted, Unavailable>>, NotPublished> {
        let body = wire::encode_frame(&draft.frame(room));
        self.enqueue(room, keep, None, draft, key, body)
    }

    fn enqueue(
        self: &Arc<Self>,
        room: &RoomId,
        keep: Keep,
        entry: Option<EntryId>,
        mut draft: Draft,
        key: Option<String>,
        body: Bytes,
    ) -> Result<BoxFuture<'static, Result<Submitted, Unavailable>>, NotPublished> {
        let Some(remote) = &self.remote else { return Err(NotPublished::Closed) };
        let unstored = &remote.unstored;
        let of_store = draft.key.as_ref().filter(|_| keep != Keep::Never).map(|key| format!("store:{key}"));
        let key =
            of_store.or(key).unwrap_or_else(|| format!("batch:{}", unstored.next_id(remote.broker.node())));
        let (sender, answer) = oneshot::channel();
        let reply = Reply { waiting_id: draft.waiting_id.take(), sender };
        let stored = draft.stored(MessageId::ZERO);
        // It has a user, which is host code.
        drop(draft);
        let waiting = Waiting { keep, entry, key, stored, body, reply };
        let mut queues = unstored.lock();
        let queue = queues.entry(room.clone()).or_default();
        if queue.bytes > 0 && queue.bytes.saturating_add(waiting.len()) > self.max_queue_bytes {
            return Err(NotPublished::StoreFull);
        }
        queue.bytes += waiting.len();
        queue.waiting.push_back(waiting);
        let work = Work::begin(self, room, queue, WorkKind::Publishing);
        drop(queues);
        if let Some(work) = work {
            self.tasks.spawn_for_host(work.publish_all());
        }
        Ok(Box::pin(async { answer.await.unwrap_or(Err(Unavailable)) }))
    }
}

impl Work {
    /// The task that is to be started, unless it runs.
    fn begin(rooms: &Arc<Rooms>, room: &RoomId, queue: &mut Queue, kind: WorkKind) -> Option<Work> {
        let was_running = std::mem::replace(queue.is_running(kind), true);
        (!was_running).then(|| Work { rooms: rooms.clone(), room: room.clone(), kind, is_over: false })
    }

    /// Changes the queue of the room.
    fn with_queue<T: Default>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        let Some(remote) = &self.rooms.remote else { return T::default() };
        remote.unstored.lock().get_mut(&self.room).map_or_else(T::default, work)
    }

    /// Takes what the task does next. If there is nothing, the task is over.
    fn next<T>(&mut self, take: impl FnOnce(&mut Queue) -> Option<T>) -> Option<T> {
        let remote = self.rooms.remote.as_ref()?;
        let mut queues = remote.unstored.lock();
        let queue = queues.get_mut(&self.room)?;
        let next = take(queue);
        if next.is_none() {
            self.is_over = true;
            *queue.is_running(self.kind) = false;
            if !queue.is_publishing && !queue.is_storing_behind {
                queues.remove(&self.room);
            }
        }
        next
    }

    /// Notes that the queue does not have so many bytes any more.
    fn free(&self, bytes: usize) {
        self.with_queue(|queue| queue.bytes = queue.bytes.saturating_sub(bytes));
    }

    /// Refuses all messages that wait.
    fn refuse_all(&self) {
        let waiting = self.with_queue(|queue| std::mem::take(&mut queue.waiting));
        self.free(waiting.iter().map(Waiting::len).sum());
    }
}

impl Drop for Work {
    /// If the task has panicked, nothing else works on the queue.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        match self.kind {
            WorkKind::Publishing => self.refuse_all(),
            WorkKind::StoringBehind => self.give_up_behind(),
        }
        self.with_queue(|queue| *queue.is_running(self.kind) = false);
    }
}
