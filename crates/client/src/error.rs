//! Why something a client was to do was not done.

use std::fmt;

/// Why a client could not connect, or a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting can't work.
    Config(String),
    /// Not connected in the time allowed for the first time; why the last attempt failed.
    Unreachable(String),
    /// The server does not let this client in.
    NoAuth(String),
    /// The server refused the message, or to let the client into the room.
    #[non_exhaustive]
    Refused {
        /// The code, one of the server's [`ErrorCode`]s.
        ///
        /// [`ErrorCode`]: https://docs.rs/tower-chat-rooms/latest/tower_chat_rooms/enum.ErrorCode.html
        code: String,
        /// A text for people.
        message: String,
    },
    /// The client is closed for good. What it had not sent by then is not sent any more; of what
    /// was on its way nobody knows.
    #[non_exhaustive]
    Closed {
        /// The close code: 1000 where the client itself left.
        code: u16,
        /// Why.
        reason: String,
    },
    /// So many messages wait to be sent that this one was not taken
    /// ([`max_unsent`](crate::ClientBuilder::max_unsent)).
    QueueFull,
    /// The message is longer than the server allows.
    #[non_exhaustive]
    TooBig {
        /// Its bytes on the wire.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The value can't be said: no JSON, no object, or a key or event of the protocol's own.
    Value(String),
}

impl ClientError {
    /// What the end of a client means to everybody but who waits for its first connection.
    pub(crate) fn as_closed(&self) -> ClientError {
        let (code, reason) = match self {
            ClientError::Closed { code, reason } => (*code, reason.clone()),
            ClientError::NoAuth(_) | ClientError::Refused { .. } => (1000, self.to_string()),
            _ => (1006, self.to_string()),
        };
        ClientError::Closed { code, reason }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Config(text) | ClientError::Value(text) => f.write_str(text),
            ClientError::Unreachable(why) => write!(f, "can't connect: {why}"),
            ClientError::NoAuth(reason) => write!(f, "not authenticated: {reason}"),
            ClientError::Refused { code, message } => write!(f, "refused: {message} ({code})"),
            ClientError::Closed { code, reason } if reason.is_empty() => write!(f, "closed ({code})"),
            ClientError::Closed { code, reason } => write!(f, "closed: {reason} ({code})"),
            ClientError::QueueFull => f.write_str("too many messages wait to be sent; send again later"),
            ClientError::TooBig { bytes, max } => {
                write!(f, "the message has {bytes} bytes, the server takes at most {max}")
            }
        }
    }
}

impl std::error::Error for ClientError {}
