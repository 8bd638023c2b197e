//! Ids of connections, rooms and messages, and names of members.

mod message_id;
mod text;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use tower_chat_rooms_protocol::MESSAGE_ID_START;

use crate::ids::text::Fault;

pub use message_id::{MessageId, ParseMessageIdError};

/// Identifies a connection, or the session that began with it. Unique within the process, and among all nodes that share a
/// [broker](crate::ChatRoomsBuilder::broker). With a [store](crate::ChatRoomsBuilder::store), it is not used again after a
/// restart either.
///
/// Clients of `chat-rooms.v1` get it as text. If your application gets the text back, it can parse it:
///
/// ```
/// use tower_chat_rooms::ConnectionId;
///
/// let id: ConnectionId = "17".parse()?;
/// assert_eq!(id.to_string(), "17");
/// assert!("017".parse::<ConnectionId>().is_err());
/// # Ok::<(), tower_chat_rooms::ParseConnectionIdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u64);

/// How many connection ids a run of the server has for each millisecond in which it may begin.
const IDS_PER_MILLI: u64 = (1 << 32) / 1000;

impl ConnectionId {
    /// The id of a node's connection with this number.
    pub(crate) fn of_node(node: u32, number: u64) -> ConnectionId {
        ConnectionId((u64::from(node) << 32) | (number & u64::from(u32::MAX)))
    }

    /// The first id of a run of the server at this time, which no earlier run has used: for servers that share nothing but a
    /// store.
    pub(crate) fn first_of_run(now: SystemTime) -> ConnectionId {
        let since_start = now.duration_since(SystemTime::UNIX_EPOCH + MESSAGE_ID_START).unwrap_or_default();
        let seconds = u32::try_from(since_start.as_secs()).unwrap_or(u32::MAX);
        // A run that begins within the same second has other ids, unless there were millions of connections before it.
        ConnectionId::of_node(seconds, u64::from(since_start.subsec_millis()) * IDS_PER_MILLI)
    }

    /// The id that comes this many after this one, on the same node.
    pub(crate) fn nth(self, n: u64) -> ConnectionId {
        ConnectionId::of_node(self.node(), (self.0 & u64::from(u32::MAX)) + (n & u64::from(u32::MAX)))
    }

    /// The node on which it began; 0 without a broker, unless there is a store.
    pub(crate) fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for ConnectionId {
    type Err = ParseConnectionIdError;

    /// Parses the output of `to_string`. Refuses any other spelling of the number, so that each id has one text.
    fn from_str(text: &str) -> Result<ConnectionId, ParseConnectionIdError> {
        let id = text.parse().map(ConnectionId).map_err(|_| ParseConnectionIdError(()))?;
        if id.to_string() == text { Ok(id) } else { Err(ParseConnectionIdError(())) }
    }
}

/// The text is not a [`ConnectionId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseConnectionIdError(());

impl fmt::Display for ParseConnectionIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a connection id: it must be a decimal number below 2^64 without sign or leading zeros",
        )
    }
}

impl std::error::Error for ParseConnectionIdError {}

/// The id of a room. Cheap to clone.
///
/// On the wire a room id is a string or a number; `42` and `"42"` are the same room. The empty id is a room as well:
/// clients that send no id enter it. An id from a client is refused if it contains characters that a [`Name`] may not
/// contain, or starts or ends with white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

/// The name of a member in a room. Cheap to clone.
///
/// A name is not empty and not only white space. White space at its ends is kept. A name contains no control
/// characters, no line separators, no characters that change the direction of the text, and no invisible characters
/// except where a script or an emoji needs them. Names that are encoded differently are different names, even if
/// they look the same: `é` as one character or two, or `а` in the Latin and the Cyrillic alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// The maximum length of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxLen {
    pub(crate) bytes: usize,
    /// Unicode scalar values.
    pub(crate) chars: usize,
}

impl MaxLen {
    pub(crate) const ANY: MaxLen = MaxLen { bytes: usize::MAX, chars: usize::MAX };
}

/// Why a text is not a name or a room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdError {
    Empty,
    /// A name of white space only.
    Blank,
    /// A room id with white space at its ends.
    OuterSpace,
    TooManyBytes {
        bytes: usize,
        max: usize,
    },
    TooManyChars {
        chars: usize,
        max: usize,
    },
    Text(Fault),
}

