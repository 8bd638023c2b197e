//! The flags, and the chat rooms that they describe.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tower_chat_rooms::{
    BuildError, ChatRooms, Heartbeat, History, Origins, SlowConsumer, TrustedProxies, UniqueNames,
};
use tracing_subscriber::filter::Targets;

use crate::tokens::Tokens;

/// A chat server with its page. Every flag may also be given in the environment. A limit of 0
/// means no limit.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Address to listen on
    #[arg(long, env = "CHAT_LISTEN", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,

    /// Path of the page and of the WebSocket
    #[arg(long, env = "CHAT_PATH", default_value = "/", value_parser = path)]
    pub(crate) path: String,

    /// Time between two heartbeats of a connection
    #[arg(long, env = "CHAT_HEARTBEAT", default_value = "1s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,

    /// Time in which a heartbeat must be answered [default: the heartbeat's]
    #[arg(long, env = "CHAT_HEARTBEAT_TIMEOUT", value_parser = humantime::parse_duration)]
    heartbeat_timeout: Option<Duration>,

    /// Frames that a room keeps for members who come back; 0 for none
    #[arg(long, env = "CHAT_HISTORY", default_value_t = 100)]
    history: usize,

    /// Time for which the seat of a lost member is kept; 0s for none
    #[arg(long, env = "CHAT_GRACE", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,

    #[command(flatten)]
    tokens: Tokens,

    /// Whether a name may be in a room only once
    #[arg(long, env = "CHAT_UNIQUE_NAMES", default_value = "off")]
    unique_names: Unique,

    /// What to log: a level, or levels for targets, such as `info,tower_chat_rooms=debug`
    #[arg(long, env = "CHAT_LOG", default_value = "info")]
    log: String,

    /// Bytes of one message
    #[arg(long, env = "CHAT_MAX_MESSAGE_BYTES", default_value_t = 64 * 1024)]
    max_message_bytes: usize,

    /// Nesting of arrays and objects in a message
    #[arg(long, env = "CHAT_MAX_DEPTH", default_value_t = 64)]
    max_depth: usize,

    /// Bytes of a name
    #[arg(long, env = "CHAT_MAX_NAME_BYTES", default_value_t = 128)]
    max_name_bytes: usize,

    /// Characters of a name
    #[arg(long, env = "CHAT_MAX_NAME_CHARS", default_value_t = 64)]
    max_name_chars: usize,

    /// Bytes of a room id
    #[arg(long, env = "CHAT_MAX_ROOM_ID_BYTES", default_value_t = 128)]
    max_room_id_bytes: usize,

    /// Characters of a room id
    #[arg(long, env = "CHAT_MAX_ROOM_ID_CHARS", default_value_t = 128)]
    max_room_id_chars: usize,

    /// Members of one room
    #[arg(long, env = "CHAT_MAX_ROOM_MEMBERS", default_value_t = 10_000)]
    max_room_members: usize,

    /// Rooms at once
    #[arg(long, env = "CHAT_MAX_ROOMS", default_value_t = 65_536)]
    max_rooms: usize,

    /// Connections at once
    #[arg(long, env = "CHAT_MAX_CONNECTIONS", default_value_t = 65_536)]
    max_connections: usize,

    /// Connections of one IP address at once; of IPv6, of one /64 network
    #[arg(long, env = "CHAT_MAX_CONNECTIONS_PER_IP", default_value_t = 256)]
    max_connections_per_ip: usize,

    /// Connections at once that have not entered a room yet
    #[arg(long, env = "CHAT_MAX_PENDING", default_value_t = 16_384)]
    max_pending: usize,

    /// Origin whose pages may connect, beside this server's own; `any` for all [repeatable]
    #[arg(long, env = "CHAT_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Address or network of a reverse proxy whose header names the client [repeatable]
    #[arg(long, env = "CHAT_TRUSTED_PROXY", value_delimiter = ',', value_name = "ADDRESS[/BITS]")]
    trusted_proxy: Vec<String>,

    /// Header by which trusted proxies name the client
    #[arg(long, env = "CHAT_PROXY_HEADER", value_enum, default_value_t = ProxyHeader::XForwardedFor)]
    proxy_header: ProxyHeader,

    /// Frames that may wait for a slow connection
    #[arg(long, env = "CHAT_MAX_QUEUE_FRAMES", default_value_t = 1024)]
    max_queue_frames: usize,

    /// Bytes that may wait for a slow connection
    #[arg(long, env = "CHAT_MAX_QUEUE_BYTES", default_value_t = 256 * 1024)]
    max_queue_bytes: usize,

    /// What happens to who reads too slowly: close, drop-oldest, drop-newest, latest
    #[arg(long, env = "CHAT_SLOW_CONSUMER", default_value = "close", value_parser = slow_consumer)]
    slow_consumer: SlowConsumer,

    /// Time in which a socket must take some of what waits for it
    #[arg(long, env = "CHAT_WRITE_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    write_timeout: Duration,

    /// Messages per second of one connection
    #[arg(long, env = "CHAT_MAX_MESSAGES_PER_SECOND", default_value_t = 100)]
    max_messages_per_second: u32,

    /// Bytes of messages per second of one connection
    #[arg(long, env = "CHAT_MAX_BYTES_PER_SECOND", default_value_t = 256 * 1024)]
    max_bytes_per_second: usize,

    /// Enters per minute of one connection
    #[arg(long, env = "CHAT_MAX_ENTERS_PER_MINUTE", default_value_t = 60)]
    max_enters_per_minute: u32,

    /// Rooms that one connection may open per minute
    #[arg(long, env = "CHAT_MAX_NEW_ROOMS_PER_MINUTE", default_value_t = 20)]
    max_new_rooms_per_minute: u32,

    /// Frames beyond these rates that close a connection
    #[arg(long, env = "CHAT_MAX_EXCESS", default_value_t = 100)]
    max_excess: u32,

    /// Time after which a connection has to come anew
    #[arg(long, env = "CHAT_MAX_LIFETIME", default_value = "0s", value_parser = humantime::parse_duration)]
    max_lifetime: Duration,

    /// Failed authentications that close a connection
    #[arg(long, env = "CHAT_MAX_FAILED_AUTHS", default_value_t = 8)]
    max_failed_auths: u32,

    /// Malformed frames in a row that close a connection
    #[arg(long, env = "CHAT_MAX_BAD_FRAMES", default_value_t = 8)]
    max_bad_frames: u32,

    /// Time until a connection must have entered a room
    #[arg(long, env = "CHAT_ENTER_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    enter_timeout: Duration,

    /// Time until somebody must have authenticated
    #[arg(long, env = "CHAT_AUTH_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    auth_timeout: Duration,

    /// Time that a hook may take to answer
    #[arg(long, env = "CHAT_HOOK_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    hook_timeout: Duration,

    /// Time for the closing handshake, and for a shutdown
    #[arg(long, env = "CHAT_CLOSE_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration)]
    close_timeout: Duration,

    /// How long before its token expires a client is warned; 0 for no warning
    #[arg(long, env = "CHAT_TOKEN_WARNING", default_value = "30s", value_parser = humantime::parse_duration)]
    token_warning: Duration,
}

