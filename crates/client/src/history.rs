//! Messages that a client reads later, from the server's store or its history.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use crate::client::task_ended;
use crate::commands::{Ack, Command, Commands};
use crate::error::ClientError;
use crate::event::RoomFrame;
use crate::machine::RoomKey;

/// Messages of a room, the oldest first. See [`ClientSender::history`](crate::ClientSender::history).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// The messages. Those from the server's store have no [`num`](RoomFrame::num) and no [`seq`](RoomFrame::seq).
    pub messages: Vec<RoomFrame>,
    /// Whether there are more messages in this direction.
    pub has_more: bool,
}

/// Asks for messages of a room when it is awaited. See [`ClientSender::history`](crate::ClientSender::history).
#[derive(Debug)]
#[must_use = "messages are asked for when this is awaited"]
pub struct HistoryRequest {
    commands: Commands,
    room: RoomKey,
    permits: Arc<Semaphore>,
    range: Range,
    limit: Option<usize>,
}

/// The highest id that the protocol allows.
const MAX_ID: u64 = (1 << 53) - 1;

/// Which messages to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Latest,
    Before(u64),
    After(u64),
}

impl HistoryRequest {
    /// `permits` are those for messages that wait for the client's task.
    pub(crate) fn new(commands: Commands, room: RoomKey, permits: Arc<Semaphore>) -> HistoryRequest {
        HistoryRequest { commands, room, permits, range: Range::Latest, limit: None }
    }

    /// Asks for the latest messages with a lower [id](RoomFrame::id) than this one.
    pub fn before(self, id: u64) -> Self {
        HistoryRequest { range: Range::Before(id), ..self }
    }

    /// Asks for the earliest messages with a higher [id](RoomFrame::id) than this one.
    pub fn after(self, id: u64) -> Self {
        HistoryRequest { range: Range::After(id), ..self }
    }

    /// Sets how many messages to ask for. Default: 50. The server sends at most 200.
    pub fn limit(self, messages: usize) -> Self {
        HistoryRequest { limit: Some(messages), ..self }
    }

    async fn send(self) -> Result<HistoryPage, ClientError> {
        let keys = self.keys()?;
        let HistoryRequest { commands, room, permits, .. } = self;
        let permit = permits.try_acquire_owned().map_err(|_| ClientError::QueueFull)?;
        let (ack, answered) = oneshot::channel();
        let command = Command::ReadHistory { room, keys, ack: Ack::History(ack), permit };
        if !commands.send(command) {
            return Err(task_ended());
        }
        answered.await.unwrap_or_else(|_| Err(task_ended()))
    }

    /// The keys of the frame that select the messages. They are checked here, because the server does not say which
    /// request it refuses if they are wrong.
    fn keys(&self) -> Result<Value, ClientError> {
        let mut keys = json!({});
        let (key, id) = match self.range {
            Range::Latest => ("", None),
            Range::Before(id) => ("before", Some(id)),
            Range::After(id) => ("after", Some(id)),
        };
        if let Some(id) = id {
            if id > MAX_ID {
                return Err(ClientError::Config(format!("{key:?} must be the id of a message, below 2^53")));
            }
            keys[key] = json!(id);
        }
        if let Some(limit) = self.limit {
            if limit == 0 {
                return Err(ClientError::Config("the limit of messages must not be 0".into()));
            }
            keys["limit"] = json!(limit);
        }
        Ok(keys)
    }
}

impl IntoFuture for HistoryRequest {
    type Output = Result<HistoryPage, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(permits: usize) -> HistoryRequest {
        let (commands, _) = Commands::new(1);
        HistoryRequest::new(commands, RoomKey(0), Arc::new(Semaphore::new(permits)))
    }

    #[test]
    fn requests_that_the_server_cannot_read_are_refused() {
        assert_eq!(request(1).keys(), Ok(json!({})));
        assert_eq!(request(1).before(MAX_ID).limit(1).keys(), Ok(json!({"before": MAX_ID, "limit": 1})));
        assert_eq!(request(1).after(0).keys(), Ok(json!({"after": 0})));
        for wrong in [request(1).before(MAX_ID + 1), request(1).after(u64::MAX), request(1).limit(0)] {
            assert!(matches!(wrong.keys(), Err(ClientError::Config(_))), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn too_many_requests_are_refused() {
        assert_eq!(request(0).await, Err(ClientError::QueueFull));
    }
}
