//! An enter that was submitted to the broker that several nodes share.

use std::sync::Arc;

use crate::delivery::{Entered, Entering, Refused};
use crate::session::removal;
use crate::session::session::{Membership, Session};
use crate::session::sessions::Sessions;

/// An enter that was submitted. If it is dropped before it is known what has become of it, the member leaves the room,
/// under whatever name it is there.
pub(crate) struct SubmittedEnter {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    entering: Entering,
    /// The membership in the same room that ends with the enter.
    renamed: Option<Arc<Membership>>,
}

impl SubmittedEnter {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        session: Arc<Session>,
        entering: Entering,
        renamed: Option<Arc<Membership>>,
    ) -> SubmittedEnter {
        SubmittedEnter { sessions, session, entering, renamed }
    }

    /// Waits until the member is in the room.
    pub(crate) async fn outcome(&mut self) -> Result<Entered, Refused> {
        self.entering.outcome().await
    }

    pub(super) fn entering(&mut self) -> &mut Entering {
        &mut self.entering
    }
}

impl Drop for SubmittedEnter {
    fn drop(&mut self) {
        if let Some(renamed) = self.renamed.take().filter(|_| !self.entering.is_finished()) {
            removal::remove_uncertain(&self.sessions, &self.session, &renamed);
        }
    }
}
