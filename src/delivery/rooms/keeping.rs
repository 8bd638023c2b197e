//! Stores the messages of rooms before, or after, their members get them.
//!
//! Each room has a queue, and while that is not empty, a task that works on it: it has the store append what waits, all
//! at once, and then publishes it. Messages that come in the meantime are the next batch. No lock is held while the
//! store works, and rooms do not wait for each other.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::keeper::{Keeper, Stored};
use super::{BATCH_SHARE, Rooms};
use crate::broker::Unavailable;
use crate::config::Keep;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::message_hooks::{Called, Turn};
use crate::delivery::message_ids::WaitingId;
use crate::delivery::refusal::NotPublished;
use crate::delivery::room_state::RoomState;
use crate::delivery::store_queue::{Outcome, StoreQueue};
use crate::hooks::guard;
use crate::hooks::message::Message;
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::inbound::Body;
use crate::protocol::outbound::RoomFrame;
use crate::protocol::receipt::Receipt;
use crate::store::{MAX_APPEND, StoredMessage};
use crate::tasks::Tasks;

/// How long the task waits before it tries again to store what the members have already: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// If it has failed for this long, it gives up.
const GIVE_UP: Duration = Duration::from_secs(5 * 60);

/// How often to check whether the room has delivered the frames that must go out first.
const LOOK: Duration = Duration::from_millis(10);

/// A message that is to be stored.
pub(crate) struct Draft {
    pub(crate) body: Body<'static>,
    pub(crate) tail: Box<str>,
    /// `None` for the host.
    pub(crate) member: Option<ConnectionId>,
    pub(crate) key: Option<String>,
    /// Present if its session remembers it.
    pub(crate) waiting_id: Option<WaitingId>,
    /// When it was received, if its delivery is measured.
    pub(crate) received: Option<Duration>,
    /// What the host is told. Its id, position, time and body are set later.
    message: Message,
    /// What the store gets. Its id is set later.
    stored: StoredMessage,
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
    /// Present until the message is answered.
    reply: Option<oneshot::Sender<Result<Kept, Unavailable>>>,
}

impl Kept {
    fn repeated(receipt: Receipt) -> Kept {
        Kept { receipt, is_repeated: true, called: None }
    }
}

impl Draft {
    /// A message with this body and with the tail that members get. `message` is what the host is told. Its id, position
    /// and time are set later.
    pub(crate) fn new(
        body: Body<'static>,
        tail: Box<str>,
        key: Option<String>,
        mut message: Message,
    ) -> Draft {
        let mut stored = StoredMessage::new(MessageId::ZERO, std::mem::take(&mut message.body));
        if let Some(key) = &key {
            stored = stored.with_key(key.as_str());
        }
        if let Some(sender) = &message.sender {
            stored = stored.with_connection(sender.connection).with_name(sender.name.as_str());
            if let Some(user) = &sender.user {
                stored = stored.with_user(user.id());
            }
        }
        let member = message.sender.as_ref().map(|sender| sender.connection);
        Draft { body, tail, member, key, waiting_id: None, received: None, message, stored }
    }

    /// The message as the store gets it.
    pub(super) fn stored(&self, id: MessageId) -> StoredMessage {
        self.stored.clone().with_id(id)
    }

    /// What the host is told.
    fn message(&self, Receipt { position, id }: Receipt) -> Message {
        let body = self.stored.body().to_owned();
        Message { id, position, time: id.time(), body, ..self.message.clone() }
    }

    /// The receipt of the host's message with the same key, if it is remembered.
    fn host_receipt(&self, state: &RoomState) -> Option<Receipt> {
        self.key.as_deref().filter(|_| self.member.is_none()).and_then(|key| state.receipt_of(key))
    }

    /// Remembers that the message has its place, so that it is not published again.
    fn remember(&mut self, state: &mut RoomState, receipt: Receipt) {
        match (self.member, self.waiting_id.take(), &self.key) {
            (Some(_), Some(waiting_id), _) => waiting_id.remember(receipt),
            (None, _, Some(key)) => state.remember_key(key, receipt),
            _ => {}
        }
    }

