//! The flags, and the chat rooms that they describe.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use tower_chat_rooms::{
    ChatRooms, ChatRoomsLayer, Drain, Heartbeat, Origins, SlowConsumer, TrustedProxies, UniqueNames,
};

use crate::admin::{Admin, AdminOptions};
use crate::given::given;
use crate::listen::{ListenForMetrics, ListenOn};
use crate::logging::Logging;
use crate::nodes::Nodes;
use crate::server::HttpLimits;
use crate::settings::{Settings, with_flags};
use crate::store::Store;
use crate::tokens::Tokens;

// The sections of the help. They say which features a build needs for their flags.
pub(crate) const LISTENING: &str = "Listening";
pub(crate) const WHO_CONNECTS: &str = "Who may connect";
pub(crate) const ROOMS: &str = "Rooms and messages";
pub(crate) const TOKENS: &str = if cfg!(feature = "jwt") {
    "JSON Web Tokens"
} else {
    "JSON Web Tokens (not in this build; needs `--features jwt`)"
};
pub(crate) const STORE: &str = if cfg!(feature = "store") {
    "Stored messages"
} else {
    "Stored messages (not in this build; needs `--features store`)"
};
pub(crate) const NODES: &str = if cfg!(feature = "redis-tls") {
    "Several nodes"
} else if cfg!(feature = "redis") {
    "Several nodes (without TLS in this build; TLS needs `--features redis-tls`)"
} else {
    "Several nodes (not in this build; needs `--features redis`, or `redis-tls` for TLS)"
};
pub(crate) const OPERATIONS: &str = "Operations";
pub(crate) const HEARTBEATS: &str = "Heartbeats";
pub(crate) const TIMEOUTS: &str = "Timeouts";

/// How long a drain from the admin view takes, unless a flag sets it.
const ADMIN_DRAIN: Duration = Duration::from_secs(10);

