//! The builder of a room's client.

use std::pin::Pin;

use crate::client::{Client, task_ended};
use crate::commands::{Command, Commands};
use crate::error::ClientError;
use crate::machine::RoomSettings;

/// Builds the [`Client`] of a room: see [`ChatHandle::join`](crate::ChatHandle::join). Awaiting the builder enters the
/// room; it completes once the client is in the room.
#[derive(Debug)]
#[must_use = "a room is entered when its builder is awaited"]
pub struct JoinBuilder {
    commands: Commands,
    room: RoomSettings,
    max_unsent: usize,
    max_events: usize,
}

impl JoinBuilder {
    pub(crate) fn new(
        commands: Commands,
        id: String,
        name: String,
        max_unsent: usize,
        max_events: usize,
    ) -> JoinBuilder {
        JoinBuilder { commands, room: RoomSettings { id, name, history: 0 }, max_unsent, max_events }
    }

    /// How many of the latest messages to get when the client enters the room for the first time, as for
    /// [`ClientBuilder::history`](crate::ClientBuilder::history). Default: none.
    pub fn history(mut self, messages: usize) -> Self {
        self.room.history = messages;
        self
    }

    /// Enters the room, just as awaiting the builder does. Dropping this future leaves the room.
    ///
    /// # Errors
    ///
    /// If the server refuses the client for good, the client does not enter the room within
    /// [`first_timeout`](crate::ClientBuilder::first_timeout), the chat is in the room already, or the chat is closed.
    pub async fn enter(self) -> Result<Client, ClientError> {
        let JoinBuilder { commands, room, max_unsent, max_events } = self;
        let key = commands.next_key();
        let (client, join, entered) = Client::joining(key, &commands, room, max_unsent, max_events);
        if !commands.send(Command::Join(Box::new(join))) {
            return Err(task_ended());
        }
        entered.await.unwrap_or_else(|_| Err(task_ended())).map(|()| client)
    }
}

impl IntoFuture for JoinBuilder {
    type Output = Result<Client, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.enter())
    }
}
