//! Which callbacks are being called on this thread.
//!
//! A callback may end other sessions, for example with [`ChatRooms::kick`](crate::ChatRooms::kick), and those have
//! callbacks too, which may do the same. If they were called at once, each would be inside of another, and many of them
//! would overflow the stack. So they wait until the callback has returned, and the outermost call goes on with them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::session::session::Session;
use crate::session::users::Users;
use crate::sync::thread_local;

thread_local! {
    /// One for each engine whose callbacks are being called: those of one engine may call another engine.
    static RUNS: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
}

struct Waiting {
    engine: EngineKey,
    sessions: VecDeque<Arc<Session>>,
}

/// The address of something that each engine has one of.
type EngineKey = *const Users;

/// The outermost call of an engine's callbacks on this thread.
pub(super) struct Run {
    engine: EngineKey,
}

impl Run {
    /// Begins to call the callbacks of a session. `None` if callbacks of this engine are being called on this thread
    /// already: the outermost call goes on with the session.
    pub(super) fn begin(users: &Users, session: &Arc<Session>) -> Option<Run> {
        let engine = std::ptr::from_ref(users);
        let begin = |runs: &RefCell<Vec<Waiting>>| {
            let mut runs = runs.borrow_mut();
            match runs.iter_mut().find(|waiting| waiting.engine == engine) {
                Some(waiting) => {
                    waiting.sessions.push_back(session.clone());
                    None
                }
                None => {
                    runs.push(Waiting { engine, sessions: VecDeque::new() });
                    Some(Run { engine })
                }
            }
        };
        // While the thread ends, there is nothing to wait in, and calls may be inside of each other.
        RUNS.try_with(begin).unwrap_or_else(|_| Some(Run { engine }))
    }

    /// The next session whose callbacks have waited for those that have returned.
    pub(super) fn next(&self) -> Option<Arc<Session>> {
        let next = |runs: &RefCell<Vec<Waiting>>| {
            let mut runs = runs.borrow_mut();
            runs.iter_mut().find(|waiting| waiting.engine == self.engine)?.sessions.pop_front()
        };
        RUNS.try_with(next).ok().flatten()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let end = |runs: &RefCell<Vec<Waiting>>| {
            let mut runs = runs.borrow_mut();
            let at = runs.iter().position(|waiting| waiting.engine == self.engine)?;
            Some(runs.swap_remove(at))
        };
        // Sessions are left only after a panic. They hold host values, so they are dropped after the borrow.
        drop(RUNS.try_with(end));
    }
}