/// A chat server with its page.
///
/// Without flags, it listens on http://127.0.0.1:3000, and anyone on this machine may connect.
///
/// Every flag except --check can also be set by an environment variable. `unlimited` removes a limit, and so does `0`,
/// except for --max-room-id-bytes, --max-room-id-chars, --resume-window, --history, --token-warning, --drain and
/// --ready-delay, and for --max-depth, which is at most 127.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) listen: ListenOn,

    /// Path of the page and of the WebSocket
    #[arg(long, env = "CHAT_PATH", default_value = "/", help_heading = LISTENING)]
    path: String,

    #[command(flatten)]
    tokens: Tokens,

    /// Origin whose pages may connect, besides this server's own; `any` for all [repeatable]
    #[arg(
        long,
        env = "CHAT_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN",
        help_heading = WHO_CONNECTS
    )]
    allow_origin: Vec<String>,

    /// Address or network of a reverse proxy that passes the client's address in a header [repeatable]
    #[arg(
        long,
        env = "CHAT_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "ADDRESS[/BITS]",
        help_heading = WHO_CONNECTS
    )]
    trusted_proxy: Vec<String>,

    /// Header in which trusted proxies pass the client's address
    #[arg(
        long,
        env = "CHAT_PROXY_HEADER",
        value_enum,
        default_value_t = ProxyHeader::XForwardedFor,
        help_heading = WHO_CONNECTS
    )]
    proxy_header: ProxyHeader,

    /// Whether members of a room must have different names
    #[arg(long, env = "CHAT_UNIQUE_NAMES", default_value = "off", help_heading = ROOMS)]
    unique_names: Unique,

    /// Transient event: not in the history, not acknowledged, may be dropped; the page uses `typing` [repeatable]
    #[arg(
        long,
        env = "CHAT_TRANSIENT_EVENTS",
        value_delimiter = ',',
        value_name = "EVENT",
        default_value = "typing",
        help_heading = ROOMS
    )]
    transient_events: Vec<String>,

    /// Slow-consumer policy: close, drop-oldest, drop-newest, latest
    #[arg(
        long,
        env = "CHAT_SLOW_CONSUMER",
        default_value = "close",
        value_parser = slow_consumer,
        help_heading = ROOMS
    )]
    slow_consumer: SlowConsumer,

    #[command(flatten)]
    pub(crate) store: Store,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    pub(crate) metrics: ListenForMetrics,

    #[command(flatten)]
    admin: AdminOptions,

    #[command(flatten)]
    pub(crate) logging: Logging,

    /// Time over which connections are closed when the server is told to stop, so that its clients move to other nodes
    #[arg(long, env = "CHAT_DRAIN", default_value = "0s", value_parser = whole_time, help_heading = OPERATIONS)]
    drain: Duration,

    /// Time before the first connection is closed, so that the load balancer learns of the drain from the path `health`
    #[arg(
        long,
        env = "CHAT_READY_DELAY",
        default_value = "0s",
        value_parser = whole_time,
        help_heading = OPERATIONS
    )]
    ready_delay: Duration,

    /// Ask the server at this address whether it answers, and exit: with 0 if it does, otherwise with 1. With --store, ask
    /// the database as well
    #[arg(long, value_name = "ADDRESS", help_heading = OPERATIONS)]
    pub(crate) check: Option<SocketAddr>,

    /// Time between two heartbeats of a plain client; the tutorial's page needs the default
    #[arg(long, env = "CHAT_HEARTBEAT", default_value = "1s", value_parser = humantime::parse_duration, help_heading = HEARTBEATS)]
    heartbeat: Duration,

    /// Time within which a plain client must answer a heartbeat [default: as --heartbeat]
    #[arg(long, env = "CHAT_HEARTBEAT_TIMEOUT", value_parser = humantime::parse_duration, help_heading = HEARTBEATS)]
    heartbeat_timeout: Option<Duration>,

    /// Time between two heartbeats of a client that speaks `chat-rooms.v1`, such as this server's page
    #[arg(long, env = "CHAT_V1_HEARTBEAT", default_value = "25s", value_parser = humantime::parse_duration, help_heading = HEARTBEATS)]
    v1_heartbeat: Duration,

    /// Time within which such a client must answer a heartbeat [default: as --v1-heartbeat, at most 20s]
    #[arg(long, env = "CHAT_V1_HEARTBEAT_TIMEOUT", value_parser = humantime::parse_duration, help_heading = HEARTBEATS)]
    v1_heartbeat_timeout: Option<Duration>,

    /// Time within which a client must send the head of a request
    #[arg(long, env = "CHAT_HEAD_TIMEOUT", default_value = "10s", value_parser = time_limit, help_heading = TIMEOUTS)]
    head_timeout: Duration,

    /// Time after which a connection is closed, unless it has become a WebSocket
    #[arg(long, env = "CHAT_HTTP_TIMEOUT", default_value = "1m", value_parser = time_limit, help_heading = TIMEOUTS)]
    http_timeout: Duration,

    #[command(flatten)]
    settings: Settings,

    #[arg(skip)]
    given: String,
}

/// [`UniqueNames`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unique {
    /// Several members may have the same name
    Off,
    /// Names are unique as they are written
    Exact,
    /// Names are unique regardless of case
    AnyCase,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProxyHeader {
    XForwardedFor,
    Forwarded,
}

impl Options {
    /// Reads the flags and the environment. Exits with a message if they are wrong.
    pub(crate) fn read() -> Options {
        let mut command = Options::command();
        let matches = command.get_matches_mut();
        let options = Options::from_arg_matches(&matches);
        let options = options.unwrap_or_else(|error| error.format(&mut command).exit());
        Options { given: given(&command, &matches), ..options }
    }