impl RoomId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id that was checked before.
    #[cfg(feature = "redis")]
    pub(crate) fn shared(text: Arc<str>) -> RoomId {
        RoomId(text)
    }

    pub(crate) fn parse(text: &str, max: MaxLen) -> Result<RoomId, IdError> {
        check(text, max)?;
        if text.starts_with(text::is_blank) || text.ends_with(text::is_blank) {
            return Err(IdError::OuterSpace);
        }
        Ok(RoomId(text.into()))
    }
}

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str, max: MaxLen) -> Result<Name, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        check(text, max)?;
        if text.chars().all(text::is_blank) {
            return Err(IdError::Blank);
        }
        Ok(Name(text.into()))
    }

    /// The name without white space at its ends.
    pub(crate) fn trimmed(&self) -> &str {
        self.0.trim_matches(text::is_blank)
    }
}

fn check(text: &str, max: MaxLen) -> Result<(), IdError> {
    if text.len() > max.bytes {
        return Err(IdError::TooManyBytes { bytes: text.len(), max: max.bytes });
    }
    // A text has no more characters than bytes.
    if text.len() > max.chars {
        let chars = text.chars().count();
        if chars > max.chars {
            return Err(IdError::TooManyChars { chars, max: max.chars });
        }
    }
    text::check(text).map_err(IdError::Text)
}

impl From<&str> for RoomId {
    fn from(text: &str) -> RoomId {
        RoomId(text.into())
    }
}

impl From<String> for RoomId {
    fn from(text: String) -> RoomId {
        RoomId(text.into())
    }
}

impl AsRef<str> for RoomId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdError::Empty => f.write_str("is empty"),
            IdError::Blank => f.write_str("is only white space"),
            IdError::OuterSpace => f.write_str("starts or ends with white space"),
            IdError::TooManyBytes { bytes, max } => {
                write!(f, "has {bytes} bytes, at most {max} are allowed")
            }
            IdError::TooManyChars { chars, max } => {
                write!(f, "has {chars} characters, at most {max} are allowed")
            }
            IdError::Text(fault) => fault.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_the_number_as_it_is_shown() {
        for id in [0, 17, u64::MAX].map(ConnectionId) {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", " 1", "1 ", "+1", "-1", "01", "00", "1.0", "0x1", "１", "a", "18446744073709551616"]
        {
            assert_eq!(text.parse::<ConnectionId>(), Err(ParseConnectionIdError(())), "{text:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        let parse = |text, bytes, chars| Name::parse(text, MaxLen { bytes, chars }).map(|n| n.to_string());
        assert_eq!(parse("", 8, 8), Err(IdError::Empty));
        assert_eq!(parse("a\nb", 8, 8), Err(IdError::Text(Fault::Control('\n'))));
        assert_eq!(parse("小明小", 8, 8), Err(IdError::TooManyBytes { bytes: 9, max: 8 }));
        assert_eq!(parse("小明小", 9, 2), Err(IdError::TooManyChars { chars: 3, max: 2 }));
        assert_eq!(parse("小明", 6, 2), Ok("小明".into()));
        assert_eq!(parse("__proto__", 9, 9), Ok("__proto__".into()));
    }

    #[test]
    fn names_keep_white_space_at_their_ends() {
        for text in [" ann", "ann ", "\u{3000}ann", "ann\u{a0}", "  ann lee  ", "\u{2800}ann"] {
            let name = Name::parse(text, MaxLen::ANY).unwrap();
            assert_eq!(name.as_str(), text);
            assert!(["ann", "ann lee"].contains(&name.trimmed()), "{text:?}");
            assert_eq!(RoomId::parse(text, MaxLen::ANY), Err(IdError::OuterSpace), "{text:?}");
        }
        for text in [" ", "   ", "\u{3000}\u{a0}", "\u{2800}"] {
            assert_eq!(Name::parse(text, MaxLen::ANY), Err(IdError::Blank), "{text:?}");
        }
    }

    #[test]
    fn the_empty_room_is_a_room() {
        assert_eq!(RoomId::parse("", MaxLen { bytes: 8, chars: 8 }), Ok(RoomId::from("")));
        assert_eq!(RoomId::parse(" ", MaxLen::ANY), Err(IdError::OuterSpace));
    }
}
