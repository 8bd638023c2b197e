//! How to connect to the server: finds it, logs in, and checks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, InfoDict, RedisError, Value, cmd, from_redis_value,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, LONGEST};
use crate::error::{ConnectError, Severity};
use crate::link::{Link, LinkId, RESPONSE_TIMEOUT, no_answer};
use crate::log_limit::LogLimit;
use crate::probe;
use crate::scripts::{Scripts, load_function};
use crate::servers::{Kind, Servers};
use crate::settings::Checked;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the commands that set the name of a new connection and check its server.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// For one that knows where the server is. There are others.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// How to connect to the server.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    servers: Servers,
    /// The entry of `servers` that has answered last.
    latest_entry: Arc<AtomicUsize>,
    prefix: String,
    node_name: String,
    longest_wait: Duration,
    scripts: Arc<Scripts>,
    loads_function: bool,
    /// Whether the warning that the server may evict keys was logged.
    has_warned: Arc<AtomicBool>,
}

/// The wait for Redis at the start of a process.
pub(crate) struct Start {
    servers: String,
    backoff: Backoff,
    limit: LogLimit,
    since: Instant,
    has_waited: bool,
}

impl Start {
    pub(crate) fn new(connector: &Connector) -> Start {
        let (servers, backoff) = (connector.servers(), connector.backoff());
        Start { servers, backoff, limit: LogLimit::default(), since: Instant::now(), has_waited: false }
    }

    /// Waits until the next attempt.
    pub(crate) async fn wait(&mut self, error: &ConnectError) {
        self.log_wait(error);
        self.has_waited = true;
        sleep(self.backoff.next_wait()).await;
    }

    fn log_wait(&self, error: &ConnectError) {
        let error = error as &dyn std::error::Error;
        match self.limit.take() {
            Some(_) => warn!(error, "waiting for Redis"),
            None => debug!(error, "waiting for Redis"),
        }
    }

    /// There is a connection.
    pub(crate) fn log_end(&self) {
        if self.has_waited {
            info!(self.servers, waited = ?self.since.elapsed(), "connected to Redis");
        }
    }
}

impl Connector {
    pub(crate) fn new(settings: &Checked, scripts: Arc<Scripts>) -> Connector {
        Connector {
            servers: settings.servers.clone(),
            latest_entry: Arc::default(),
            prefix: settings.prefix.clone(),
            node_name: settings.node_name.clone(),
            // The first node that is back after an outage extends all leases. The others must be back before these run
            // out.
            longest_wait: LONGEST.min(settings.lease / 3),
            scripts,
            loads_function: false,
            has_warned: Arc::default(),
        }
    }

    /// Has each connection for commands load the function for programs in other languages: the server forgets it if it is
    /// started again without its data.
    pub(crate) fn loading_function(self) -> Connector {
        Connector { loads_function: true, ..self }
    }

    /// The servers in the URL, without the password.
    pub(crate) fn servers(&self) -> String {
        self.servers.to_string()
    }

    /// Replaces the error of a failed attempt if it becomes clear what is at the address.
    pub(crate) async fn explain<T>(&self, attempt: Result<T, ConnectError>) -> Result<T, ConnectError> {
        match attempt {
            Err(error) => Err(probe::explain(&self.servers, error).await),
            connected => connected,
        }
    }

