//! The host's callback for messages. It is called in the order of the room, and for each room one at a time.
//!
//! A task that publishes a message calls the callback itself, unless another call for the room is running or waiting. In
//! that case, the message waits in the room's queue, and one task calls the callbacks for all messages in the queue.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::delivery::live_room::LiveRoom;
use crate::delivery::room_state::RoomState;
use crate::hooks::events::RoomEvents;
use crate::hooks::guard::{self, Panicked};
use crate::hooks::message::Message;
use crate::stats::{Counters, Hook};
use crate::tasks::Tasks;

/// The messages of a room that wait for a call that is running.
#[derive(Default)]
pub(super) struct HookQueue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    message: Message,
    called: oneshot::Sender<Result<(), Panicked>>,
}

/// Receives how the call has ended.
pub(crate) type Called = oneshot::Receiver<Result<(), Panicked>>;

/// The host's callbacks, and where they are called.
#[derive(Clone)]
pub(super) struct MessageHooks {
    events: Arc<dyn RoomEvents>,
    counters: Arc<Counters>,
    tasks: Arc<Tasks>,
}

/// A message whose callback is due. If it is dropped, it is not called.
pub(crate) struct HookCall {
    turn: Turn,
    message: Message,
}

/// The callback for a message: it was called, or will be.
#[must_use = "the sender waits for the call, so that its own callbacks are in order"]
pub(crate) enum Calling {
    Now(HookCall),
    Later(Called),
}

/// No other callback for messages of the room is called until this is dropped.
pub(super) struct Turn {
    hooks: MessageHooks,
    room: Arc<LiveRoom>,
    /// Whether a task has the turn. If such a turn is dropped before it is over, the runtime has ended, and no other
    /// task can be spawned.
    is_in_task: bool,
    is_over: bool,
}

impl HookQueue {
    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, message: Message) -> Called {
        let (called, receiver) = oneshot::channel();
        self.bytes += size(&message);
        self.waiting.push_back(Waiting { message, called });
        receiver
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= size(&waiting.message);
        Some(waiting)
    }
}

/// About how much memory a message takes.
fn size(message: &Message) -> usize {
    size_of::<Waiting>() + message.body.len() + message.event.len()
}

impl MessageHooks {
    pub(super) fn new(
        events: Arc<dyn RoomEvents>,
        counters: Arc<Counters>,
        tasks: Arc<Tasks>,
    ) -> MessageHooks {
        MessageHooks { events, counters, tasks }
    }

    /// Gives a message its turn. The caller holds the room's lock since it has given the message its place.
    pub(super) fn queue(&self, room: &Arc<LiveRoom>, state: &mut RoomState, message: Message) -> Calling {
        match &mut state.hook_queue {
            Some(queue) => Calling::Later(queue.push(message)),
            None => {
                state.hook_queue = Some(Box::default());
                Calling::Now(HookCall { turn: self.turn(room, false), message })
            }
        }
    }

    /// Like [`MessageHooks::queue`], but the caller does not call the callback. If it gets a turn, it spawns
    /// [`Turn::call_all`], without the lock.
    pub(super) fn queue_in_task(
        &self,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        message: Message,
    ) -> (Called, Option<Turn>) {
        let turn = state.hook_queue.is_none().then(|| self.turn(room, true));
        (state.hook_queue.get_or_insert_default().push(message), turn)
    }

    fn turn(&self, room: &Arc<LiveRoom>, is_in_task: bool) -> Turn {
        Turn { hooks: self.clone(), room: room.clone(), is_in_task, is_over: false }
    }

    /// Drops the message as well, because it holds a user, which is host code.
    pub(super) fn call(&self, message: Message) -> Result<(), Panicked> {
        guard::call(&self.counters.hooks, Hook::Message, move || self.events.message(&message))
    }
}

impl HookCall {
    pub(crate) fn call(self) -> Result<(), Panicked> {
        self.turn.hooks.call(self.message)
    }
}

impl Turn {
    /// Calls the callbacks for the messages that wait.
    pub(super) async fn call_all(mut self) {
        while let Some(Waiting { message, called }) = self.next() {
            let result = self.hooks.call(message);
            // Nobody receives it if the host has sent the message, or the sender is gone.
            let _ = called.send(result);
            yield_now().await;
        }
    }

    /// The next waiting message. If there is none, the turn is over.
    fn next(&mut self) -> Option<Waiting> {
        let mut state = self.room.lock();
        let next = state.hook_queue.as_mut().and_then(|queue| queue.pop());
        if next.is_none() {
            state.hook_queue = None;
            self.is_over = true;
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.room.lock();
        let is_idle = state.hook_queue.as_ref().is_none_or(|queue| queue.waiting.is_empty());
        let dropped = state.hook_queue.take_if(|_| is_idle || self.is_in_task);
        drop(state);
        if !is_idle && !self.is_in_task {
            self.hooks.tasks.spawn_for_host(self.hooks.turn(&self.room, true).call_all());
        }
        // Dropping the users of these messages runs the host's code.
        for waiting in dropped.into_iter().flat_map(|queue| queue.waiting) {
            let _ = guard::run("the drop of a user", move || drop(waiting));
        }
    }
}
