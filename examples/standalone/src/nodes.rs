//! The flags of several servers that share their rooms.

use std::error::Error;
#[cfg(feature = "redis-tls")]
use std::path::PathBuf;

use clap::Args;
use tower_chat_rooms::{BrokerNode, ChatRoomsBuilder, RedisSettings};

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Redis or Valkey through which several servers share their rooms: `redis://[user:password@]host[:port][/db]`,
    /// `redis+unix:///path`, `redis+sentinel://host[,host]/master` or `redis+cluster://host[,host]`
    #[arg(long, env = "CHAT_REDIS", value_name = "URL")]
    redis: Option<String>,

    /// What all keys and channels in Redis start with; servers with the same prefix share their rooms
    #[arg(long, env = "CHAT_REDIS_PREFIX", value_name = "TEXT", default_value = "chat")]
    redis_prefix: String,

    /// The certificate, in PEM, of the CA that has signed that of Redis, for `rediss` URLs [default: those of the system]
    #[cfg(feature = "redis-tls")]
    #[arg(long, env = "CHAT_REDIS_CA", value_name = "FILE")]
    redis_ca: Option<PathBuf>,

    /// This server's name among those that share its rooms [default: random]
    #[arg(long, env = "CHAT_NODE", value_name = "NAME")]
    node: Option<String>,
}

impl Nodes {
    /// Connects to Redis, if there is one. Waits until it can be reached.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        let Some(url) = &self.redis else { return Ok(builder) };
        let settings = RedisSettings::new(url).prefix(&self.redis_prefix);
        let settings = match &self.node {
            Some(name) => settings.node_name(name),
            None => settings,
        };
        #[cfg(feature = "redis-tls")]
        let settings = match &self.redis_ca {
            Some(file) => {
                let pem = std::fs::read(file);
                settings
                    .ca_certificate(pem.map_err(|error| format!("can't read {}: {error}", file.display()))?)
            }
            None => settings,
        };
        Ok(builder.broker(BrokerNode::redis(settings).await?))
    }
}
