//! Errors of the host's own calls. What a peer does wrong never reaches the host as an error.

use std::fmt;

/// The settings of a builder contradict each other or can't work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    text: String,
}

impl BuildError {
    pub(crate) fn new(text: impl Into<String>) -> BuildError {
        BuildError { text: text.into() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BuildError {}

/// Why something the host wanted to send was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody is in a room of that id, so the room does not exist.
    NoSuchRoom,
    /// No connection of that id is open.
    NoSuchConnection,
    /// The value does not serialize to a JSON object; only objects go over the wire.
    NotAnObject,
    /// The value could not be serialized.
    Json(Box<dyn std::error::Error + Send + Sync>),
    /// The value is larger than what may wait for a member (`max_queue_bytes`), so that whoever
    /// doesn't read at once would be closed for it.
    TooBig,
    /// More is queued for the room than its members may hold (`max_queue_bytes`): send again
    /// once the room has caught up.
    Busy,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NoSuchRoom => f.write_str("no such room: nobody is in it"),
            SendError::NoSuchConnection => f.write_str("no such connection: it has ended"),
            SendError::NotAnObject => f.write_str("the value is not a JSON object; give a map or a struct"),
            SendError::Json(e) => write!(f, "the value could not be serialized: {e}"),
            SendError::TooBig => {
                f.write_str("the value is larger than max_queue_bytes; send less or raise it")
            }
            SendError::Busy => f.write_str("the room's queue is full (max_queue_bytes); send again later"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Json(e) => Some(&**e),
            _ => None,
        }
    }
}
