//! What the sender of a message learns about it.

use crate::ids::MessageId;
use crate::protocol::position::Position;

/// The place of a message in its room's order, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) position: Position,
    pub(crate) id: MessageId,
}
