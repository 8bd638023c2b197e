//! Notes whether the message store works, and logs its failures. Clients send refused messages again, so the log must be
//! limited while the store fails.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::Health;
use crate::ids::{MessageId, RoomId};
use crate::log_limit::LogLimit;
use crate::store::erased::StoreError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// The store counts as failed until it answers again and has not failed for this long. It may fail for some messages
/// and store others, or read messages while it cannot store any.
const RECOVERED: Duration = Duration::from_secs(10);

/// The store's current outage. Logs at most one line per kind and minute, and one when the store works again.
pub(super) struct StoreWatch {
    start: Instant,
    failures: LogLimit,
    tries: LogLimit,
    refusals: LogLimit,
    /// Whether there is an outage. No lock is needed while the store works.
    is_failing: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

/// A time during which the store fails.
struct Outage {
    since: Instant,
    last_failure: Instant,
    reason: String,
    /// Whether a line about it was logged.
    is_logged: bool,
}

impl StoreWatch {
    pub(super) fn new() -> StoreWatch {
        StoreWatch {
            start: Instant::now(),
            failures: LogLimit::default(),
            tries: LogLimit::default(),
            refusals: LogLimit::default(),
            is_failing: AtomicBool::new(false),
            outage: Mutex::default(),
        }
    }

    /// Degraded from the first failure until the store works again.
    pub(super) fn health(&self) -> Health {
        match &*lock(&self.outage) {
            None => Health::Healthy,
            Some(outage) => {
                Health::Degraded { since: outage.since.into_std(), reason: outage.reason.clone() }
            }
        }
    }

    /// The store has answered.
    pub(super) fn works(&self) {
        if !self.is_failing.load(Ordering::Relaxed) {
            return;
        }
        let ended = {
            let mut outage = lock(&self.outage);
            let ended = outage.take_if(|outage| outage.last_failure.elapsed() >= RECOVERED);
            self.is_failing.store(outage.is_some(), Ordering::Relaxed);
            ended
        };
        if ended.is_some_and(|outage| outage.is_logged) {
            tracing::info!("the message store works again");
        }
    }

    pub(super) fn has_failed(&self, room: &RoomId, error: &StoreError) {
        if let Some(suppressed) = self.failure(format_args!("the message store has failed: {error}")) {
            tracing::error!(%room, %error, suppressed, "the message store has failed");
        }
    }

    pub(super) fn was_too_slow(&self, room: &RoomId, limit: Duration) {
        let reason = format_args!("the message store did not answer within {limit:?}");
        if let Some(suppressed) = self.failure(reason) {
            tracing::error!(%room, ?limit, suppressed, "the message store did not answer in time");
        }
    }

    /// The panic was logged where it was caught.
    pub(super) fn has_panicked(&self) {
        self.note_failure(format_args!("the message store has panicked"), false);
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

    /// Returns whether to log a line, and how many were suppressed before it.
    fn failure(&self, reason: impl Display) -> Option<Option<u64>> {
        let line = self.failures.take(self.start.elapsed());
        self.note_failure(reason, line.is_some());
        line
    }

    fn note_failure(&self, reason: impl Display, is_logged: bool) {
        let (now, reason) = (Instant::now(), reason.to_string());
        let mut outage = lock(&self.outage);
        let before = outage.take();
        *outage = Some(Outage {
            since: before.as_ref().map_or(now, |before| before.since),
            last_failure: now,
            reason,
            is_logged: is_logged || before.is_some_and(|before| before.is_logged),
        });
        self.is_failing.store(true, Ordering::Relaxed);
    }
}