    /// The options that were given as flags or in the environment, for the log.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// Which clients may connect, for the log.
    pub(crate) fn auth(&self) -> &'static str {
        if self.tokens.are_required() { "JSON Web Tokens" } else { "none" }
    }

    /// The chat rooms that the flags describe.
    pub(crate) async fn chat_rooms(&self) -> Result<ChatRooms, Box<dyn Error + Send + Sync>> {
        let heartbeat = Heartbeat::every(self.heartbeat);
        let v1_heartbeat = Heartbeat::every(self.v1_heartbeat);
        let v1_timeout = self.v1_heartbeat.min(Heartbeat::wide_internet().timeout());
        let builder = self
            .settings
            .apply(ChatRooms::builder())
            .heartbeat(heartbeat.with_timeout(self.heartbeat_timeout.unwrap_or(self.heartbeat)))
            .v1_heartbeat(v1_heartbeat.with_timeout(self.v1_heartbeat_timeout.unwrap_or(v1_timeout)))
            .origins(self.origins()?)
            .trusted_proxies(self.proxies()?)
            .slow_consumer(self.slow_consumer)
            .transient_events(&self.transient_events)
            .on_expiry(self.tokens.on_expiry.into())
            .unique_names(match self.unique_names {
                Unique::Off => UniqueNames::Off,
                Unique::Exact => UniqueNames::Exact,
                Unique::AnyCase => UniqueNames::AnyCase,
            });
        let builder = self.nodes.apply(builder).await?;
        let builder = self.store.apply(builder).await?;
        Ok(self.tokens.apply(builder)?.build().map_err(|error| with_flags(&error))?)
    }

    /// The layer for the path.
    pub(crate) fn layer(&self, rooms: &ChatRooms) -> Result<ChatRoomsLayer, String> {
        rooms.try_layer(&self.path).map_err(|error| format!("--path: {error}"))
    }

    /// The admin view, if it is enabled.
    pub(crate) async fn admin(&self, rooms: &ChatRooms) -> Result<Option<Admin>, String> {
        let drain = self.drain().unwrap_or(Drain::over(ADMIN_DRAIN));
        self.admin.listen(rooms, drain, self.listen.socket_mode()).await
    }

    /// How clients move to other nodes when the server stops. `None` if they do not.
    pub(crate) fn drain(&self) -> Option<Drain> {
        let drain = Drain::over(self.drain).ready_delay(self.ready_delay);
        (!self.drain.is_zero() || !self.ready_delay.is_zero()).then_some(drain)
    }

    /// The limits of HTTP connections.
    pub(crate) fn http_limits(&self) -> HttpLimits {
        // Trusted proxies have connections for all of their clients.
        let has_proxy = !self.trusted_proxy.is_empty();
        HttpLimits {
            head_timeout: self.head_timeout,
            http_timeout: self.http_timeout,
            max_sockets_per_address: if has_proxy {
                usize::MAX
            } else {
                self.settings.max_connections_per_ip()
            },
        }
    }

    fn origins(&self) -> Result<Origins, String> {
        if self.allow_origin.iter().any(|origin| origin == "any") {
            return Ok(Origins::any());
        }
        let origins = Origins::list(&self.allow_origin);
        Ok(origins.map_err(|error| format!("--allow-origin: {}", with_flags(&error)))?.and_same_host())
    }

    fn proxies(&self) -> Result<TrustedProxies, String> {
        let proxies = TrustedProxies::new(&self.trusted_proxy)
            .map_err(|error| format!("--trusted-proxy: {}", with_flags(&error)))?;
        Ok(match self.proxy_header {
            ProxyHeader::XForwardedFor => proxies,
            ProxyHeader::Forwarded => proxies.with_forwarded_header(),
        })
    }
}

/// A time; zero means zero.
fn whole_time(text: &str) -> Result<Duration, humantime::DurationError> {
    if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) }
}

/// A time; zero or `unlimited` means no limit.
fn time_limit(text: &str) -> Result<Duration, humantime::DurationError> {
    match text {
        "0" | "unlimited" => Ok(Duration::MAX),
        text => humantime::parse_duration(text).map(|time| if time.is_zero() { Duration::MAX } else { time }),
    }
}

fn slow_consumer(text: &str) -> Result<SlowConsumer, String> {
    match text {
        "close" => Ok(SlowConsumer::Close),
        "drop-oldest" => Ok(SlowConsumer::DropOldest),
        "drop-newest" => Ok(SlowConsumer::DropNewest),
        "latest" => Ok(SlowConsumer::Latest),
        _ => Err("use close, drop-oldest, drop-newest or latest".into()),
    }
}
