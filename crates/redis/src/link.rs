//! The connection for commands, which all calls share. A task connects it again whenever it is broken.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, InfoDict, RedisError, ScriptInvocation, cmd,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::backoff::{Backoff, LONGEST};
use crate::error::{ConnectError, Severity, Unavailable};
use crate::scripts::load_function;
use crate::settings::Checked;
use crate::status::{Part, Status};

/// After this time without an answer, a connection counts as broken.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

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
    pub(crate) fn run(&self) -> &Arc<str> {
        &self.run
    }
}

/// How to connect to the server.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    client: Client,
    node_name: String,
    longest_wait: Duration,
    loads_function: bool,
}

impl Connector {
    pub(crate) fn new(settings: &Checked) -> Result<Connector, ConnectError> {
        let client = Client::open(settings.server.clone());
        let client = client.map_err(|error| ConnectError::settings(error.to_string()))?;
        // The first node that is back after an outage extends all leases. The others must be back before these run out.
        let longest_wait = LONGEST.min(settings.lease / 3);
        Ok(Connector { client, node_name: settings.node_name.clone(), longest_wait, loads_function: false })
    }

    /// Has each connection for commands load the function for programs in other languages: the server forgets it if it is
    /// started again without its data.
    pub(crate) fn loading_function(self) -> Connector {
        Connector { loads_function: true, ..self }
    }

    /// How long to wait between two attempts.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.longest_wait)
    }

    /// Opens a connection. `part` is added to its name, which `CLIENT LIST` shows.
    pub(crate) async fn open(
        &self,
        part: &str,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config =
            config.set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let name = format!("tower-chat-rooms:{}:{part}", self.node_name);
        cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// Opens a connection for commands, and checks the server.
    pub(crate) async fn open_link(&self, number: u64) -> Result<Link, ConnectError> {
        let mut connection = self.open("commands", AsyncConnectionConfig::new()).await?;
        let info: InfoDict = cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version: String = info.get("redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < 7) {
            return Err(ConnectError::too_old(&version));
        }
        let run: String = info.get("run_id").unwrap_or_default();
        if self.loads_function
            && let Err(error) = load_function().query_async::<()>(&mut connection).await
        {
            info!(%error, "cannot load the function `chat_publish` into Redis; only programs that call it need it");
        }
        Ok(Link { connection, run: run.into(), number })
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
    link: watch::Sender<Option<Link>>,
}

impl Commands {
    pub(crate) fn new(link: Link) -> Commands {
        Commands { link: watch::Sender::new(Some(link)) }
    }

    /// Connects again whenever the connection is broken, without end.
    pub(crate) async fn keep_connected(self, connector: Connector, status: Arc<Status>) {
        let mut link = self.link.subscribe();
        let mut number = 0;
        loop {
            // The sender is in `self`, so this cannot fail.
            let _ = link.wait_for(Option::is_none).await;
            status.set(Part::Commands, false);
            let mut backoff = connector.backoff();
            loop {
                sleep(backoff.next_wait()).await;
                number += 1;
                match connector.open_link(number).await {
                    Ok(link) => {
                        info!("connected to Redis again");
                        self.link.send_replace(Some(link));
                        status.set(Part::Commands, true);
                        break;
                    }
                    Err(error) => warn!(error = &error as &dyn std::error::Error, "cannot connect to Redis"),
                }
            }
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Runs a command or script until it has an answer, on as many connections as that takes. So it must not matter
    /// if it is run twice.
    pub(crate) async fn run<'a, T: FromRedisValue>(
        &self,
        deadline: Option<Instant>,
        prepare: impl Fn(&Link) -> Command<'a>,
    ) -> Result<T, Unavailable> {
        let run = async {
            let mut backoff = Backoff::new(LONGEST);
            loop {
                let link = self.connected().await;
                let error = match prepare(&link).run(&mut link.connection.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match Severity::of(&error) {
                    Severity::Broken => self.drop_link(&link, &error),
                    Severity::Busy => sleep(backoff.next_wait()).await,
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
            if let Some(link) = &*link.borrow_and_update() {
                return link.clone();
            }
            // The sender is in `self`, so this cannot fail.
            let _ = link.changed().await;
        }
    }

    fn drop_link(&self, broken: &Link, error: &RedisError) {
        self.link.send_if_modified(|link| {
            let is_this = link.as_ref().is_some_and(|link| link.number == broken.number);
            if is_this {
                warn!(%error, "lost the connection to Redis");
                *link = None;
            }
            is_this
        });
    }
}
