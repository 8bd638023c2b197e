//! All rooms of the engine: members enter and leave, frames are published and delivered.
//!
//! Under a room's lock, nothing is written, no hook is called and no replay is copied. Functions return what
//! has to be written, and the caller writes it afterwards.

mod doubts;
mod keeper;
pub(crate) mod keeping;
mod presence;
pub(crate) mod reading;
pub(crate) mod remote;
mod store_watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::unconstrained;

use crate::broker::{Broker, MemoryBroker, RemoteBroker};
use crate::clock::Clock;
use crate::config::{Config, Keep, Presence, UniqueNames};
use crate::delivery::enter_outcome::EnterOutcome;
use crate::delivery::flush::{flush, flush_later, guarded};
use crate::delivery::hold::MinRate;
use crate::delivery::live_room::{Handle, LiveRoom, RoomKey};
use crate::delivery::message_hooks::{Calling, MessageHooks};
use crate::delivery::refusal::{NotPublished, Refused};
use crate::delivery::registry::{Registry, SHARDS};
use crate::delivery::replay_request::ReplayRequest;
use crate::delivery::room_state::RoomState;
use crate::delivery::store_queue::StoreQueue;
use crate::delivery::transient::TooMany;
use crate::hooks::events::RoomEvents;
use crate::hooks::message::Message;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::position::Position;
use crate::protocol::receipt::Receipt;
use crate::room::{self, EnterError, Profile};
use crate::stats::Counters;
use crate::store::erased::ErasedStore;
use crate::sync::MutexGuard;
use crate::tasks::Tasks;
use keeper::Keeper;
use presence::roster_for;
use remote::Remote;

/// A batch gathers no more than this fraction of the send queue's bound, so that a member that is up to date
/// can accept it.
const BATCH_SHARE: usize = 2;

/// Members' messages use no more than this fraction of the bound, because two more batches can be on their way to a
/// reader when its senders are held back.
const MEMBERS_SHARE: usize = 8;

/// Bytes that a frame grows by, besides the room's id: its header, `num`, `member`, `id` and `seq`.
const FRAME_OVERHEAD: usize = 152;

pub(crate) struct Rooms {
    registry: Registry,
    broker: MemoryBroker,
    /// If it is present, it orders all events instead.
    remote: Option<Remote>,
    clock: Clock,
    tasks: Arc<Tasks>,
    /// Present if the host wants to be told of messages.
    hooks: Option<MessageHooks>,
    /// Present if messages are stored.
    keeper: Option<Keeper>,
    max_members: usize,
    max_queue_bytes: usize,
    min_rate: MinRate,
    has_history: bool,
    /// What members learn about each other in rooms for which the policy does not decide.
    presence: Presence,
}

/// A member that is about to enter a room.
pub(crate) struct Entrant {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) handle: Handle,
    pub(crate) replay_request: Option<ReplayRequest>,
    /// Its user's connections may share the name.
    pub(crate) profile: Profile,
}

impl Rooms {
    pub(crate) fn new(
        config: &Config,
        clock: Clock,
        counters: &Arc<Counters>,
        tasks: Arc<Tasks>,
        events: Option<Arc<dyn RoomEvents>>,
        store: Option<Arc<dyn ErasedStore>>,
        remote: Option<Arc<dyn RemoteBroker>>,
    ) -> Rooms {
        let history = config.recovery.history;
        let (max_rooms, is_remote) = (config.limits.max_rooms, remote.is_some());
        // The broker knows the names of all nodes.
        let unique_names = if is_remote { UniqueNames::Off } else { config.unique_names };
        Rooms {
            registry: Registry::new(max_rooms, history, unique_names, clock, is_remote, counters.clone()),
            broker: MemoryBroker::default(),
            remote: remote.map(|broker| Remote::new(broker, config, counters.clone())),
            clock,
            hooks: events.map(|events| MessageHooks::new(events, counters.clone(), tasks.clone())),
            tasks,
            keeper: store.map(|store| Keeper::new(store, config, counters.clone())),
            max_members: config.limits.max_room_members,
            max_queue_bytes: config.limits.max_queue_bytes,
            min_rate: MinRate::new(&config.limits),
            has_history: history.is_some(),
            presence: config.presence,
        }
    }