    pub(super) fn frame(&self, room: &RoomId) -> RoomFrame<'_> {
        match self.member {
            Some(member) => self.body.frame(&self.tail, member, room),
            None => self.body.host_frame(room),
        }
    }

    fn len(&self) -> usize {
        self.stored.body().len() + self.tail.len()
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
        if let Some(receipt) = waiting.draft.host_receipt(state) {
            answer(&mut waiting.reply, Ok(Kept::repeated(receipt)));
            return Ok(keeping);
        }
        self.check_backpressure(room, state, &waiting.draft.frame(room.id()))?;
        let mut queue = state.store_queue.take().unwrap_or_default();
        if queue.bytes() > 0 && queue.bytes().saturating_add(bytes) > self.max_queue_bytes {
            state.store_queue = Some(queue);
            return Err(NotPublished::StoreFull);
        }
        let may_go_out = keep == Keep::Behind && queue.in_order_after.is_some() && !queue.has_waiting();
        let id = may_go_out.then(|| state.take_id(now));
        let calls = id.and_then(|id| self.send_out(room, state, &mut waiting, id));
        let is_of_host = waiting.draft.member.is_none();
        queue.push(keep, id, bytes, waiting);
        let was_running = std::mem::replace(&mut queue.is_running, true);
        state.store_queue = Some(queue);
        self.start_flush(room, guard, is_of_host);
        if let Some(calls) = calls {
            self.spawn(calls.call_all(), is_of_host);
        }
        if !was_running {
            let working = Working { rooms: self.clone(), room: room.clone(), is_over: false };
            self.spawn(work(working), is_of_host);
        }
        Ok(keeping)
    }

    /// Publishes a message, and answers its sender. The caller spawns the calls that are returned, without the lock.
    fn send_out(
        &self,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        waiting: &mut Waiting,
        id: MessageId,
    ) -> Option<Turn> {
        let Waiting { draft, reply } = waiting;
        if let Some(member) = draft.member {
            state.drop_transients(member);
        }
        let receipt = state.publish_as(&self.broker, &draft.frame(room.id()), id);
        state.pending.note_received(draft.received);
        draft.remember(state, receipt);
        let (called, calls) =
            self.hooks.as_ref().map(|hooks| hooks.queue_in_task(room, state, draft.message(receipt))).unzip();
        answer(reply, Ok(Kept { receipt, is_repeated: false, called }));
        calls.flatten()
    }

    /// Handles the messages of a batch according to their outcomes. `was_tried` says whether the store has got them.
    fn conclude(&self, keeper: &Keeper, room: &Arc<LiveRoom>, stored: Option<Stored>, was_tried: bool) {
        let mut guard = room.lock();
        let state = &mut *guard;
        let Some(mut queue) = state.store_queue.take() else { return };
        // Nobody would get these messages. In a shutdown, all members leave, and read them from the store later.
        let is_gone = state.room.is_closed() && !self.tasks.is_closing();
        let (mut is_in_order, mut calls) = (true, None);
        let done =
            queue.finish(stored, |waiting, outcome| match (waiting.draft.host_receipt(state), outcome) {
                (Some(receipt), _) => answer(&mut waiting.reply, Ok(Kept::repeated(receipt))),
                (None, Outcome::Known(_)) if is_gone => answer(&mut waiting.reply, Err(Unavailable)),
                (None, Outcome::Known(id)) => {
                    if keeper.doubts().is_out(room.id(), id, waiting.draft.member.is_none()) {
                        let receipt = Receipt { position: state.position(), id };
                        waiting.draft.remember(state, receipt);
                        return answer(&mut waiting.reply, Ok(Kept::repeated(receipt)));
                    }
                    is_in_order = false;
                    // Clients that have already entered were told lower ids. Clients that enter later are told this
                    // one.
                    let until = state.take_id(SystemTime::now());
                    keeper.doubts().note_late(room.id(), id, until);
                    calls = calls.take().or(self.send_out(room, state, waiting, id));
                }
                (None, Outcome::Out(id)) if !is_gone => {
                    calls = calls.take().or(self.send_out(room, state, waiting, id));
                }
                (None, Outcome::Failed(id) | Outcome::Out(id)) => {
                    is_in_order = false;
                    // Without a key, the store cannot find the message again.
                    if was_tried && waiting.draft.key.is_some() {
                        keeper.doubts().note_failed(room.id(), id);
                    }
                    answer(&mut waiting.reply, Err(Unavailable));
                }
            });
        if !is_in_order {
            // It stays `None` until the latest id in the store is known.
            queue.in_order_after = queue.in_order_after.map(|_| state.last_id());
        }
        state.store_queue = Some(queue);
        self.start_flush(room, guard, false);
        if let Some(calls) = calls {
            self.tasks.spawn(calls.call_all());
        }
        drop_messages(done);
    }

    /// Waits until the room has delivered so much that the next batch fits into the members' send queues.
    pub(super) async fn until_delivered(&self, room: &LiveRoom) {
        while room.lock().pending.len() > self.max_batch_bytes() {
            sleep(LOOK).await;
        }
    }

    /// The size up to which a batch fits into the send queues if as much waits already.
    pub(super) fn max_batch_bytes(&self) -> usize {
        self.max_queue_bytes / BATCH_SHARE / 2
    }

    /// Begins the next batch of a room. `None` if nothing waits, so that the task has to end.
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

