//! Why a room refuses a member or a frame.

use crate::delivery::registry::TooManyRooms;
use crate::room::EnterError;

/// Why a member could not enter a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Room(EnterError),
    TooManyRooms,
    /// The broker cannot be reached.
    Unavailable,
}

/// Why a frame was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPublished {
    /// The room was closed.
    Closed,
    /// The room has queued as much as its members' send queues may hold. It must be delivered first.
    BatchFull,
    /// Slow members must catch up first.
    Held,
    /// The frames on their way through the broker take as much as the room may queue, or an earlier connection of the
    /// client has sent the same message to the store. These must arrive first.
    InFlight,
    /// The member may only read.
    ReadOnly,
    /// The message has to be stored: the caller must call [`Rooms::keep`](crate::delivery::Rooms::keep).
    IsStored,
    /// Too many messages of the room wait to be stored.
    StoreFull,
    /// A broker that several nodes share orders the room's events: the frame has to be submitted to it.
    IsRemote,
}

impl From<EnterError> for Refused {
    fn from(error: EnterError) -> Refused {
        Refused::Room(error)
    }
}

impl From<TooManyRooms> for Refused {
    fn from(_: TooManyRooms) -> Refused {
        Refused::TooManyRooms
    }
}
