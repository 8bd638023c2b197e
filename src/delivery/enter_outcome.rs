//! The outcome of an enter.

use std::sync::Arc;

use crate::config::PresenceMode;
use crate::delivery::batch::Batch;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::room_state::Replay;
use crate::delivery::roster::RosterPage;
use crate::ids::MessageId;
use crate::protocol::position::{Epoch, Position};

/// What a member gets when it has entered a room, for the first time or again.
pub(crate) struct EnterOutcome {
    pub(crate) room: Arc<LiveRoom>,
    pub(crate) epoch: Epoch,
    /// The room's position: before the member's own enter, or the current one if the member has entered again.
    pub(crate) seq: u64,
    /// Members of the room.
    pub(crate) num: u64,
    /// The number of different users among them.
    pub(crate) users: usize,
    /// What members learn about each other at this position.
    pub(crate) mode: PresenceMode,
    /// The first members at this position, in full mode.
    pub(crate) roster: Option<RosterPage>,
    /// The id of the latest message at this position, or of one before the room was opened.
    pub(crate) last_id: MessageId,
    /// The lowest id of the messages that are being stored at this moment, and go out afterwards.
    pub(crate) first_to_come: Option<MessageId>,
    /// Whether the member's own enter follows as a frame of the room.
    pub(crate) is_announced: bool,
    /// Undelivered frames when the member entered again. It gets them before the answer.
    pub(crate) before: Vec<Batch>,
    /// The frames that the member has missed.
    pub(crate) replay: Option<Replay>,
}

impl EnterOutcome {
    /// The `seq` of the last frame that the member has received once the replay is written.
    pub(crate) fn start(&self) -> u64 {
        self.replay.as_ref().map_or(self.seq, |replay| replay.end)
    }

    /// Whether the replay begins where messages end that were read when the room was at this position, or did not exist: then
    /// no message is missing in between.
    pub(crate) fn follows(&self, at: Option<Position>) -> bool {
        let start = self.replay.as_ref().map_or(self.seq, |replay| replay.kept_since);
        match at {
            Some(at) => at.epoch == self.epoch && start <= at.seq,
            None => start == 0,
        }
    }

    /// Adds undelivered frames of a connected member, which it gets before the answer, unless the replay contains them.
    /// `delivered` is the `seq` of the latest frame that all members have received.
    pub(super) fn keep(&mut self, undelivered: Vec<Batch>, delivered: u64) {
        if self.replay.as_ref().is_none_or(|replay| !replay.is_complete && replay.start > delivered) {
            (self.before, self.replay) = (undelivered, None);
        }
    }
}

/// What a member gets that asks for members of its room.
pub(crate) struct MembersOutcome {
    /// The room's position.
    pub(crate) seq: u64,
    pub(crate) num: u64,
    pub(crate) users: usize,
    pub(crate) mode: PresenceMode,
    /// Present in full mode.
    pub(crate) roster: Option<RosterPage>,
    /// Undelivered frames, which the member gets before the answer.
    pub(crate) before: Vec<Batch>,
}
