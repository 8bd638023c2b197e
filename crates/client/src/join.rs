//! The builder of a room's client.

use std::pin::Pin;

use serde::Serialize;

use crate::client::{Client, state_value, task_ended};
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
    /// The first setting that is invalid.
    refused: Option<ClientError>,
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
        let room = RoomSettings { id, name, ..RoomSettings::default() };
        JoinBuilder { commands, room, refused: None, max_unsent, max_events }
    }

    /// How many of the latest messages to get when the client enters the room for the first time, as for
    /// [`ClientBuilder::history`](crate::ClientBuilder::history). Default: none.
    pub fn history(mut self, messages: usize) -> Self {
        self.room.history = messages;
        self
    }

    /// The state of this member when it enters, as for [`ClientBuilder::state`](crate::ClientBuilder::state). Default:
    /// none.
    pub fn state(mut self, state: &(impl Serialize + ?Sized)) -> Self {
        match state_value(state) {
            Ok(state) => self.room.state = state,
            Err(error) => self.refused = Some(error),
        }
        self
    }

    /// How many members of the room to request, as for [`ClientBuilder::roster`](crate::ClientBuilder::roster).
    /// Default: 1,000.
    pub fn roster(mut self, members: usize) -> Self {
        self.room.roster = members;
        self
    }

    /// Enters the room, just as awaiting the builder does. Dropping this future leaves the room.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, the server refuses the client for good, the client does not enter the room within
    /// [`first_timeout`](crate::ClientBuilder::first_timeout), the chat is in the room already, or the chat is closed.
    pub async fn enter(self) -> Result<Client, ClientError> {
        let JoinBuilder { commands, room, refused, max_unsent, max_events } = self;
        if let Some(error) = refused {
            return Err(error);
        }
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