/// Drops messages without a lock, because dropping their users runs the host's code.
pub(super) fn drop_messages(messages: Vec<Waiting>) {
    for message in messages {
        let _ = guard::run("the drop of a user", move || drop(message));
    }
}

/// Works on the queue of a room until it is empty.
async fn work(mut working: Working) {
    let (rooms, room) = (working.rooms.clone(), working.room.clone());
    let Some(keeper) = &rooms.keeper else { return };
    let tasks = &rooms.tasks;
    let (mut wait, mut failing_since) = (RETRY.0, None);
    loop {
        rooms.until_delivered(&room).await;
        let turn = keeper.turn(room.id()).await;
        let is_primed = prime(keeper, tasks, &room).await;
        let Some(messages) = rooms.begin_batch(&room) else {
            working.is_over = true;
            return;
        };
        let stored = match (messages.is_empty(), is_primed) {
            (true, _) => Some(Vec::new()),
            (false, true) => keeper.append(tasks, room.id(), &messages).await,
            (false, false) => None,
        };
        let has_failed = stored.is_none();
        rooms.conclude(keeper, &room, stored, is_primed);
        drop(turn);
        if !has_failed {
            (wait, failing_since) = (RETRY.0, None);
            continue;
        }
        let since = *failing_since.get_or_insert_with(Instant::now);
        if tasks.is_closing() || rooms.is_closed(&room) {
            working.give_up(StoreQueue::clear);
            continue;
        }
        if since.elapsed() >= GIVE_UP {
            working.give_up(StoreQueue::take_out);
        }
        let has_only_out = |queue: &StoreQueue<Waiting>| !queue.is_empty() && !queue.has_waiting();
        if room.lock().store_queue.as_deref().is_some_and(has_only_out) {
            tasks.is_closing_within(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

/// A task works on the queue of a room. If it is dropped, what waits is refused, and the next message starts another task.
struct Working {
    rooms: Arc<Rooms>,
    room: Arc<LiveRoom>,
    is_over: bool,
}

impl Working {
    /// Gives up some of the messages in the queue.
    fn give_up(&self, which: impl FnOnce(&mut StoreQueue<Waiting>) -> Vec<Waiting>) {
        let messages = self.room.lock().store_queue.as_deref_mut().map(which).unwrap_or_default();
        if !messages.is_empty() {
            tracing::error!(room = %self.room.id(), lost = messages.len(), "messages could not be stored");
        }
        drop_messages(messages);
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let Some(keeper) = self.rooms.keeper.as_ref().filter(|_| !self.is_over) else { return };
        self.give_up(|queue| {
            // The store may have got them.
            queue.to_come().for_each(|id| keeper.doubts().note_failed(self.room.id(), id));
            queue.abandon()
        });
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
