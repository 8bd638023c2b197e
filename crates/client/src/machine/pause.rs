//! Backpressure: the application takes no events of any room, and nothing is read.
//!
//! The server then has to wait. If this lasts, the client reads on to receive acknowledgements and heartbeats, and
//! drops the frames of the rooms. It has them replayed later.

use std::time::Duration;

use super::Now;
use crate::incoming::Welcome;

/// Nothing is read for at most this long. After longer, the server considers the client dead or too slow.
const MAX_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pause {
    /// When to read on.
    until: Now,
    /// When the next sign of life is due.
    pong_at: Now,
    interval: Duration,
}

impl Pause {
    pub(super) fn begin(welcome: &Welcome, now: Now) -> Pause {
        let until = now.saturating_add(welcome.silence.min(MAX_PAUSE));
        Pause { until, pong_at: now.saturating_add(welcome.interval), interval: welcome.interval }
    }

    pub(super) fn deadline(&self) -> Now {
        self.until.min(self.pong_at)
    }

    /// Whether a sign of life is due.
    pub(super) fn is_pong_due(&mut self, now: Now) -> bool {
        let is_due = self.pong_at <= now;
        if is_due {
            self.pong_at = now.saturating_add(self.interval);
        }
        is_due
    }

    pub(super) fn is_over(&self, now: Now) -> bool {
        self.until <= now
    }
}
