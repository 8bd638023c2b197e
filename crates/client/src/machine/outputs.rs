//! What the driver has to do.

use std::collections::VecDeque;

use serde_json::Value;

use crate::error::ClientError;
use crate::event::{ChatEvent, ClientEvent};
use crate::history::HistoryPage;
use crate::machine::RoomKey;

/// What the driver has to do. `T` waits for a message's acknowledgement.
#[derive(Debug)]
pub(crate) enum Output<T> {
    /// Start to connect.
    Connect,
    /// Ask the application for a token, to be sent over the open connection.
    AskToken,
    Send(String),
    /// Send a frame that may get lost, unless the connection is too slow.
    SendTransient(String),
    /// Answer a heartbeat. One answer is enough for all heartbeats that wait for one.
    Pong,
    /// Close the connection or give up the attempt to connect, and report nothing more about it.
    Close(u16),
    /// An event of a room.
    Emit(RoomKey, ClientEvent),
    /// What the application can know about the members of a room has changed.
    Presence(RoomKey),
    /// An event of the connection.
    EmitChat(ChatEvent),
    /// The room is closed for good. There are no more events of it.
    Closed(RoomKey, ClientError),
    /// The server knows that the application has left the room, or will be told when there is a connection again.
    Left(RoomKey),
    Resolve(T, Result<u64, ClientError>),
    /// Messages that were asked for.
    ResolveHistory(T, HistoryPage),
}

#[derive(Debug)]
pub(super) struct Outputs<T>(VecDeque<Output<T>>);

impl<T> Outputs<T> {
    pub(super) fn new() -> Outputs<T> {
        Outputs(VecDeque::new())
    }

    pub(super) fn push(&mut self, output: Output<T>) {
        self.0.push_back(output);
    }

    pub(super) fn pop(&mut self) -> Option<Output<T>> {
        self.0.pop_front()
    }

    pub(super) fn emit(&mut self, room: RoomKey, event: ClientEvent) {
        self.push(Output::Emit(room, event));
    }

    pub(super) fn resolve(&mut self, waiting: T, result: Result<u64, ClientError>) {
        self.push(Output::Resolve(waiting, result));
    }

    /// Sends a frame, and returns its length in bytes.
    pub(super) fn send(&mut self, frame: &Value) -> usize {
        let text = frame.to_string();
        let bytes = text.len();
        self.push(Output::Send(text));
        bytes
    }

    #[cfg(test)]
    pub(super) fn retain(&mut self, keep: impl FnMut(&Output<T>) -> bool) {
        self.0.retain(keep);
    }
}
