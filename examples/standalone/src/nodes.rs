//! The flags of several nodes that share their rooms.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use tower_chat_rooms::ChatRoomsBuilder;

#[derive(Args)]
#[command(next_help_heading = crate::options::NODES)]
pub(crate) struct Nodes {
    /// Redis or Valkey through which several nodes share their rooms: `redis://[user:password@]host[:port][/db]`,
    /// `redis+unix:///path`, `redis+sentinel://host[,host]/master` or `redis+cluster://host[,host]`
    #[arg(long, env = "CHAT_REDIS", hide_env_values = true, value_name = "URL")]
    pub(crate) redis: Option<String>,

    /// What all keys and channels in Redis start with; nodes with the same prefix share their rooms
    #[arg(long, env = "CHAT_REDIS_PREFIX", value_name = "TEXT", default_value = "chat", requires = "redis")]
    pub(crate) redis_prefix: String,

    /// The certificate, in PEM, of the CA that has signed that of Redis, for `rediss` URLs [default: those of the system]
    #[arg(long, env = "CHAT_REDIS_CA", value_name = "FILE", requires = "redis")]
    pub(crate) redis_ca: Option<PathBuf>,

    /// This node's name among those that share its rooms [default: random]
    #[arg(long, env = "CHAT_NODE", value_name = "NAME", requires = "redis")]
    pub(crate) node: Option<String>,
}

impl Nodes {
    /// Connects to Redis, if there is one. Waits until it can be reached.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        let Some(url) = &self.redis else { return Ok(builder) };
        if !cfg!(feature = "redis") {
            return Err(
                "this build has no Redis; build it with `--features redis` for --node and the flags --redis*"
                    .into(),
            );
        }
        if !cfg!(feature = "redis-tls") && (url.starts_with("rediss") || self.redis_ca.is_some()) {
            return Err(
                "this build has no TLS to Redis; build it with `--features redis-tls` for `rediss` URLs and \
                        --redis-ca"
                    .into(),
            );
        }
        #[cfg(feature = "redis")]
        let builder = builder.broker(crate::redis::connect(url, self).await?);
        Ok(builder)
    }
}
