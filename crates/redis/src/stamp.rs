//! An event's place in its room's order.

use std::fmt;

/// Distinguishes a room's order of events from the order of an earlier room with the same name. A room that was empty
/// gets a new epoch. When Redis restarts or fails over, every room gets a new epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number, for example one that a client has sent.
    #[must_use]
    pub const fn from_u64(number: u64) -> Epoch {
        Epoch(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Epoch {
        Epoch(u64::from_be_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What happens in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A member enters: the count grows by one.
    Enter,
    /// A member leaves: the count shrinks by one.
    Leave,
    /// A member enters, and the others get no frame: only the count changes.
    SilentEnter,
    /// A member leaves, and the others get no frame: only the count changes.
    SilentLeave,
    /// A frame for all members.
    Publish,
    /// A member's profile changes. The change has no frame.
    Profile,
    /// A hidden member enters: nothing changes for the others.
    HiddenEnter,
    /// A hidden member leaves: nothing changes for the others.
    HiddenLeave,
}

impl EventKind {
    /// Whether the event has no frame.
    #[must_use]
    pub fn is_silent(self) -> bool {
        !matches!(self, EventKind::Enter | EventKind::Leave | EventKind::Publish)
    }
}

/// An event's position in its room, and the number of members right after it. It is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The order in which this is a place.
    pub epoch: Epoch,
    /// One more than that of the event before, starting at 1. Nodes follow the order by it.
    pub event: u64,
    /// The number of frames so far. Silent events have no frame.
    pub seq: u64,
    /// Members of the room that are not hidden, right after this event, on all nodes. See the [crate docs](crate#counts) for what it can
    /// include.
    pub num: u64,
}

impl Stamp {
    /// As scripts write it.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Stamp {
        let number = |part: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[8 * part..8 * (part + 1)]);
            u64::from_be_bytes(number)
        };
        Stamp { epoch: Epoch(number(0)), event: number(1), seq: number(2), num: number(3) }
    }
}