/// [`UniqueNames`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unique {
    /// As often as anybody likes
    Off,
    /// Once as it is written
    Exact,
    /// Once, whether in capitals or not
    AnyCase,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProxyHeader {
    XForwardedFor,
    Forwarded,
}

impl Options {
    /// The chat rooms that the flags describe.
    pub(crate) fn chat_rooms(&self) -> Result<ChatRooms, Box<dyn Error + Send + Sync>> {
        let heartbeat = Heartbeat::every(self.heartbeat);
        let heartbeat = match self.heartbeat_timeout {
            Some(timeout) => heartbeat.with_timeout(timeout),
            None => heartbeat,
        };
        let mut builder = ChatRooms::builder()
            .heartbeat(heartbeat)
            .grace(self.grace)
            .max_message_bytes(count(self.max_message_bytes))
            .max_depth(count(self.max_depth))
            .max_name_bytes(count(self.max_name_bytes))
            .max_name_chars(count(self.max_name_chars))
            .max_room_id_bytes(count(self.max_room_id_bytes))
            .max_room_id_chars(count(self.max_room_id_chars))
            .max_room_members(count(self.max_room_members))
            .max_rooms(count(self.max_rooms))
            .max_connections(count(self.max_connections))
            .max_connections_per_ip(count(self.max_connections_per_ip))
            .max_pending(count(self.max_pending))
            .origins(self.origins()?)
            .trusted_proxies(self.proxies()?)
            .max_queue_frames(count(self.max_queue_frames))
            .max_queue_bytes(count(self.max_queue_bytes))
            .slow_consumer(self.slow_consumer)
            .write_timeout(time(self.write_timeout))
            .max_messages_per_second(number(self.max_messages_per_second))
            .max_bytes_per_second(count(self.max_bytes_per_second))
            .max_enters_per_minute(number(self.max_enters_per_minute))
            .max_new_rooms_per_minute(number(self.max_new_rooms_per_minute))
            .max_excess(number(self.max_excess))
            .max_lifetime(time(self.max_lifetime))
            .max_failed_auths(number(self.max_failed_auths))
            .max_bad_frames(number(self.max_bad_frames))
            .enter_timeout(time(self.enter_timeout))
            .auth_timeout(time(self.auth_timeout))
            .hook_timeout(time(self.hook_timeout))
            .close_timeout(time(self.close_timeout))
            .token_warning(self.token_warning)
            .on_expiry(self.tokens.on_expiry.into())
            .unique_names(match self.unique_names {
                Unique::Off => UniqueNames::Off,
                Unique::Exact => UniqueNames::Exact,
                Unique::AnyCase => UniqueNames::AnyCase,
            });
        if self.history > 0 {
            builder = builder.history(History::last(self.history));
        }
        Ok(self.tokens.apply(builder)?.build()?)
    }

