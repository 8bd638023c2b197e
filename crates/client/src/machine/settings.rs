//! What the application wants of a connection, and why an attempt to connect may fail.

use std::time::Duration;

use serde_json::Value;

use crate::retry_hint::RetryHint;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) credential: Credential,
    /// The bound of the first wait between attempts, and that of the longest.
    pub(crate) backoff: (Duration, Duration),
    /// For connecting until the welcome, and then for each answer.
    pub(crate) step_timeout: Duration,
    /// For connecting, and for entering a room, for the first time.
    pub(crate) first_timeout: Duration,
    /// Failed attempts in a row after which the client gives up.
    pub(crate) max_attempts: u32,
    /// Of each room.
    pub(crate) max_unsent: usize,
}

/// What the application wants of a room.
#[derive(Debug, Clone)]
pub(crate) struct RoomSettings {
    pub(crate) id: String,
    pub(crate) name: String,
    /// How many of the latest messages to ask for when the room is entered for the first time.
    pub(crate) history: usize,
    /// How many members to request at most.
    pub(crate) roster: usize,
    /// The state to enter with; [`Value::Null`] if there is none.
    pub(crate) state: Value,
}

/// How many members of a room to request, unless the application says otherwise.
const DEFAULT_ROSTER: usize = 1000;

impl Default for RoomSettings {
    fn default() -> RoomSettings {
        let (id, name) = (String::new(), String::new());
        RoomSettings { id, name, history: 0, roster: DEFAULT_ROSTER, state: Value::Null }
    }
}

/// Whether another attempt may use another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// No token, or always the same.
    Fixed,
    /// Each attempt gets a token from the application.
    Renewable,
}

/// Why an attempt to connect failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// The application had no token.
    Token(String),
    /// The server answered with this status and text, and perhaps asked for a wait.
    Http { status: u16, body: String, retry: Option<RetryHint> },
    /// No attempt will succeed.
    Permanent(String),
}
