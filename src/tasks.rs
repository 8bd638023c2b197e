//! The engine's own tasks: a shutdown waits for all of them.

use std::sync::OnceLock;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// The runtime of the first connection.
    runtime: OnceLock<Handle>,
}

impl Tasks {
    /// Remembers the runtime in which connections run.
    pub(crate) fn remember_runtime(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.runtime.get_or_init(|| runtime);
        }
    }

    /// Spawns a task: in the connections' runtime, since a host's call may come from one that is not
    /// driven for long. Before the first connection there is nothing to spawn.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self.runtime.get() {
            Some(runtime) => drop(self.tracker.spawn_on(task, runtime)),
            None => drop(task),
        }
    }

    /// Makes [`Tasks::wait`] wait until the token is dropped.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Lets [`Tasks::wait`] return once nothing runs.
    pub(crate) fn close(&self) {
        self.tracker.close();
    }

    /// Waits until no task and no token is left.
    pub(crate) async fn wait(&self) {
        self.tracker.wait().await;
    }
}
