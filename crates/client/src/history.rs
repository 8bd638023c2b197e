//! Messages that a client reads later, from the server's store or its history.

use std::pin::Pin;

use serde_json::json;
use tokio::sync::oneshot;

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
    range: Range,
    limit: Option<usize>,
}

/// Which messages to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Latest,
    Before(u64),
    After(u64),
}

impl HistoryRequest {
    pub(crate) fn new(commands: Commands, room: RoomKey) -> HistoryRequest {
        HistoryRequest { commands, room, range: Range::Latest, limit: None }
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
        let HistoryRequest { commands, room, range, limit } = self;
        let mut keys = json!({});
        match range {
            Range::Latest => {}
            Range::Before(id) => keys["before"] = json!(id),
            Range::After(id) => keys["after"] = json!(id),
        }
        if let Some(limit) = limit {
            keys["limit"] = json!(limit);
        }
        let (ack, answered) = oneshot::channel();
        let command = Command::ReadHistory { room, keys, ack: Ack::History(ack) };
        if !commands.send(command) {
            return Err(task_ended());
        }
        answered.await.unwrap_or_else(|_| Err(task_ended()))
    }
}

impl IntoFuture for HistoryRequest {
    type Output = Result<HistoryPage, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
