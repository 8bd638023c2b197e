//! The answer to an enter, and the frames that come with it.

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{Batch, Replay};

/// What a client gets when it has entered a room, or has asked for the members.
pub(crate) struct Answer {
    /// Undelivered frames when the client entered again.
    pub(crate) before: Vec<Batch>,
    /// The answer itself, if there is one in this subprotocol.
    pub(crate) frame: Option<Bytes>,
    pub(crate) replay: Option<Replay>,
    /// The `seq` after which the room's frames follow.
    pub(crate) start: u64,
    /// Whether the first of them is the client's own enter.
    pub(crate) is_new: bool,
    /// What happens if the client reads the room too slowly; `None` if this does not change.
    pub(crate) slow: Option<SlowConsumer>,
}
