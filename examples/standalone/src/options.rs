//! The flags, and the chat rooms that they describe.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tower_chat_rooms::{
    BuildError, ChatRooms, Heartbeat, Origins, SlowConsumer, TrustedProxies, UniqueNames,
};
use tracing_subscriber::filter::Targets;

use crate::settings::Settings;
use crate::tokens::Tokens;

/// A chat server with its page. Every flag can also be set by an environment variable. Numbers and times
/// can be `unlimited`.
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

    #[command(flatten)]
    tokens: Tokens,

    /// Whether a name may be in a room only once
    #[arg(long, env = "CHAT_UNIQUE_NAMES", default_value = "off")]
    unique_names: Unique,

    /// What to log: a level, or levels for targets, such as `info,tower_chat_rooms=debug`
    #[arg(long, env = "CHAT_LOG", default_value = "info")]
    log: String,

    /// Origin whose pages may connect, beside this server's own; `any` for all [repeatable]
    #[arg(long, env = "CHAT_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Address or network of a reverse proxy whose header names the client [repeatable]
    #[arg(long, env = "CHAT_TRUSTED_PROXY", value_delimiter = ',', value_name = "ADDRESS[/BITS]")]
    trusted_proxy: Vec<String>,

    /// Header by which trusted proxies name the client
    #[arg(long, env = "CHAT_PROXY_HEADER", value_enum, default_value_t = ProxyHeader::XForwardedFor)]
    proxy_header: ProxyHeader,

    /// Slow-consumer policy: close, drop-oldest, drop-newest, latest
    #[arg(long, env = "CHAT_SLOW_CONSUMER", default_value = "close", value_parser = slow_consumer)]
    slow_consumer: SlowConsumer,

    #[command(flatten)]
    settings: Settings,
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
        let builder = self
            .settings
            .apply(ChatRooms::builder())
            .heartbeat(heartbeat)
            .origins(self.origins()?)
            .trusted_proxies(self.proxies()?)
            .slow_consumer(self.slow_consumer)
            .on_expiry(self.tokens.on_expiry.into())
            .unique_names(match self.unique_names {
                Unique::Off => UniqueNames::Off,
                Unique::Exact => UniqueNames::Exact,
                Unique::AnyCase => UniqueNames::AnyCase,
            });
        Ok(self.tokens.apply(builder)?.build()?)
    }

    fn origins(&self) -> Result<Origins, BuildError> {
        if self.allow_origin.iter().any(|origin| origin == "any") {
            return Ok(Origins::any());
        }
        Ok(Origins::list(&self.allow_origin)?.and_same_host())
    }

    fn proxies(&self) -> Result<TrustedProxies, BuildError> {
        let proxies = TrustedProxies::new(&self.trusted_proxy)?;
        Ok(match self.proxy_header {
            ProxyHeader::XForwardedFor => proxies,
            ProxyHeader::Forwarded => proxies.with_forwarded_header(),
        })
    }

    /// What to log.
    pub(crate) fn log_filter(&self) -> Result<Targets, Box<dyn Error + Send + Sync>> {
        self.log.parse().map_err(|e| format!("--log {:?}: {e}", self.log).into())
    }
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

/// A path without characters that would have to be encoded in the page or in a request.
fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path starts with a slash".into());
    }
    if text.contains(|c: char| !c.is_ascii_alphanumeric() && !"/-_~".contains(c)) {
        return Err("use letters, digits and / - _ ~ only".into());
    }
    Ok(text.into())
}