    /// Rooms that exist.
    pub(crate) fn len(&self) -> usize {
        self.registry.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LiveRoom>> {
        self.registry.get(id)
    }

    pub(crate) fn key<'a>(&self, id: &'a RoomId) -> RoomKey<'a> {
        RoomKey { id, hash: self.registry.hash(id.as_str()) }
    }

    /// All rooms, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<LiveRoom>> {
        self.registry.all()
    }

    /// All rooms, in parts. Each takes one lock for a short time.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Vec<Arc<LiveRoom>>> + use<'_> {
        (0..SHARDS).map(|at| self.registry.in_shard(at))
    }

    /// Adds a member to a room, and publishes its enter. If it opens the room, `presence` is what members learn about
    /// each other; `None` for the default.
    pub(crate) fn enter(
        &self,
        entrant: Entrant,
        id: &RoomId,
        frame: &RoomFrame<'_>,
        presence: Option<Presence>,
    ) -> Result<EnterOutcome, Refused> {
        let outcome = self.registry.open(
            id,
            presence.unwrap_or(self.presence),
            || self.broker.open(),
            |room, state| {
                self.reserve_in(state, &entrant, self.max_members)?;
                Ok(self.enter_and_note(room, state, entrant, frame))
            },
        )?;
        outcome.inspect(|outcome: &EnterOutcome| self.start_tasks(&outcome.room)).map_err(EnterError::into)
    }

    /// Moves a member from one room to another. If it can't enter, it stays in the old room.
    pub(crate) fn change(
        &self,
        entrant: Entrant,
        id: &RoomId,
        frame: &RoomFrame<'_>,
        presence: Option<Presence>,
        old: &Arc<LiveRoom>,
        old_name: &Name,
    ) -> Result<(EnterOutcome, u64), Refused> {
        let room = self.registry.open(
            id,
            presence.unwrap_or(self.presence),
            || self.broker.open(),
            |room, state| self.reserve_in(state, &entrant, self.max_members).map(|()| room.clone()),
        )??;
        let left = self.leave(old, entrant.id, old_name, &entrant.handle);
        let outcome =
            self.registry.visit(&room, |room, state| self.enter_and_note(room, state, entrant, frame));
        self.start_tasks(&room);
        Ok((outcome, left))
    }

    /// Renames a member: it leaves the room and enters it in one step, so that it misses no frame in between. It gets
    /// the frames that were published before, but not its own leave.
    pub(crate) fn rename(
        &self,
        entrant: Entrant,
        frame: &RoomFrame<'_>,
        room: &Arc<LiveRoom>,
        old_name: &Name,
    ) -> Result<(EnterOutcome, u64), Refused> {
        let out = outbound::out(old_name.as_str());
        let renamed = self.registry.visit(room, |room, state| {
            // The member itself does not count against the limit of the room that it is in.
            self.reserve_in(state, &entrant, usize::MAX)?;
            let undelivered = state.pending.undelivered();
            let before = state.counts();
            state.leave(&self.broker, entrant.id, &out);
            let left = state.num();
            let mut outcome = self.enter_in(&self.broker, room, state, entrant, frame);
            // Only now, because the room keeps its number of members.
            state.note_counts(before);
            outcome.keep(undelivered, state.pending.delivered());
            Ok::<_, EnterError>((outcome, left))
        })?;
        self.start_tasks(room);
        Ok(renamed)
    }

    /// Removes a member, and publishes its leave. It gets what was published before, and nothing more. Returns how
    /// many members remain: with several nodes, as far as this node knows.
    pub(crate) fn leave(&self, room: &Arc<LiveRoom>, id: ConnectionId, name: &Name, handle: &Handle) -> u64 {
        let out = outbound::out(name.as_str());
        let is_connected = handle.is_connected();
        let (num, undelivered) = self.registry.visit(room, |_, state| {
            let undelivered = if is_connected { state.pending.undelivered() } else { Vec::new() };
            let before = state.counts();
            let num = match &self.remote {
                None => {
                    state.leave(&self.broker, id, &out);
                    state.num()
                }
                Some(remote) => remote.leave(room.id(), state, id),
            };
            state.note_counts(before);
            (num, undelivered)
        });
        self.start_tasks(room);
        for batch in &undelivered {
            guarded(&**handle, |member| member.deliver(room, batch));
        }
        handle.unsubscribe(room);
        num
    }

    /// Delivers to a member what was published so far. It gets nothing after that.
    pub(crate) fn deliver_rest(&self, room: &Arc<LiveRoom>, handle: &Handle) {
        if !handle.is_connected() {
            return;
        }
        let undelivered = room.lock().pending.undelivered();
        for batch in &undelivered {
            guarded(&**handle, |member| member.deliver(room, batch));
        }
        handle.unsubscribe(room);
    }

    /// Enters a member again that is already in the room. The other members do not notice.
    pub(crate) fn enter_again(
        &self,
        room: &Arc<LiveRoom>,
        handle: &Handle,
        replay_request: Option<ReplayRequest>,
    ) -> EnterOutcome {
        let now = self.now();
        let mut state = room.lock();
        let replay = replay_request.map(|replay_request| state.replay(replay_request, now));
        let (epoch, seq, num) = (state.epoch(), state.seq(), state.num());
        let mut outcome = EnterOutcome {
            room: room.clone(),
            epoch,
            seq,
            num,
            users: state.room.users(),
            mode: state.announcer.mode(),
            roster: roster_for(&mut state, handle, 0),
            last_id: state.last_id(),
            first_to_come: state.first_to_come(),
            is_announced: false,
            before: Vec::new(),
            replay,
        };
        if handle.subscribe(room, outcome.start()) {
            outcome.keep(state.pending.undelivered(), state.pending.delivered());
        }
        outcome
    }

    /// Publishes a message. A `key` of the host is published once, as long as the room remembers it. `received` is when
    /// it was received, if its delivery is measured. `describe` says what the host is told about the message.
    pub(crate) fn publish(
        &self,
        room: &Arc<LiveRoom>,
        key: Option<&str>,
        keep: Keep,
        frame: &RoomFrame<'_>,
        received: Option<Duration>,
        describe: impl FnOnce(Receipt) -> Message,
    ) -> Result<(Receipt, Option<Calling>), NotPublished> {
        let now = SystemTime::now();
        let mut state = room.lock();
        if let Some(receipt) = key.and_then(|key| state.receipt_of(key)) {
            return Ok((receipt, None));
        }
        if self.keeper.is_some() && (keep != Keep::Never || state.has_waiting()) {
            return Err(NotPublished::IsStored);
        }
        self.check_backpressure(room, &mut state, frame)?;
        if let Some(member) = frame.member {
            // Otherwise they would arrive after this later message of the same member.
            state.drop_transients(member);
        }
        let receipt = state.publish(&self.broker, frame, now);
        state.pending.note_received(received);
        if let Some(key) = key {
            state.remember_key(key, receipt);
        }
        let calling = self.hooks.as_ref().map(|hooks| hooks.queue(room, &mut state, describe(receipt)));
        self.start_flush(room, state, frame.member.is_none());
        Ok((receipt, calling))
    }

    /// Gives the callback for a message of this node its turn, after a broker that several nodes share has ordered it.
    pub(crate) fn queue_call(
        &self,
        room: &Arc<LiveRoom>,
        describe: impl FnOnce() -> Message,
    ) -> Option<Calling> {
        self.hooks.as_ref().map(|hooks| hooks.queue(room, &mut room.lock(), describe()))
    }

    /// Calls the callback for a message of the host to a room that may be on other nodes only.
    fn call_unordered(&self, room: &RoomId, message: Message) {
        match (self.get(room.as_str()), &self.hooks) {
            (Some(room), _) => self.call_for_host(self.queue_call(&room, || message)),
            (None, Some(hooks)) => drop(hooks.call(message)),
            (None, None) => {}
        }
    }

    /// Whether too many messages of a room wait for the host's callback.
    pub(crate) fn is_hook_late(&self, room: &str) -> bool {
        self.get(room).is_some_and(|room| room.lock().hook_bytes() > self.max_queue_bytes)
    }

    /// Calls the callback for a message of the host in a task, because the host may have sent it from another callback.
    pub(crate) fn call_for_host(&self, calling: Option<Calling>) {
        if let Some(Calling::Now(call)) = calling {
            self.tasks.spawn_for_host(async move { drop(call.call()) });
        }
    }

    /// Sends a transient frame. It is not in the room log, and only members whose send queue is empty get it.
    pub(crate) fn send_transient(
        &self,
        room: &Arc<LiveRoom>,
        event: &str,
        frame: &RoomFrame<'_>,
    ) -> Result<(), NotPublished> {
        let mut state = room.lock();
        if state.room().is_closed() {
            return Err(NotPublished::Closed);
        }
        let id = room.id();
        if let Some(remote) = &self.remote {
            remote.send_transient(id, event, frame);
            return Ok(());
        }
        state.push_transient(id.as_str(), event, frame).map_err(|TooMany| NotPublished::BatchFull)?;
        self.start_flush(room, state, frame.member.is_none());
        Ok(())
    }

    /// Whether this member, which is called `held`, has this name and is anonymous.
    pub(crate) fn is_anonymous_holder(
        &self,
        room: &LiveRoom,
        id: ConnectionId,
        held: &Name,
        user: Option<&User>,
        name: &Name,
    ) -> bool {
        match &self.remote {
            None => room.lock().room.anonymous_holder(name) == Some(id),
            Some(remote) => remote.is_anonymous_holder(held, user, name),
        }
    }

    /// The position of the latest frame of a room.
    pub(crate) fn position(&self, room: &str) -> Option<Position> {
        self.get(room).map(|room| room.lock().position())
    }

    /// For a message that should look as if it had been published.
    pub(crate) fn pretend_published(&self, room: &LiveRoom) -> Receipt {
        let now = SystemTime::now();
        room.lock().pretend_published(now)
    }

    /// Closes a room: it becomes silent, and its id is free for a new one. Its members still have to be
    /// told. What waits to be stored is refused, except the batch that the store works on.
    pub(crate) fn close(&self, id: &str) -> Option<Arc<LiveRoom>> {
        let (room, refused) = self.registry.close(id, |state| {
            state.store_queue.as_deref_mut().map(StoreQueue::refuse).unwrap_or_default()
        })?;
        keeping::drop_messages(refused);
        self.cancel_enters(&room, &mut room.lock());
        Some(room)
    }

    /// Closes all rooms, for a shutdown.
    pub(crate) fn close_all(&self) {
        for room in self.registry.all() {
            self.registry.visit(&room, |_, state| state.room.close());
        }
    }

    pub(crate) fn is_closed(&self, room: &LiveRoom) -> bool {
        room.lock().room.is_closed()
    }

    /// Drops frames that have become too old in a part of the rooms. Called with 0, 1, 2, ..., it visits all
    /// of them.
    pub(crate) fn trim_histories(&self, turn: usize) {
        if !self.has_history {
            return;
        }
        let now = self.now();
        for room in self.registry.in_shard(turn) {
            room.lock().trim(now);
        }
        self.registry.remove_expired(turn);
    }

    /// The number of rooms without members that are kept for their frames.
    pub(crate) fn empty(&self) -> usize {
        self.registry.empty()
    }

    fn reserve_in(&self, state: &mut RoomState, entrant: &Entrant, max: usize) -> Result<(), EnterError> {
        state.room.reserve(entrant.id, &entrant.name, entrant.profile.user.as_deref(), max)
    }

    fn enter_and_note(
        &self,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        entrant: Entrant,
        frame: &RoomFrame<'_>,
    ) -> EnterOutcome {
        let before = state.counts();
        let outcome = self.enter_in(&self.broker, room, state, entrant, frame);
        state.note_counts(before);
        outcome
    }

    /// Enters a member for which a place is reserved. The caller must call [`RoomState::note_counts`] afterwards.
    fn enter_in(
        &self,
        broker: &impl Broker,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        entrant: Entrant,
        frame: &RoomFrame<'_>,
    ) -> EnterOutcome {
        let Entrant { id, name, handle, replay_request, profile } = entrant;
        let now = self.now();
        let (seq, last_id, first_to_come) = (state.seq(), state.last_id(), state.first_to_come());
        let (mode, roster) = (state.announcer.mode(), roster_for(state, &handle, 0));
        let replay = replay_request.map(|replay_request| state.replay(replay_request, now));
        handle.subscribe(room, replay.as_ref().map_or(seq, |replay| replay.end));
        let entrant = room::Entrant { id, name, handle, profile };
        let is_announced = state.enter(broker, entrant, frame);
        EnterOutcome {
            room: room.clone(),
            epoch: state.epoch(),
            seq,
            num: state.num(),
            users: state.room.users(),
            mode,
            roster,
            last_id,
            first_to_come,
            is_announced,
            before: Vec::new(),
            replay,
        }
    }

    /// The most bytes of members' messages that a room queues.
    fn max_pending_bytes(&self) -> usize {
        self.max_queue_bytes / MEMBERS_SHARE
    }

    /// Checks that a batch with this frame still fits into the members' send queues, and that held-back senders keep to
    /// the minimum rate.
    fn check_backpressure(
        &self,
        room: &LiveRoom,
        state: &mut RoomState,
        frame: &RoomFrame<'_>,
    ) -> Result<(), NotPublished> {
        if state.room().is_closed() {
            return Err(NotPublished::Closed);
        }
        let is_of_host = frame.member.is_none();
        let (pending, more) = (state.pending.len(), frame.len() + room.id().as_str().len() + FRAME_OVERHEAD);
        let max = if is_of_host { self.max_queue_bytes / BATCH_SHARE } else { self.max_pending_bytes() };
        if pending > 0 && pending.saturating_add(more) > max {
            return Err(NotPublished::BatchFull);
        }
        // Members wait for their callbacks themselves.
        if is_of_host && state.hook_bytes() > self.max_queue_bytes {
            return Err(NotPublished::BatchFull);
        }
        // The host has no connection that could wait.
        if !is_of_host && room.is_held() && !state.pass(self.clock.now(), self.min_rate.time_of_frame(more)) {
            return Err(NotPublished::Held);
        }
        Ok(())
    }

    /// Starts the flush task and the timer if they are needed.
    fn start_tasks(&self, room: &Arc<LiveRoom>) {
        self.start_tasks_in(room, room.lock(), false);
    }

    fn start_tasks_in(&self, room: &Arc<LiveRoom>, state: MutexGuard<'_, RoomState>, is_for_host: bool) {
        let is_timer_claimed = room.claim_timer(&state, || self.clock.now());
        self.start_flush(room, state, is_for_host);
        if is_timer_claimed {
            let timer = flush_later(room.clone(), self.clock, self.has_history, self.tasks.clone());
            self.spawn(unconstrained(timer), is_for_host);
        }
    }

    fn start_flush(&self, room: &Arc<LiveRoom>, state: MutexGuard<'_, RoomState>, is_for_host: bool) {
        let is_claimed = room.claim_flush(&state, || self.clock.now());
        drop(state);
        if !is_claimed {
            return;
        }
        // The task yields by itself. With tokio's budget, which is 128 writes, sockets would seem full once it is used
        // up, and each member's task would be woken to write the rest.
        self.spawn(unconstrained(flush(room.clone(), self.clock, self.has_history)), is_for_host);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static, is_for_host: bool) {
        if is_for_host { self.tasks.spawn_for_host(task) } else { self.tasks.spawn(task) }
    }

    /// The time for replay buffers. Without them, the clock is not read.
    fn now(&self) -> Duration {
        if self.has_history { self.clock.now() } else { Duration::ZERO }
    }
}
