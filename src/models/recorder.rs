//! Records the host's callbacks.

use std::sync::Arc;

use shuttle::thread;

use crate::hooks::events::{Entered, Left, RoomEvents, UserOffline, UserOnline};
use crate::hooks::user::User;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::close::LeaveReason;
use crate::sync::{Mutex, MutexGuard, lock};

/// What the host was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Callback {
    Entered(ConnectionId, RoomId),
    Left(ConnectionId, RoomId, LeaveReason),
    Online,
    Offline,
    Ended,
}

/// A callback, and whose it is, if that is a user.
pub(super) type Told = (Option<Box<str>>, Callback);

#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<Told>>>);

impl Recorder {
    /// All callbacks so far.
    pub(super) fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        lock(&self.0)
    }

    fn push(&self, user: Option<&Arc<User>>, callback: Callback) {
        // Time for another callback to overtake this one.
        thread::yield_now();
        lock(&self.0).push((user.map(|user| user.id().into()), callback));
        thread::yield_now();
    }
}

impl RoomEvents for Recorder {
    fn entered(&self, event: &Entered) {
        self.push(event.user.as_ref(), Callback::Entered(event.connection, event.room.clone()));
    }

    fn left(&self, event: &Left) {
        self.push(event.user.as_ref(), Callback::Left(event.connection, event.room.clone(), event.reason));
    }

    fn online(&self, event: &UserOnline) {
        self.push(Some(&event.user), Callback::Online);
    }

    fn offline(&self, event: &UserOffline) {
        self.push(Some(&event.user), Callback::Offline);
    }

    fn ended(&self) {
        self.push(None, Callback::Ended);
    }
}
