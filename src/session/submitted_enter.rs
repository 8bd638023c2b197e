//! An enter that was submitted to the broker that several nodes share.

use std::sync::Arc;

use crate::delivery::{Entered, Entering, Refused};
use crate::protocol::close::LeaveReason;
use crate::session::removal;
use crate::session::session::{Membership, Session};
use crate::session::sessions::Sessions;

/// An enter that was submitted to the broker.
pub(super) struct EnterUnderWay {
    pub(super) entering: Entering,
    /// The membership in the same room that ends with the enter.
    pub(super) renamed: Option<Arc<Membership>>,
}

/// A client's hold on its enter. If it is dropped before it is known what has become of it, the member leaves the room,
/// under whatever name it is there.
pub(crate) struct SubmittedEnter {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    enter: EnterUnderWay,
    /// Why the member leaves then.
    reason: LeaveReason,
}

impl SubmittedEnter {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        session: Arc<Session>,
        enter: EnterUnderWay,
    ) -> SubmittedEnter {
        SubmittedEnter { sessions, session, enter, reason: LeaveReason::Dropped }
    }

    /// Waits until the member is in the room.
    pub(crate) async fn outcome(&mut self) -> Result<Entered, Refused> {
        let outcome = self.enter.entering.outcome().await;
        self.reason = LeaveReason::Unavailable;
        outcome
    }

    /// The connection ends for this reason, and does not wait any longer.
    pub(crate) fn give_up(mut self, reason: LeaveReason) {
        self.reason = reason;
    }

    pub(super) fn entering(&mut self) -> &mut Entering {
        &mut self.enter.entering
    }
}

impl Drop for SubmittedEnter {
    fn drop(&mut self) {
        let EnterUnderWay { entering, renamed } = &self.enter;
        if let Some(renamed) = renamed.as_ref().filter(|_| !entering.is_finished()) {
            // If it was just leaving the room because of its new name, the closing of the room has not found it there.
            removal::check_closed(&self.sessions, &self.session, &renamed.room);
            removal::remove_uncertain(&self.sessions, &self.session, renamed, self.reason);
        }
    }
}
