//! Errors of the host's calls. A peer's mistakes never become errors for the host.

use std::fmt;

/// Settings are invalid, or contradict each other. The text names the setting and what to change.
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

/// The [broker](crate::ChatRoomsBuilder::broker) cannot be reached, or a node has not answered in time. Try again
/// later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker cannot be reached, or a node has not answered in time; try again later")
    }
}

impl std::error::Error for Unavailable {}

/// Why your frame was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The room does not exist, because it has no members.
    NoSuchRoom,
    /// The connection is not open.
    NoSuchConnection,
    /// The value does not serialize to a JSON object.
    NotAnObject,
    /// The value has no string `event`, which clients need to handle it.
    NoEvent,
    /// The event belongs to the protocol, as `welcome` and `entered` do, so publishers may not send it.
    ReservedEvent,
    /// A publisher's value has a key twice, such as `event`. Parsers disagree about which of the two counts.
    DuplicateKey,
    /// The value could not be serialized.
    Json(Box<dyn std::error::Error + Send + Sync>),
    /// The value does not fit into a send queue ([`max_queue_bytes`](crate::Limits::max_queue_bytes)), or is larger than
    /// a publisher may send.
    TooBig,
    /// The info of a member has more than 1,024 bytes.
    InfoTooBig,
    /// Arrays and objects of an info are nested more than 124 deep, which common JSON parsers could not read.
    InfoTooDeep,
    /// Too many frames of the room are waiting to be delivered
    /// ([`max_queue_bytes`](crate::Limits::max_queue_bytes)). Send it again later.
    Busy,
    /// The broker or the store has failed or has not answered. The frame may still have been sent or stored. See also
    /// [`Unavailable`].
    Unavailable,
    /// The key of [`send_once`](crate::ChatRooms::send_once) has more than 250 bytes.
    KeyTooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NoSuchRoom => f.write_str("no such room: it has no members"),
            SendError::NoSuchConnection => f.write_str("no such connection: it has ended"),
            SendError::NotAnObject => f.write_str("the value is not a JSON object; use a map or a struct"),
            SendError::NoEvent => f.write_str("the value has no \"event\" that is a string; add one"),
            SendError::ReservedEvent => f.write_str("the event belongs to the protocol; use another name"),
            SendError::DuplicateKey => f.write_str("the value has a key twice, such as \"event\""),
            SendError::Json(e) => write!(f, "the value could not be serialized: {e}"),
            SendError::TooBig => {
                f.write_str("the value does not fit into a send queue; send less, or raise `max_queue_bytes`")
            }
            SendError::InfoTooBig => {
                f.write_str("the info may have at most 1,024 bytes of JSON; use a link instead")
            }
            SendError::InfoTooDeep => {
                f.write_str("arrays and objects of the info may be nested at most 124 deep")
            }
            SendError::KeyTooLong => f.write_str("the key may have at most 250 bytes"),
            SendError::Busy => {
                f.write_str("too many frames of the room are waiting (`max_queue_bytes`); send again later")
            }
            SendError::Unavailable => f.write_str(
                "the broker cannot be reached, or a node or the store has not answered in time; try again later",
            ),
        }
    }
}

impl From<Unavailable> for SendError {
    fn from(Unavailable: Unavailable) -> SendError {
        SendError::Unavailable
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
