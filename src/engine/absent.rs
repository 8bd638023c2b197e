//! A member without a connection, as rooms, the sweep and the host see him.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::SlowConsumer;
use crate::engine::recipient::Recipient;
use crate::protocol::close::LeaveReason;
use crate::room::registry::SharedRoom;
use crate::room::stream::Batch;
use crate::sync::{Mutex, PoisonError};

/// What is sent to him is lost, but for what the room's history keeps. He can be told to leave.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    verdict: Mutex<Option<LeaveReason>>,
    told: Notify,
}

impl Absent {
    /// Done when he was told to leave, or is asked for by who has come back.
    pub(crate) async fn until_told(&self) {
        self.told.notified().await;
    }
}

impl Recipient for Absent {
    fn attach(&self, _: &Arc<SharedRoom<Arc<dyn Recipient>>>, _: u64, _: SlowConsumer) {}

    fn detach(&self) {}

    fn is_reachable(&self) -> bool {
        false
    }

    fn deliver(&self, _: &SharedRoom<Arc<dyn Recipient>>, _: &Batch) {}

    fn send(&self, _: Bytes) {}

    fn close(&self, reason: LeaveReason) {
        if !reason.keeps_seat() {
            self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
        self.told.notify_one();
    }

    fn verdict(&self) -> Option<LeaveReason> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {}

    fn check(&self) {}
}
