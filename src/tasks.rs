//! The engine's own tasks: a shutdown waits for all of them.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// The runtime of the first connection.
    runtime: OnceLock<Handle>,
    /// Cancelled when a shutdown begins.
    closing: CancellationToken,
    closing_since: OnceLock<Instant>,
}

impl Tasks {
    /// Remembers the runtime that connections run in.
    pub(crate) fn remember_runtime(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.runtime.get_or_init(|| runtime);
        }
    }

    /// Spawns a task: in this runtime, or in that of the first connection. Before the first connection there is nothing
    /// to spawn.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(Handle::try_current().ok().as_ref().or(self.runtime.get()), task);
    }

    /// Spawns a task for the host: in the runtime of the first connection, since the host's current runtime may not run
    /// for long.
    pub(crate) fn spawn_for_host(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(self.runtime.get().or(Handle::try_current().ok().as_ref()), task);
    }

    #[cfg(not(all(test, shuttle)))]
    fn spawn_on(&self, runtime: Option<&Handle>, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = runtime {
            self.tracker.spawn_on(task, runtime);
        }
    }

    /// In a concurrency model, shuttle is the runtime.
    #[cfg(all(test, shuttle))]
    fn spawn_on(&self, _: Option<&Handle>, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(self.tracker.track_future(task)));
    }

    /// Makes [`Tasks::wait`] wait until the token is dropped.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Lets [`Tasks::wait`] return once nothing runs.
    pub(crate) fn close(&self) {
        self.closing_since.get_or_init(Instant::now);
        self.closing.cancel();
        self.tracker.close();
    }

    /// Whether [`Tasks::close`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Completes this long after [`Tasks::close`] was called.
    pub(crate) async fn closing_for(&self, time: Duration) {
        self.closing.cancelled().await;
        if let Some(since) = self.closing_since.get() {
            sleep_until(*since + time).await;
        }
    }

    /// Waits for this time. Returns true immediately when [`Tasks::close`] is called.
    pub(crate) async fn is_closing_within(&self, time: Duration) -> bool {
        timeout(time, self.closing.cancelled()).await.is_ok()
    }

    /// Waits until no task and no token is left.
    pub(crate) async fn wait(&self) {
        self.tracker.wait().await;
    }
}
