//! Errors of a client.

use std::fmt;

use tower_chat_rooms_protocol::close;

/// Why a client could not connect, or a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting is invalid.
    Config(String),
    /// The client could not connect in the time allowed. Holds the error of the last attempt.
    Unreachable(String),
    /// The server refused the client's authentication.
    NoAuth(String),
    /// The server refused the message, or did not let the client enter the room.
    #[non_exhaustive]
    Refused {
        /// The code, one of the server's [`ErrorCode`]s.
        ///
        /// [`ErrorCode`]: https://docs.rs/tower-chat-rooms/latest/tower_chat_rooms/enum.ErrorCode.html
        code: String,
        /// A description for people.
        message: String,
    },
    /// The client is closed for good. Messages that were not sent will not be sent. Messages
    /// that were sent but not acknowledged may or may not have been published.
    #[non_exhaustive]
    Closed {
        /// The close code: 1000 if the client left.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Too many messages wait to be sent ([`max_unsent`](crate::ClientBuilder::max_unsent)).
    QueueFull,
    /// The message is longer than the server allows.
    #[non_exhaustive]
    TooBig {
        /// Its size on the wire in bytes.
        bytes: usize,
        /// The server's limit in bytes.
        max: usize,
    },
    /// The value can't be sent: it is not JSON or not an object, or it uses a key or an event
    /// that the protocol reserves.
    Value(String),
}

impl ClientError {
    /// The error as reported to everything but the first attempt to connect.
    pub(crate) fn as_closed(&self) -> ClientError {
        let (code, reason) = match self {
            ClientError::Closed { code, reason } => (*code, reason.clone()),
            ClientError::NoAuth(_) | ClientError::Refused { .. } => (close::NORMAL, self.to_string()),
            _ => (close::ABNORMAL, self.to_string()),
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
                write!(f, "the message has {bytes} bytes, the server accepts at most {max}")
            }
        }
    }
}

impl std::error::Error for ClientError {}
