//! The connection for commands, which all calls share. A task connects it again whenever it is broken.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use crate::backoff::{Backoff, LONGEST};
use crate::connector::Connector;
use crate::error::{Severity, Unavailable};
use crate::status::{Part, Status};

/// After this time without an answer, a connection counts as broken.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to one server process.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    /// The id of the server process: another one may lack what this one has confirmed.
    run: Arc<str>,
    /// Tells this connection from later ones.
    number: u64,
}

impl Link {
    pub(crate) fn new(connection: MultiplexedConnection, run: Arc<str>, number: u64) -> Link {
        Link { connection, run, number }
    }

    pub(crate) fn run(&self) -> &Arc<str> {
        &self.run
    }
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
    /// Without one, why it was lost.
    link: watch::Sender<Result<Link, Arc<str>>>,
}

impl Commands {
    pub(crate) fn new(link: Link) -> Commands {
        Commands { link: watch::Sender::new(Ok(link)) }
    }

    /// Connects again whenever the connection is broken, without end.
    pub(crate) async fn keep_connected(self, connector: Connector, status: Arc<Status>) {
        let mut link = self.link.subscribe();
        let mut number = 0;
        loop {
            // The sender is in `self`, so this cannot fail.
            if let Ok(lost) = link.wait_for(Result::is_err).await
                && let Err(reason) = &*lost
            {
                status.fails(Part::Commands, reason);
            }
            let mut backoff = connector.backoff();
            loop {
                sleep(backoff.next_wait()).await;
                number += 1;
                match connector.open_link(number).await {
                    Ok(link) => {
                        let _ = self.link.send_replace(Ok(link));
                        status.works(Part::Commands);
                        break;
                    }
                    Err(error) => status.fails(Part::Commands, &error.full_text()),
                }
            }
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Result<Link, Arc<str>>> {
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
                let error = match prepare(&link).run(&mut link.connection.clone()).await {
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
                        warn!(%error, "Redis refuses a command; check the permissions of its user");
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
        self.connected().await.run
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
            let is_this = link.as_ref().is_ok_and(|link| link.number == broken.number);
            if is_this {
                debug!(%error, "lost the connection for commands");
                *link = Err(format!("the connection was lost: {error}").into());
            }
            is_this
        });
    }
}
