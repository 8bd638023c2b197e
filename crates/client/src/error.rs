//! Errors of a client.

use std::fmt;

use tower_chat_rooms_protocol::close;

/// Why a client is not in its room, why a message was not acknowledged, or what else went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting is invalid. The text says what to change.
    Config(String),
    /// No connection could be made: the server can't be reached, does not answer in time, or does not speak
    /// `chat-rooms.v1`.
    Unreachable(String),
    /// The server, or a proxy in front of it, answered the handshake with an HTTP error, or with a page.
    ///
    /// A status from 200 to 499 ends the first attempt to connect, except for 408, 425 and 429. Statuses 401 and 403 are
    /// reported as [`NoAuth`](ClientError::NoAuth).
    #[non_exhaustive]
    Http {
        /// The status.
        status: u16,
        /// The text of the answer, shortened; empty if there was none.
        body: String,
    },
    /// The server refused the client's token, or requires one.
    NoAuth(String),
    /// The application's token function failed.
    Token(String),
    /// The server refused the message, or did not let the client enter the room, or reported an error.
    #[non_exhaustive]
    Refused {
        /// The code, one of the server's [`ErrorCode`]s.
        ///
        /// [`ErrorCode`]: https://docs.rs/tower-chat-rooms/latest/tower_chat_rooms/enum.ErrorCode.html
        code: String,
        /// A description for people.
        message: String,
    },
    /// The connection was lost. The client reconnects.
    #[non_exhaustive]
    Lost {
        /// The close code: 1006 if the connection broke, 4000 if the client gave it up.
        code: u16,
        /// The reason; may be empty.
        reason: String,
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
    /// The client gave up after [`max_attempts`](crate::ClientBuilder::max_attempts), or did not enter its room
    /// within [`first_timeout`](crate::ClientBuilder::first_timeout).
    #[non_exhaustive]
    GaveUp {
        /// Failed attempts in a row.
        attempts: u32,
        /// The error of the last one.
        last: Box<ClientError>,
    },
    /// Too many messages are waiting to be sent ([`max_unsent`](crate::ClientBuilder::max_unsent)).
    QueueFull,
    /// The message is longer than the server allows.
    #[non_exhaustive]
    TooBig {
        /// Its size on the wire in bytes.
        bytes: usize,
        /// The server's limit in bytes.
        max: usize,
    },
    /// The value can't be sent: it is not JSON or not an object, it uses a key or an event that the protocol reserves, or
    /// its event is transient and the method is for messages, or the other way round.
    Value(String),
    /// The server sent something that this client can't read. It was skipped.
    BadFrame(String),
}

impl ClientError {
    /// The error of messages that are waiting when the client ends with this one.
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
            ClientError::Config(text) | ClientError::Value(text) | ClientError::BadFrame(text) => {
                f.write_str(text)
            }
            ClientError::Unreachable(why) => write!(f, "can't connect: {why}"),
            ClientError::Http { status: 404, .. } => {
                f.write_str("HTTP 404: there is no chat at this URL; check its path")
            }
            ClientError::Http { status, body } if body.is_empty() => write!(f, "HTTP {status}"),
            ClientError::Http { status, body } => write!(f, "HTTP {status}: {body}"),
            ClientError::NoAuth(reason) => write!(f, "not authenticated: {reason}"),
            ClientError::Token(why) => write!(f, "no token: {why}"),
            ClientError::Refused { code, message } => write!(f, "refused: {message} ({code})"),
            ClientError::Lost { code, reason } if reason.is_empty() => write!(f, "connection lost ({code})"),
            ClientError::Lost { code, reason } => write!(f, "connection lost: {reason} ({code})"),
            ClientError::Closed { code, reason } if reason.is_empty() => write!(f, "closed ({code})"),
            ClientError::Closed { code, reason } => write!(f, "closed: {reason} ({code})"),
            ClientError::GaveUp { attempts, last } => write!(f, "gave up after {attempts} attempts: {last}"),
            ClientError::QueueFull => {
                f.write_str("too many messages are waiting to be sent; send again later")
            }
            ClientError::TooBig { bytes, max } => {
                write!(f, "the message has {bytes} bytes, the server accepts at most {max}")
            }
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::GaveUp { last, .. } => Some(last),
            _ => None,
        }
    }
}
