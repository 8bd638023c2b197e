//! Names of things, parsed once: connections, rooms, members.

use std::fmt;
use std::sync::Arc;

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
/// On the wire a room id is a string or a number; `42` and `"42"` name the same room. The
/// empty id is a room as well: clients that name none are in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

/// The name under which a member is in a room. Cheap to clone, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text can't be a name or a room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdError {
    Empty,
    TooLong { bytes: usize, max: usize },
    Control,
}

impl RoomId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str, max_bytes: usize) -> Result<RoomId, IdError> {
        check(text, max_bytes)?;
        Ok(RoomId(text.into()))
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str, max_bytes: usize) -> Result<Name, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        check(text, max_bytes)?;
        Ok(Name(text.into()))
    }
}

fn check(text: &str, max: usize) -> Result<(), IdError> {
    if text.len() > max {
        return Err(IdError::TooLong { bytes: text.len(), max });
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
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
            IdError::TooLong { bytes, max } => write!(f, "has {bytes} bytes, at most {max} are allowed"),
            IdError::Control => f.write_str("holds a control character"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Name::parse("", 8), Err(IdError::Empty));
        assert_eq!(Name::parse("a\nb", 8), Err(IdError::Control));
        assert_eq!(Name::parse("\u{85}", 8), Err(IdError::Control));
        assert_eq!(Name::parse("小明小", 8), Err(IdError::TooLong { bytes: 9, max: 8 }));
        assert_eq!(Name::parse("小明", 8).map(|n| n.to_string()), Ok("小明".into()));
        assert_eq!(Name::parse("__proto__", 9).map(|n| n.to_string()), Ok("__proto__".into()));
    }

    #[test]
    fn the_empty_room_is_a_room() {
        assert_eq!(RoomId::parse("", 8), Ok(RoomId::from("")));
    }
}
