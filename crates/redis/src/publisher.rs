//! Sends to rooms from a process that is not a node.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::answers::Published;
use crate::codec;
use crate::connector::{Connector, Start};
use crate::error::{ConnectError, Unavailable};
use crate::inner::MessageIds;
use crate::keys::Keys;
use crate::link::{Command, Commands, Link};
use crate::reply::Reply;
use crate::scripts::{Request, Scripts};
use crate::settings::Settings;
use crate::status::Status;

/// How long a call waits for Redis. A connection that does not answer is replaced after 2 s.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Used instead of a node's incarnation.
const NO_NODE: &str = "";

/// Sends to rooms from a process that is not a node. It has no members and no lease, and receives no events.
#[derive(Debug)]
pub struct Publisher {
    keys: Keys,
    scripts: Arc<Scripts>,
    commands: Commands,
    message_ids: MessageIds,
    reconnect: AbortHandle,
}

impl Publisher {
    /// Connects to Redis.
    ///
    /// # Errors
    ///
    /// As [`Node::connect`](crate::Node::connect).
    pub async fn connect(settings: Settings) -> Result<Publisher, ConnectError> {
        let settings = settings.check()?;
        let keys = Keys::new(&settings.prefix);
        let scripts = Arc::new(Scripts::new(keys.clone(), &settings));
        let connector = Connector::new(&settings, scripts.clone());
        let mut start = Start::new(&connector);
        let link = loop {
            match connector.explain(connector.open_link(None).await).await {
                Err(error) if error.is_temporary() && settings.wait_for_redis => start.wait(&error).await,
                result => break result?,
            }
        };
        start.log_end();
        let commands = Commands::new(link);
        let status = Arc::new(Status::new(connector.servers(), None));
        let reconnect = tokio::spawn(commands.clone().keep_connected(connector, status)).abort_handle();
        Ok(Publisher { keys, scripts, commands, message_ids: MessageIds::new(), reconnect })
    }

    /// Publishes a body to a room as the host. If a publisher has published to the room under the same `key` before,
    /// nothing is published. Returns `None` if the room has no members.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 5 s. The message may have been published. Repeat the call under the same
    /// key.
    pub async fn publish(
        &self,
        room: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Published>, Unavailable> {
        let id = match key {
            // As `lua/function_end.lua` does it. No node has such ids.
            Some(key) => format!("key:{key}"),
            None => self.message_ids.next(),
        };
        let reply = self.call(room, &self.scripts.publish(None, &id, body)).await?;
        match reply.status() {
            b"NO_ROOM" => Ok(None),
            _ => reply.published().map(Some).ok_or(Unavailable),
        }
    }

    /// Sends a body to a room without adding it to the room's log. Nodes may miss it.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 5 s.
    pub async fn send_transient(&self, room: &str, body: &[u8]) -> Result<(), Unavailable> {
        self.call(room, &self.scripts.transient(body)).await.map(|_| ())
    }

    /// Sends a body to all nodes: they get [`Event::Command`](crate::Event::Command).
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 5 s. Nodes that are not connected at the moment do not get the body.
    pub async fn send_to_all(&self, body: &[u8]) -> Result<(), Unavailable> {
        let (channel, payload) = (self.keys.control(), codec::encode_command(body));
        let prepare = |_: &Link| Command::Plain(cmd("PUBLISH").arg(&channel).arg(&payload).take());
        self.commands.run::<u64>(Some(Instant::now() + TIMEOUT), prepare).await.map(|_| ())
    }

    async fn call(&self, room: &str, request: &Request<'_>) -> Result<Reply, Unavailable> {
        let prepare = |link: &Link| self.scripts.prepare(request, link, NO_NODE, room);
        self.commands.run(Some(Instant::now() + TIMEOUT), prepare).await
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.reconnect.abort();
    }
}
