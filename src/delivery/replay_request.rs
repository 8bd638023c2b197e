//! What a client wants to have of the frames from before its enter.

use crate::protocol::position::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayRequest {
    /// All frames after a position.
    Since(Position),
    /// All frames after a position that is later than the one that the client has named: it may not have more.
    PartSince(Position),
    /// This many of the latest messages.
    Last(usize),
}
