//! Detects that the process has stalled: it was stopped, suspended, or starved of its cores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// This long without a tick is a stall.
const STALL: Duration = Duration::from_millis(500);

/// How long a stall has effects: everything that clients did meanwhile arrives at the same time.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Times of the sweep's ticks, in milliseconds since the engine was built.
#[derive(Debug, Default)]
pub(crate) struct StallDetector {
    last: AtomicU64,
    stalled: AtomicU64,
}

impl StallDetector {
    /// Notes that the sweep was at work at this time.
    pub(crate) fn tick(&self, now: Duration, interval: Duration) {
        if self.is_late(now, interval) {
            self.stalled.store(millis(now), Ordering::Relaxed);
        }
        self.last.store(millis(now).max(1), Ordering::Relaxed);
    }

    /// Whether the process has stalled, or did a moment ago.
    pub(crate) fn has_stalled(&self, now: Duration, interval: Duration) -> bool {
        let stalled = self.stalled.load(Ordering::Relaxed);
        let recently = stalled > 0 && millis(now).saturating_sub(stalled) < millis(AFTERMATH);
        recently || self.is_late(now, interval)
    }

    fn is_late(&self, now: Duration, interval: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && millis(now).saturating_sub(last) > millis(STALL.saturating_add(interval))
    }

    /// The sweep rests while there are no connections.
    pub(crate) fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_noticed_before_and_after_the_next_tick() {
        let ms = Duration::from_millis;
        let tick = ms(20);
        let detector = StallDetector::default();
        assert!(!detector.has_stalled(ms(9000), tick));
        detector.tick(ms(9000), tick);
        detector.tick(ms(9030), tick);
        assert!(!detector.has_stalled(ms(9500), tick));
        assert!(detector.has_stalled(ms(12_000), tick));
        detector.tick(ms(12_000), tick);
        assert!(detector.has_stalled(ms(12_900), tick));
        for at in (12_020..13_100).step_by(20) {
            detector.tick(ms(at), tick);
        }
        assert!(!detector.has_stalled(ms(13_100), tick));
        detector.rest();
        assert!(!detector.has_stalled(ms(99_000), tick));
    }
}
