//! The host's callbacks of one session, in the order in which they happened.
//!
//! They are queued under the session's lock and called outside of it. Two tasks may work on a session: that of a
//! connection that was replaced, and that of its successor. Whichever finds callbacks calls them, one at a time.

use std::collections::VecDeque;

use crate::hooks::events::{Entered, Left, RoomEvents};
use crate::hooks::guard::{self, Panicked};
use crate::session::session::Session;

#[derive(Default)]
pub(super) struct Callbacks {
    queue: VecDeque<Callback>,
    is_running: bool,
}

pub(super) enum Callback {
    Entered(Entered),
    Left(Left),
}

impl Callbacks {
    pub(super) fn push(&mut self, callback: Callback) {
        self.queue.push_back(callback);
    }

    /// The next callback, if no other task is calling one. The caller must call [`Callbacks::finish`] afterwards.
    pub(super) fn begin(&mut self) -> Option<Callback> {
        if self.is_running {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.is_running = true;
        Some(next)
    }

    pub(super) fn finish(&mut self) {
        self.is_running = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_running
    }
}

impl Callback {
    pub(super) fn call(&self, events: &dyn RoomEvents) -> Result<(), Panicked> {
        match self {
            Callback::Entered(event) => guard::call("entered", || events.entered(event)),
            Callback::Left(event) => guard::call("left", || events.left(event)),
        }
    }
}

/// Calls the callbacks of a session, unless another task is calling them.
///
/// # Errors
/// If one of them panicked. The others have been called all the same.
pub(super) fn run(session: &Session, events: &dyn RoomEvents) -> Result<(), Panicked> {
    let mut result = Ok(());
    loop {
        let next = session.state().callbacks.as_mut().and_then(|callbacks| callbacks.begin());
        let Some(callback) = next else { return result };
        let called = callback.call(events);
        let mut state = session.state();
        if let Some(callbacks) = &mut state.callbacks {
            callbacks.finish();
            if callbacks.is_idle() {
                state.callbacks = None;
            }
        }
        drop(state);
        if called.is_err() {
            result = called;
        }
    }
}
