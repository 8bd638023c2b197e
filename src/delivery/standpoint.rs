//! Where a member is that has just entered a room or returned to it.

use std::sync::Arc;

use crate::delivery::batch::Batch;
use crate::delivery::live_room::{LiveRoom, Replay};
use crate::protocol::position::Epoch;

/// A member's position in a room that it has just entered or returned to.
pub(crate) struct Standpoint {
    pub(crate) room: Arc<LiveRoom>,
    pub(crate) epoch: Epoch,
    /// The room's position: before the member's own enter, or now if it has returned.
    pub(crate) seq: u64,
    /// Members of the room.
    pub(crate) num: u64,
    /// What was on its way to the member when it entered again. It gets this before the answer.
    pub(crate) before: Vec<Batch>,
    /// The frames that the member has missed.
    pub(crate) replay: Option<Replay>,
}

impl Standpoint {
    /// The `seq` of the last frame that the member has had after the answer and the replay.
    pub(crate) fn start(&self) -> u64 {
        self.replay.as_ref().map_or(self.seq, |replay| replay.end)
    }

    /// Has a connected member get what is on its way to it before the answer, unless the replay contains it. All
    /// members have had the frames up to `delivered`.
    pub(super) fn keep(&mut self, undelivered: Vec<Batch>, delivered: u64) {
        if self.replay.as_ref().is_none_or(|replay| !replay.is_complete && replay.start > delivered) {
            (self.before, self.replay) = (undelivered, None);
        }
    }
}
