//! The host's callbacks of one session, in the order in which they happened.
//!
//! They are queued under the session's lock and called outside of it. Two tasks may work on a session: that of a
//! connection that was replaced, and that of its successor. Whichever finds callbacks calls them, one at a time.
//!
//! A callback may end other sessions. Their callbacks are called after it has returned: see
//! [`callback_runs`](crate::session::callback_runs).
//!
//! The first callback of a user's session, `online`, is called only if it is the user's first session. The last one,
//! `offline`, is called only if it is the user's last session. While a task calls one of them, the callbacks of the
//! user's other new sessions wait. The same task calls them afterwards. If a broker is shared with other nodes, it is asked
//! which session is the first or the last one. Meanwhile the session's callbacks wait.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hooks::events::{Entered, Left, RoomEvents, UserOffline, UserOnline};
use crate::hooks::guard::{self, Panicked};
use crate::hooks::user::User;
use crate::session::remote_users::Change;
use crate::session::session::Session;
use crate::session::users::{Announcement, Users};
use crate::stats::{Hook, HookTimes};

#[derive(Default)]
pub(super) struct Callbacks {
    queue: VecDeque<Callback>,
    is_running: bool,
}

pub(super) enum Callback {
    /// The session belongs to its user from now on. Called only if it is the user's first session.
    Online(UserOnline),
    Entered(Entered),
    Left(Left),
    /// The session has ended. Called only if it was the user's last session.
    Offline(UserOffline),
}

/// A callback that was taken from the queue.
enum Next {
    Call(Callback),
    /// The host need not be told.
    Skip(Callback),
    /// As above, and the sessions that have waited for it can go on.
    GoOn(Callback),
    /// The broker has to be asked about this user first.
    Ask(Arc<User>, Change),
}

impl Callbacks {
    pub(super) fn push(&mut self, callback: Callback) {
        self.queue.push_back(callback);
    }

    /// Adds the callbacks of another queue behind its own.
    pub(super) fn append(&mut self, mut other: Callbacks) {
        self.queue.append(&mut other.queue);
    }

    /// Removes those that tell of leaves.
    pub(super) fn remove_left(&mut self) {
        self.queue.retain(|callback| !matches!(callback, Callback::Left(_)));
    }

    /// The next callback, if no other task is calling one, and if it need not wait for one of the same user. After
    /// [`Next::Call`], the caller must call [`Callbacks::finish`].
    fn begin(&mut self, session: &Arc<Session>, users: &Users) -> Option<Next> {
        if self.is_running {
            return None;
        }
        let announcement = match self.queue.front()? {
            Callback::Online(event) => users.announce_begin(event.user.id(), session),
            Callback::Offline(event) => users.announce_end(event.user.id(), session),
            Callback::Entered(_) | Callback::Left(_) => Announcement::Call,
        };
        match announcement {
            Announcement::Call => {
                self.is_running = true;
                self.queue.pop_front().map(Next::Call)
            }
            Announcement::Skip => self.queue.pop_front().map(Next::Skip),
            Announcement::NotFirstOrLast => self.queue.pop_front().map(Next::GoOn),
            Announcement::Ask(change) => {
                self.queue.front().and_then(Callback::user).map(|user| Next::Ask(user, change))
            }
            Announcement::Wait => None,
        }
    }

    fn finish(&mut self) {
        self.is_running = false;
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_running
    }
}

impl Callback {
    fn call(&self, events: &dyn RoomEvents, times: &HookTimes) -> Result<(), Panicked> {
        match self {
            Callback::Online(event) => guard::call(times, Hook::Online, || events.online(event)),
            Callback::Entered(event) => guard::call(times, Hook::Entered, || events.entered(event)),
            Callback::Left(event) => guard::call(times, Hook::Left, || events.left(event)),
            Callback::Offline(event) => guard::call(times, Hook::Offline, || events.offline(event)),
        }
    }

    /// The user that comes online or goes offline.
    fn user(&self) -> Option<Arc<User>> {
        match self {
            Callback::Online(UserOnline { user }) | Callback::Offline(UserOffline { user }) => {
                Some(user.clone())
            }
            Callback::Entered(_) | Callback::Left(_) => None,
        }
    }

    /// Drops the callback with the user that it holds, which is host code.
    fn drop(self) -> Result<(), Panicked> {
        guard::run("drop of a user", || drop(self))
    }

    /// The sessions that have waited for this callback.
    fn waiting(&self, users: &Users) -> Vec<Arc<Session>> {
        match self {
            Callback::Online(UserOnline { user }) | Callback::Offline(UserOffline { user }) => {
                users.called(user.id())
            }
            Callback::Entered(_) | Callback::Left(_) => Vec::new(),
        }
    }
}

/// Calls the callbacks of a session, unless another task is calling them. Adds the sessions that have waited for these
/// callbacks to `waiting`. The caller must call their callbacks next.
///
/// # Errors
/// If one of them panicked. The others have been called all the same.
pub(super) fn run(
    session: &Arc<Session>,
    events: &dyn RoomEvents,
    times: &HookTimes,
    users: &Users,
    waiting: &mut Vec<Arc<Session>>,
) -> Result<(), Panicked> {
    let mut result = Ok(());
    while let Some(next) = next(session, users) {
        let callback = match next {
            Next::Skip(callback) => callback,
            Next::GoOn(callback) => {
                waiting.append(&mut callback.waiting(users));
                callback
            }
            Next::Ask(user, change) => {
                users.ask(user.id(), session, change);
                return guard::run("drop of a user", || drop(user)).and(result);
            }
            Next::Call(callback) => {
                result = callback.call(events, times).and(result);
                waiting.append(&mut callback.waiting(users));
                if let Some(callbacks) = &mut session.state().callbacks {
                    callbacks.finish();
                }
                callback
            }
        };
        result = callback.drop().and(result);
    }
    result
}

fn next(session: &Arc<Session>, users: &Users) -> Option<Next> {
    let mut state = session.state();
    let callbacks = state.callbacks.as_mut()?;
    let next = callbacks.begin(session, users);
    if callbacks.is_idle() {
        state.callbacks = None;
    }
    next
}
