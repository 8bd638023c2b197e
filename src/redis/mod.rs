//! The broker in Redis or Valkey.

mod broker;
mod calls;
#[cfg(test)]
mod conformance;
mod convert;
mod jobs;
mod publisher;
mod turns;

use std::sync::Arc;

use tokio::runtime::Handle;
use tower_chat_rooms_redis as redis;
pub use tower_chat_rooms_redis::{ConnectError as RedisConnectError, Settings as RedisSettings};

use crate::broker::{BoxFuture, BrokerNode, RemoteEvent, RemoteEvents};
use broker::RedisBroker;
use convert::event_of;
pub use publisher::{RedisPublisher, RedisSent};

struct Events(redis::Events);

impl BrokerNode {
    /// Connects to Redis 7.0, Valkey 7.2 or later. All processes that use the same prefix share their rooms.
    ///
    /// Set `maxmemory-policy noeviction`: if keys are evicted, rooms lose members.
    ///
    /// ```no_run
    /// use tower_chat_rooms::{BrokerNode, ChatRooms, RedisSettings};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = BrokerNode::redis(RedisSettings::new("redis://127.0.0.1").prefix("shop-chat")).await?;
    /// let rooms = ChatRooms::builder().broker(node).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If a process ends without [`shutdown`](crate::ChatRooms::shutdown), the other nodes remove its members when its
    /// [lease](RedisSettings::lease) has expired.
    ///
    /// # Errors
    ///
    /// If the settings cannot work, or if Redis refuses the connection. If Redis cannot be reached,
    /// [`RedisSettings::wait_for_redis`] decides whether the call waits or fails.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub async fn redis(settings: RedisSettings) -> Result<BrokerNode, RedisConnectError> {
        let (node, events) = redis::Node::connect(settings).await?;
        let broker = RedisBroker::new(node, Handle::current());
        Ok(BrokerNode { broker: Arc::new(broker), events: Box::new(Events(events)) })
    }
}

impl RemoteEvents for Events {
    fn next(&mut self) -> BoxFuture<'_, Option<RemoteEvent>> {
        Box::pin(async {
            loop {
                let event = self.0.recv().await?;
                if let Some(event) = event_of(event) {
                    return Some(event);
                }
            }
        })
    }
}
