//! A request for frames from before an enter.

use crate::protocol::position::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayRequest {
    /// All frames after a position.
    Since(Position),
    /// All frames after this position, which is later than the client's, because the client may not read earlier
    /// frames.
    PartSince(Position),
    /// The latest messages, at most this many.
    Last(usize),
}
