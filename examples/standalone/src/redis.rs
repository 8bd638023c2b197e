//! The connection to Redis that the flags about nodes describe.

use std::error::Error;

use tower_chat_rooms::{BrokerNode, RedisSettings};

use crate::nodes::Nodes;

/// Waits until Redis can be reached.
pub(crate) async fn connect(url: &str, flags: &Nodes) -> Result<BrokerNode, Box<dyn Error + Send + Sync>> {
    let settings = RedisSettings::new(url).prefix(&flags.redis_prefix);
    let settings = match &flags.node {
        Some(name) => settings.node_name(name),
        None => settings,
    };
    #[cfg(feature = "redis-tls")]
    let settings = match &flags.redis_ca {
        Some(file) => {
            let pem = std::fs::read(file);
            settings.ca_certificate(pem.map_err(|error| format!("can't read {}: {error}", file.display()))?)
        }
        None => settings,
    };
    Ok(BrokerNode::redis(settings).await?)
}
