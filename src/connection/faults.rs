//! What a client did wrong, and how often it may.

use crate::config::Limits;
use crate::protocol::close::LeaveReason;

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Malformed frames in a row.
    bad_frames: u32,
    /// All failed authentications. Nothing reduces the number, because a client that guesses tokens might guess right
    /// in between.
    failed_auths: u32,
}

impl Faults {
    pub(super) fn add_bad_frame(&mut self, limits: &Limits) -> Result<(), LeaveReason> {
        self.bad_frames += 1;
        if self.bad_frames >= limits.max_bad_frames { Err(LeaveReason::Misbehaved) } else { Ok(()) }
    }

    pub(super) fn reset_bad_frames(&mut self) {
        self.bad_frames = 0;
    }

    pub(super) fn add_failed_auth(&mut self, limits: &Limits) -> Result<(), LeaveReason> {
        self.failed_auths += 1;
        if self.failed_auths >= limits.max_failed_auths { Err(LeaveReason::AuthFailed) } else { Ok(()) }
    }
}
