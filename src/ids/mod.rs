//! Names of things, parsed once: connections, rooms, members.

mod text;

use std::fmt;
use std::sync::Arc;

use crate::ids::text::Fault;

/// Identifies one connection for as long as the process lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The id of a room. Cheap to clone.
///
/// Of the ids that clients give, those are refused in which something can't be seen, as for a
/// [`Name`]. On the wire a room id is a string or a number; `42` and `"42"` name the same room. The
/// empty id is a room as well: clients that name none are in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

/// The name under which a member is in a room. Cheap to clone, never empty.
///
/// It holds no control characters, no separators of lines, nothing that changes the direction of
/// the text around it, no characters that can't be seen but where a script or an emoji needs them,
/// and no white space at its ends. Names that are written differently are different, even if they
/// look alike: `é` in one character and in two, or `а` of two alphabets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// How long a text may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxLen {
    pub(crate) bytes: usize,
    /// Unicode scalar values.
    pub(crate) chars: usize,
}

impl MaxLen {
    /// Any length.
    #[cfg_attr(not(any(feature = "jwt", test)), expect(dead_code, reason = "only tokens are checked for it"))]
    pub(crate) const ANY: MaxLen = MaxLen { bytes: usize::MAX, chars: usize::MAX };
}

/// Why a text can't be a name or a room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdError {
    Empty,
    TooManyBytes { bytes: usize, max: usize },
    TooManyChars { chars: usize, max: usize },
    Text(Fault),
}

impl RoomId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str, max: MaxLen) -> Result<RoomId, IdError> {
        check(text, max)?;
        Ok(RoomId(text.into()))
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str, max: MaxLen) -> Result<Name, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        check(text, max)?;
        Ok(Name(text.into()))
    }
}

fn check(text: &str, max: MaxLen) -> Result<(), IdError> {
    if text.len() > max.bytes {
        return Err(IdError::TooManyBytes { bytes: text.len(), max: max.bytes });
    }
    // There are no more characters than bytes.
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
    fn the_empty_room_is_a_room() {
        assert_eq!(RoomId::parse("", MaxLen { bytes: 8, chars: 8 }), Ok(RoomId::from("")));
        assert!(RoomId::parse(" ", MaxLen::ANY).is_err());
    }
}