    /// How long to wait between two attempts.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.longest_wait)
    }

    /// Opens a connection that breaks if an answer takes too long. `CLIENT LIST` shows its name, which contains `part`.
    pub(crate) async fn open(
        &self,
        part: &str,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, ConnectError> {
        self.open_with(part, config.set_response_timeout(Some(RESPONSE_TIMEOUT))).await
    }

    async fn open_with(
        &self,
        part: &str,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let server = self.find().await?;
        let (address, config) =
            (server.addr().to_string(), config.set_connection_timeout(Some(CONNECT_TIMEOUT)));
        let open = async {
            let client = self.servers.client(server)?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let name = format!("tower-chat-rooms:{}:{part}", self.node_name);
            cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(&mut connection).await?;
            Ok::<_, RedisError>(connection)
        };
        let opened = timeout(CHECK_TIMEOUT, open).await.unwrap_or_else(|_| Err(no_answer()));
        opened.map_err(|error| ConnectError::at(&address, error))
    }

    /// Opens a connection for commands in place of one that was lost, and checks the server.
    pub(crate) async fn open_link(&self, lost: Option<&LinkId>) -> Result<Link, ConnectError> {
        // The link itself finds out whether the server answers.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = self.open_with("commands", config).await?;
        let checked = timeout(CHECK_TIMEOUT, self.check(connection, lost)).await;
        checked.unwrap_or_else(|_| Err(ConnectError::at(&self.servers(), no_answer())))
    }

    async fn check(
        &self,
        mut connection: MultiplexedConnection,
        lost: Option<&LinkId>,
    ) -> Result<Link, ConnectError> {
        let servers = self.servers();
        let info =
            cmd("INFO").arg("server").arg("replication").arg("memory").query_async(&mut connection).await;
        let info: InfoDict = info.map_err(|error| ConnectError::at(&servers, error))?;
        let version: String = info.get("redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < 7) {
            return Err(ConnectError::too_old(&version));
        }
        self.check_role(&info)?;
        self.check_eviction(&info);
        let run: Arc<str> = info.get::<String>("run_id").unwrap_or_default().into();
        if let Some(lost) = lost.filter(|lost| lost.run == run) {
            self.close_lost(&mut connection, lost.client).await?;
        }
        let client = cmd("CLIENT").arg("ID").query_async(&mut connection).await;
        let client = client.map_err(|error| ConnectError::at(&servers, error))?;
        // Otherwise, if many calls come first, each of them would load its script.
        if let Err(error) = self.scripts.load(&connection).await {
            debug!(%error, "cannot load the scripts; their first calls load them");
        }
        if self.loads_function
            && let Err(error) = load_function().query_async::<()>(&mut connection).await
        {
            info!(%error, "cannot load the function `chat_publish` into Redis; only programs that call it need it");
        }
        Ok(Link::new(connection, LinkId { run, client }))
    }

    /// Warns once if the server may evict keys.
    fn check_eviction(&self, info: &InfoDict) {
        let policy: String = info.get("maxmemory_policy").unwrap_or_default();
        let is_limited = info.get::<u64>("maxmemory").is_some_and(|bytes| bytes > 0);
        let may_evict = is_limited && !policy.is_empty() && policy != "noeviction";
        if may_evict && !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                policy,
                "Redis evicts keys when its memory is full, and then rooms lose members; set `maxmemory-policy noeviction`"
            );
        }
    }

    /// Has the server close a lost connection, on which calls may still be on their way.
    async fn close_lost(
        &self,
        connection: &mut MultiplexedConnection,
        lost: i64,
    ) -> Result<(), ConnectError> {
        let kill = cmd("CLIENT").arg("KILL").arg("ID").arg(lost).query_async::<u64>(connection).await;
        match kill {
            Err(error) if Severity::of(&error) == Severity::Permanent => {
                warn!(%error, "cannot close a lost connection; allow the user of Redis `client|kill`");
                Ok(())
            }
            result => result.map(|_| ()).map_err(|error| ConnectError::at(&self.servers(), error)),
        }
    }

    fn check_role(&self, info: &InfoDict) -> Result<(), ConnectError> {
        let (mode, role): (Option<String>, Option<String>) = (info.get("redis_mode"), info.get("role"));
        let servers = &self.servers;
        match (mode.as_deref(), servers.kind()) {
            (Some("sentinel"), _) => Err(ConnectError::settings(format!(
                "{servers} is a sentinel; use a URL like `redis+sentinel://host:26379/master`"
            ))),
            (Some("cluster"), Kind::Single | Kind::Sentinel { .. }) => Err(ConnectError::settings(format!(
                "{servers} belongs to a cluster; use a URL like `redis+cluster://host:6379`"
            ))),
            // It may become the master, or another server may get its address.
            _ if role.as_deref() == Some("slave") => Err(ConnectError::unreachable(format!(
                "the server is a replica; use the master's URL: {servers}"
            ))),
            _ => Ok(()),
        }
    }

    /// Where the server is now.
    async fn find(&self) -> Result<ConnectionInfo, ConnectError> {
        let entries = self.servers.entries();
        if *self.servers.kind() == Kind::Single {
            return Ok(entries[0].clone());
        }
        let first = self.latest_entry.load(Ordering::Relaxed);
        let mut failed = None;
        for n in (0..entries.len()).map(|n| (first + n) % entries.len()) {
            match self.ask(&entries[n]).await {
                Ok(server) => {
                    self.latest_entry.store(n, Ordering::Relaxed);
                    return Ok(server);
                }
                // What one of them says is better than that another one is away.
                Err(error) if error.is_temporary() && failed.is_some() => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| ConnectError::unreachable(format!("no server in {}", self.servers))))
    }

    async fn ask(&self, entry: &ConnectionInfo) -> Result<ConnectionInfo, ConnectError> {
        let explain = |error| ConnectError::at(&entry.addr().to_string(), error);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ASK_TIMEOUT))
            .set_response_timeout(Some(ASK_TIMEOUT));
        let client = self.servers.client(entry.clone()).map_err(explain)?;
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(explain)?;
        match self.servers.kind() {
            Kind::Single => Ok(entry.clone()),
            Kind::Sentinel { master } => {
                let ask = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).take();
                let answer: Option<(String, u16)> =
                    ask.query_async(&mut connection).await.map_err(explain)?;
                let (host, port) = answer.ok_or_else(|| {
                    ConnectError::settings(format!(
                        "the sentinel {} does not know a master named {master:?}; check the end of the URL",
                        entry.addr()
                    ))
                })?;
                Ok(self.servers.at(host, port))
            }
            Kind::Cluster => {
                let slot = cmd("CLUSTER").arg("KEYSLOT").arg(&self.prefix).query_async(&mut connection).await;
                let slot: i64 = slot.map_err(explain)?;
                let slots = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await;
                let slots: Vec<Value> = slots.map_err(explain)?;
                let (host, port) =
                    slots.into_iter().find_map(|range| master_of(range, slot)).ok_or_else(|| {
                        ConnectError::unreachable(format!(
                            "no server of the cluster {} has the slot {slot} of the prefix",
                            self.servers
                        ))
                    })?;
                let host = match (host, entry.addr()) {
                    (Some(host), _) => host,
                    // The server does not know its own address, but it has one.
                    (None, ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) => {
                        host.clone()
                    }
                    (None, _) => String::new(),
                };
                Ok(self.servers.at(host, port))
            }
        }
    }
}

/// The address of the master of a range in the answer to `CLUSTER SLOTS`, if the slot is in the range. The host can be
/// unknown.
fn master_of(range: Value, slot: i64) -> Option<(Option<String>, u16)> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else { return None };
    if !(*first..=*last).contains(&slot) {
        return None;
    }
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    let host = from_redis_value::<Option<String>>(host.clone()).ok()?;
    Some((host.filter(|host| !host.is_empty() && host != "?"), u16::try_from(*port).ok()?))
}
