//! What the log says about the message store. Clients send refused messages again, so a store that fails for long must not
//! fill the log.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::{MessageId, RoomId};
use crate::log_limit::LogLimit;
use crate::store::erased::StoreError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// The store works again if it has not failed for this long. It may fail for some messages and answer others, or read
/// messages while it cannot store any.
const RECOVERED: Duration = Duration::from_secs(10);

/// Writes at most one line per kind and minute, and one line when the store works again.
pub(super) struct StoreLog {
    start: Instant,
    failures: LogLimit,
    tries: LogLimit,
    refusals: LogLimit,
    /// Whether the last line was about a failure.
    is_failing: AtomicBool,
    last_failure: Mutex<Duration>,
}

impl StoreLog {
    pub(super) fn new() -> StoreLog {
        StoreLog {
            start: Instant::now(),
            failures: LogLimit::default(),
            tries: LogLimit::default(),
            refusals: LogLimit::default(),
            is_failing: AtomicBool::new(false),
            last_failure: Mutex::default(),
        }
    }

    /// The store has answered.
    pub(super) fn works(&self) {
        let has_recovered = || self.start.elapsed() >= *lock(&self.last_failure) + RECOVERED;
        let is_failing = &self.is_failing;
        if is_failing.load(Ordering::Relaxed) && has_recovered() && is_failing.swap(false, Ordering::Relaxed)
        {
            tracing::info!("the message store works again");
        }
    }

    pub(super) fn has_failed(&self, room: &RoomId, error: &StoreError) {
        if let Some(suppressed) = self.failure() {
            tracing::error!(%room, %error, suppressed, "the message store has failed");
        }
    }

    pub(super) fn was_too_slow(&self, room: &RoomId, limit: Duration) {
        if let Some(suppressed) = self.failure() {
            tracing::error!(%room, ?limit, suppressed, "the message store did not answer in time");
        }
    }

    /// The store gets the same messages once more.
    pub(super) fn tries_again(&self, room: &RoomId, error: &StoreError) {
        if let Some(suppressed) = self.tries.take(self.start.elapsed()) {
            tracing::warn!(%room, %error, suppressed, "messages could not be stored; trying again");
        }
    }

    /// The store takes other messages, but not this one.
    pub(super) fn refuses(&self, room: &RoomId, id: MessageId, error: &StoreError) {
        if let Some(suppressed) = self.refusals.take(self.start.elapsed()) {
            tracing::error!(%room, %id, %error, suppressed, "the store refuses a message; it is not stored");
        }
    }

    fn failure(&self) -> Option<Option<u64>> {
        let now = self.start.elapsed();
        *lock(&self.last_failure) = now;
        let line = self.failures.take(now);
        if line.is_some() {
            self.is_failing.store(true, Ordering::Relaxed);
        }
        line
    }
}
