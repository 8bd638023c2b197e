//! The connection for commands, which all calls share. A task connects it again whenever it is broken.
//!
//! A call that was sent on a broken connection may reach the server late, after the caller has repeated it or has undone
//! what it does. So the server closes the broken connection before anything is sent on the next one.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::backoff::{Backoff, LONGEST};
use crate::connector::Connector;
use crate::error::{Severity, Unavailable};
use crate::log_limit::LogLimit;
use crate::status::{Part, Status};

/// After this time without an answer to any call, a connection counts as broken.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time is measured in this many steps, so that it is not over at once if this process was stopped for a while.
const STEPS: u32 = 4;

/// A connection to one server process.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    id: LinkId,
    /// The number of answers so far.
    answers: Arc<AtomicU64>,
}

/// Tells a connection from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkId {
    /// The id of the server process: another one may lack what this one has confirmed.
    pub(crate) run: Arc<str>,
    /// The server's number of the connection.
    pub(crate) client: i64,
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    reason: Arc<str>,
    /// The latest connection. What was sent on it may still be on its way.
    link: LinkId,
}

impl Link {
    pub(crate) fn new(connection: MultiplexedConnection, id: LinkId) -> Link {
        Link { connection, id, answers: Arc::default() }
    }

    pub(crate) fn run(&self) -> &Arc<str> {
        &self.id.run
    }

    /// Runs a command. Fails if the server does not answer any call for a while. A call may take longer if many calls were
    /// sent before it, because the server answers one call after the other.
    async fn call<T: FromRedisValue>(&self, command: Command<'_>) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        let mut answer = pin!(command.run(&mut connection));
        let (mut answers, mut silent_steps) = (self.answers.load(Ordering::Relaxed), 0);
        while silent_steps < STEPS {
            if let Ok(answer) = timeout(RESPONSE_TIMEOUT / STEPS, &mut answer).await {
                self.answers.fetch_add(1, Ordering::Relaxed);
                return answer;
            }
            let before = std::mem::replace(&mut answers, self.answers.load(Ordering::Relaxed));
            silent_steps = if answers == before { silent_steps + 1 } else { 0 };
        }
        Err(no_answer())
    }
}

/// The error of a server that does not answer.
pub(crate) fn no_answer() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer").into()
}

/// What to run on a connection.
pub(crate) enum Command<'a> {
    Plain(Cmd),
    Script(ScriptInvocation<'a>),
}

impl Command<'_> {
    async fn run<T: FromRedisValue>(self, connection: &mut MultiplexedConnection) -> Result<T, RedisError> {
        match self {
            Command::Plain(command) => command.query_async(connection).await,
            Command::Script(script) => script.invoke_async(connection).await,
        }
    }
}

/// The connection for commands.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    link: watch::Sender<Result<Link, Lost>>,
    refusal_limit: Arc<LogLimit>,
}

impl Commands {
    pub(crate) fn new(link: Link) -> Commands {
        Commands { link: watch::Sender::new(Ok(link)), refusal_limit: Arc::default() }
    }

    /// Connects again whenever the connection is broken, without end.
    pub(crate) async fn keep_connected(self, connector: Connector, status: Arc<Status>) {
        let mut link = self.link.subscribe();
        loop {
            // The sender is in `self`, so this cannot fail.
            let lost = link.wait_for(Result::is_err).await.ok().and_then(|lost| lost.clone().err());
            if let Some(Lost { reason, .. }) = &lost {
                status.fails(Part::Commands, reason);
            }
            let mut backoff = connector.backoff();
            loop {
                sleep(backoff.next_wait()).await;
                match connector.open_link(lost.as_ref().map(|lost| &lost.link)).await {
                    Ok(link) => {
                        if lost.as_ref().is_some_and(|lost| lost.link.run != *link.run()) {
                            status.restarted();
                        }
                        let _ = self.link.send_replace(Ok(link));
                        status.works(Part::Commands);
                        break;
                    }
                    Err(error) => status.fails(Part::Commands, &error.full_text()),
                }
            }
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Result<Link, Lost>> {
        self.link.subscribe()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.borrow().is_ok()
    }

    /// Runs a command or script until it has an answer, on as many connections as that takes. So it must not matter
    /// if it is run twice.
    pub(crate) async fn run<'a, T: FromRedisValue>(
        &self,
        deadline: Option<Instant>,
        prepare: impl Fn(&Link) -> Command<'a>,
    ) -> Result<T, Unavailable> {
        self.run_telling(deadline, Backoff::new(LONGEST), prepare, |_| ()).await
    }

    /// As [`Commands::run`], and tells why the server cannot run it for now. It then waits this long.
    pub(crate) async fn run_telling<'a, T: FromRedisValue>(
        &self,
        deadline: Option<Instant>,
        mut backoff: Backoff,
        prepare: impl Fn(&Link) -> Command<'a>,
        mut is_busy: impl FnMut(&RedisError),
    ) -> Result<T, Unavailable> {
        let run = async {
            loop {
                let link = self.connected().await;
                let error = match link.call(prepare(&link)).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match Severity::of(&error) {
                    Severity::Broken => self.drop_link(&link, &error),
                    Severity::Busy => {
                        is_busy(&error);
                        sleep(backoff.next_wait()).await;
                    }
                    Severity::Permanent => {
                        if let Some(suppressed) = self.refusal_limit.take() {
                            let text = "Redis refuses a command; check the permissions of its user";
                            warn!(%error, suppressed, "{text}");
                        }
                        return Err(Unavailable);
                    }
                }
            }
        };
        match deadline {
            Some(deadline) => timeout_at(deadline, run).await.unwrap_or(Err(Unavailable)),
            None => run.await,
        }
    }

    /// The run of the server, once there is a connection.
    pub(crate) async fn run_id(&self) -> Arc<str> {
        self.connected().await.id.run
    }

    async fn connected(&self) -> Link {
        let mut link = self.link.subscribe();
        loop {
            if let Ok(link) = &*link.borrow_and_update() {
                return link.clone();
            }
            // The sender is in `self`, so this cannot fail.
            let _ = link.changed().await;
        }
    }

    fn drop_link(&self, broken: &Link, error: &RedisError) {
        self.link.send_if_modified(|link| {
            let is_this = link.as_ref().is_ok_and(|link| link.id == broken.id);
            if is_this {
                debug!(%error, "lost the connection for commands");
                let reason = format!("the connection was lost: {error}").into();
                *link = Err(Lost { reason, link: broken.id.clone() });
            }
            is_this
        });
    }
}
