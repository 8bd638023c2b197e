//! Calls about members and sessions. There are thousands at a time if many clients enter or come back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::progress::Progress;

/// How many calls of a kind are under way at a time. The others wait here. In the connection to Redis, messages and the
/// renewal of the node's lease would have to wait for them.
const AT_ONCE: usize = 64;

/// The calls of a node of one kind, in the order in which they come.
#[derive(Clone)]
pub(super) struct Calls(Arc<State>);

struct State {
    places: Arc<Semaphore>,
    /// Notes each answer.
    progress: Progress,
}

/// A call that is under way, until it is dropped.
pub(super) struct Call {
    calls: Calls,
    /// Never `None`, because the semaphore is never closed.
    _place: Option<OwnedSemaphorePermit>,
}

impl Calls {
    pub(super) fn new() -> Calls {
        let (places, progress) = (Arc::new(Semaphore::new(AT_ONCE)), Progress::new());
        Calls(Arc::new(State { places, progress }))
    }

    /// Waits until a call may begin, for as long as it takes.
    pub(super) async fn begin(&self) -> Call {
        Call { calls: self.clone(), _place: self.0.places.clone().acquire_owned().await.ok() }
    }

    /// As [`Calls::begin`], but returns `None` if Redis has not answered any call for a while.
    pub(super) async fn begin_soon(&self) -> Option<Call> {
        self.0.progress.wait(self.begin()).await
    }
}

impl Call {
    /// Redis has answered.
    pub(super) fn note_answer(&self) {
        self.calls.0.progress.note();
    }
}
