//! What all parts of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use redis::cmd;
use tokio::select;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Unavailable;
use crate::hub::Hub;
use crate::keys::Keys;
use crate::lease::Registration;
use crate::link::{Command, Commands, Link};
use crate::profiles::Profiles;
use crate::random;
use crate::reply::Reply;
use crate::scripts::{Request, Scripts};
use crate::sessions::Sessions;
use crate::status::Status;
use crate::sync::Mutex;
use crate::users::Users;

/// How long the line about the end of an outage waits until all logs are read.
const REPORT_WAIT: Duration = Duration::from_secs(30);

/// What all parts of a node share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) keys: Keys,
    pub(crate) lease: Duration,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) commands: Commands,
    pub(crate) hub: Hub,
    pub(crate) status: Arc<Status>,
    pub(crate) registration: Registration,
    pub(crate) publishers: Publishers,
    pub(crate) profiles: Profiles,
    /// Held while members are entered again, from when it is known which.
    pub(crate) reentry: AsyncMutex<()>,
    pub(crate) message_ids: MessageIds,
    pub(crate) tasks: Tasks,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) users: Users,
}

/// Ids of messages that have none, so that they can be sent again after a failure.
#[derive(Debug)]
pub(crate) struct MessageIds {
    prefix: u64,
    next: AtomicU64,
}

impl MessageIds {
    pub(crate) fn new() -> MessageIds {
        MessageIds { prefix: random::number(), next: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> String {
        format!("{:016x}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Ends the node's tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    is_closed: watch::Sender<bool>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks { is_closed: watch::Sender::new(false) }
    }
}

/// Calls of publishers that are under way.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    count: AtomicUsize,
}

/// One call of a publisher.
#[derive(Debug)]
pub(crate) struct Publishing<'a> {
    publishers: &'a Publishers,
}

impl Publishers {
    /// So many may wait while there is no connection.
    const MAX_WAITING: usize = 1000;

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self, is_connected: bool) -> Result<Publishing<'_>, Unavailable> {
        let publishing = Publishing { publishers: self };
        let others = self.count.fetch_add(1, Ordering::Relaxed);
        if is_connected || others < Publishers::MAX_WAITING { Ok(publishing) } else { Err(Unavailable) }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.publishers.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    /// Runs a task that ends with the node at the latest.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let mut is_closed = self.tasks.is_closed.subscribe();
        tokio::spawn(async move {
            select! {
                result = task => Some(result),
                _ = is_closed.wait_for(|is_closed| *is_closed) => None,
            }
        })
    }

    /// Writes a line to the log whenever an outage is over, as soon as it is known what is lost.
    pub(crate) async fn report_recoveries(self: Arc<Inner>) {
        loop {
            self.status.recovered().await;
            // The connection for commands may be lost, too, and nobody has used it since.
            let _ = self.commands.run::<()>(None, |_| Command::Plain(cmd("PING"))).await;
            let _ = timeout(REPORT_WAIT, self.hub.until_read()).await;
            self.status.log_recovery();
        }
    }

    /// Ends all tasks.
    pub(crate) fn close(&self) {
        self.tasks.is_closed.send_replace(true);
        self.hub.queue().close();
    }

    /// Runs a script as the node, as often as it takes. If the node has been fenced, waits until it has entered its
    /// members again.
    pub(crate) async fn call(
        &self,
        room: &str,
        deadline: Instant,
        request: Request<'_>,
    ) -> Result<Reply, Unavailable> {
        timeout_at(deadline, self.call_active(room, &request)).await.unwrap_or(Err(Unavailable))
    }

    /// Like [`Inner::call`], for as long as it takes.
    pub(crate) async fn call_active(&self, room: &str, request: &Request<'_>) -> Result<Reply, Unavailable> {
        loop {
            let node = self.registration.active().await;
            let reply = self.call_as(&node, room, request).await?;
            if !reply.is_fenced() {
                return Ok(reply);
            }
            self.registration.set_fenced(&node);
        }
    }

    /// Runs a script as an incarnation of a node, as often as it takes.
    pub(crate) async fn call_as(
        &self,
        node: &str,
        room: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Unavailable> {
        let prepare = |link: &Link| self.scripts.prepare(request, link, node, room);
        self.commands.run(None, prepare).await
    }
}
