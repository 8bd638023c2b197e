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
pub(super) struct HookQueue(VecDeque<Waiting>);

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
struct Turn {
    hooks: MessageHooks,
    room: Arc<LiveRoom>,
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
            Some(queue) => {
                let (called, receiver) = oneshot::channel();
                queue.0.push_back(Waiting { message, called });
                Calling::Later(receiver)
            }
            None => {
                state.hook_queue = Some(Box::default());
                Calling::Now(HookCall { turn: Turn { hooks: self.clone(), room: room.clone() }, message })
            }
        }
    }

    /// As [`MessageHooks::queue`], but a task calls the callback in any case.
    pub(super) fn queue_in_task(
        &self,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        message: Message,
    ) -> Called {
        let (called, receiver) = oneshot::channel();
        let is_running = state.hook_queue.is_some();
        state.hook_queue.get_or_insert_default().0.push_back(Waiting { message, called });
        if !is_running {
            self.tasks.spawn_for_host(self.clone().call_all(room.clone()));
        }
        receiver
    }

    /// Drops the message as well, because it holds a user, which is host code.
    pub(super) fn call(&self, message: Message) -> Result<(), Panicked> {
        guard::call(&self.counters.hooks, Hook::Message, move || self.events.message(&message))
    }

    /// Calls the callbacks for the messages that wait.
    async fn call_all(self, room: Arc<LiveRoom>) {
        while let Some(Waiting { message, called }) = next(&room) {
            let result = self.call(message);
            // Nobody receives it if the host has sent the message, or the sender is gone.
            let _ = called.send(result);
            yield_now().await;
        }
    }
}

impl HookCall {
    pub(crate) fn call(self) -> Result<(), Panicked> {
        self.turn.hooks.call(self.message)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        state.hook_queue.take_if(|queue| queue.0.is_empty());
        let is_idle = state.hook_queue.is_none();
        drop(state);
        if !is_idle {
            self.hooks.tasks.spawn_for_host(self.hooks.clone().call_all(self.room.clone()));
        }
    }
}

/// The next message that waits. If there is none, the turn is over.
fn next(room: &LiveRoom) -> Option<Waiting> {
    let mut state = room.lock();
    let next = state.hook_queue.as_mut().and_then(|queue| queue.0.pop_front());
    if next.is_none() {
        state.hook_queue = None;
    }
    next
}