    fn origins(&self) -> Result<Origins, BuildError> {
        if self.allow_origin.iter().any(|origin| origin == "any") {
            return Ok(Origins::any());
        }
        Ok(Origins::these(&self.allow_origin)?.or_same_host())
    }

    fn proxies(&self) -> Result<TrustedProxies, BuildError> {
        let proxies = TrustedProxies::these(&self.trusted_proxy)?;
        Ok(match self.proxy_header {
            ProxyHeader::XForwardedFor => proxies,
            ProxyHeader::Forwarded => proxies.by_forwarded(),
        })
    }

    /// What to log.
    pub(crate) fn log_filter(&self) -> Result<Targets, Box<dyn Error + Send + Sync>> {
        self.log.parse().map_err(|e| format!("--log {:?}: {e}", self.log).into())
    }
}

/// 0 stands for no limit.
fn count(n: usize) -> usize {
    if n == 0 { usize::MAX } else { n }
}

fn number(n: u32) -> u32 {
    if n == 0 { u32::MAX } else { n }
}

fn slow_consumer(text: &str) -> Result<SlowConsumer, String> {
    match text {
        "close" => Ok(SlowConsumer::Close),
        "drop-oldest" => Ok(SlowConsumer::DropOldest),
        "drop-newest" => Ok(SlowConsumer::DropNewest),
        "latest" => Ok(SlowConsumer::Latest),
        _ => Err("give close, drop-oldest, drop-newest or latest".into()),
    }
}

fn time(t: Duration) -> Duration {
    if t.is_zero() { Duration::MAX } else { t }
}

fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path begins with a slash".into());
    }
    if text.contains(['?', '#', '"', '<', '>', '&', '\'', '\\']) {
        return Err("a path holds none of ? # \" ' < > & \\".into());
    }
    Ok(text.into())
}
