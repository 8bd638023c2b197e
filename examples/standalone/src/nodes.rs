//! The flags of several servers that share their rooms.

use clap::Args;
use tower_chat_rooms::{BrokerNode, ChatRoomsBuilder, RedisConnectError, RedisSettings};

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Redis or Valkey through which several servers share their rooms, such as `redis://127.0.0.1`
    #[arg(long, env = "CHAT_REDIS", value_name = "URL")]
    redis: Option<String>,

    /// What all keys and channels in Redis start with; servers with the same prefix share their rooms
    #[arg(long, env = "CHAT_REDIS_PREFIX", value_name = "TEXT", default_value = "chat")]
    redis_prefix: String,

    /// This server's name among those that share its rooms [default: random]
    #[arg(long, env = "CHAT_NODE", value_name = "NAME")]
    node: Option<String>,
}

impl Nodes {
    /// Connects to Redis, if there is one. Waits until it can be reached.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, RedisConnectError> {
        let Some(url) = &self.redis else { return Ok(builder) };
        let settings = RedisSettings::new(url).prefix(&self.redis_prefix);
        let settings = match &self.node {
            Some(name) => settings.node_name(name),
            None => settings,
        };
        Ok(builder.broker(BrokerNode::redis(settings).await?))
    }
}
