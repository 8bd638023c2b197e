//! How long a reader may hold back its room's senders, and how fast they may send meanwhile.

use std::time::Duration;

use crate::config::Limits;

/// The minimum rate. Readers that accept this many bytes per second are not slow, and a room's senders may always send
/// this many together. See also [`FILL_SECONDS`].
const MIN_BYTES_PER_SECOND: usize = 64 * 1024;

/// The minimum rate is lower if it would fill a send queue in less than this many seconds.
const FILL_SECONDS: usize = 16;

/// A frame counts as at least this many bytes.
const MIN_FRAME: usize = 256;

/// Held-back senders may exceed the minimum rate by this much, so that a room with little traffic is not delayed.
const BURST: Duration = Duration::from_millis(250);

/// A reader starts to hold back senders only if it may do so for longer than this.
const MIN_HOLD: Duration = Duration::from_millis(250);

/// A reader holds back senders for at most this long without progress. This must be several seconds, because a kernel
/// with a large send buffer may accept nothing for that long, and then a lot at once.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A reader holds back senders for at most this long in total. If it is still behind then, they send more than it can
/// read. If eight members send a burst of 480 kB each, a reader at 1 Mbit/s needs half of this time.
const BUDGET: Duration = Duration::from_secs(60);

/// A reader regains one second of the budget in this many seconds.
const RENEWAL: u32 = 6;

/// The rate, in bytes per second, that a reader has to keep up with, and that a room's senders can always use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinRate(u64);

impl MinRate {
    pub(crate) fn new(limits: &Limits) -> MinRate {
        MinRate((limits.max_queue_bytes / FILL_SECONDS).clamp(1, MIN_BYTES_PER_SECOND) as u64)
    }

    /// The time that a frame takes at this rate.
    pub(super) fn time_of_frame(self, len: usize) -> Duration {
        self.time_of(len.max(MIN_FRAME) as u64)
    }

    fn time_of(self, bytes: u64) -> Duration {
        Duration::from_micros(bytes.saturating_mul(1_000_000) / self.0)
    }
}

/// Lets the messages of a room's senders pass at the minimum rate while they are held back.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// When the messages that have passed so far would have been sent at exactly the minimum rate.
    passed_at: Duration,
}

impl Pacer {
    /// Whether a message may pass now that takes this long at the minimum rate.
    pub(super) fn pass(&mut self, now: Duration, time: Duration) -> bool {
        let may_pass = self.passed_at <= now + BURST;
        if may_pass {
            self.passed_at = self.passed_at.max(now) + time;
        }
        may_pass
    }
}

/// How much longer one reader may hold back senders.
#[derive(Debug)]
pub(crate) struct HoldBudget {
    /// When it was last updated.
    at: Duration,
    /// Bytes that the reader had accepted then, modulo 2^32.
    accepted: u32,
    /// The remaining time for its progress. Accepted bytes add the time that they take at the minimum rate.
    progress: Duration,
    /// The remaining time in total.
    total: Duration,
}

impl Default for HoldBudget {
    fn default() -> HoldBudget {
        HoldBudget { at: Duration::ZERO, accepted: 0, progress: Duration::ZERO, total: BUDGET }
    }
}

impl HoldBudget {
    /// Updates the budget. `accepted` is the number of bytes that the reader has accepted so far, modulo 2^32, and
    /// `was_holding` says whether it has held back senders since the last call. Returns whether it may hold them back
    /// from now on.
    pub(crate) fn update(&mut self, now: Duration, accepted: u32, rate: MinRate, was_holding: bool) -> bool {
        let past = now.saturating_sub(self.at);
        let held = if was_holding { past } else { Duration::ZERO };
        self.progress = self.progress.saturating_sub(held);
        self.total = (self.total + past / RENEWAL).min(BUDGET).saturating_sub(held);
        let is_used_up = self.progress.min(self.total).is_zero();
        self.progress =
            (self.progress + rate.time_of(accepted.wrapping_sub(self.accepted).into())).min(MAX_PAUSE);
        (self.at, self.accepted) = (now, accepted);
        // Avoids holding back senders for very short times once the budget is used up.
        let least = if was_holding && !is_used_up { Duration::ZERO } else { MIN_HOLD };
        self.progress.min(self.total) > least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u32 = 1024;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn min_rate() -> MinRate {
        MinRate::new(&Limits::default())
    }

    /// A reader accepts `bytes` every `interval` milliseconds. Returns for how many milliseconds of `time` it holds
    /// back senders.
    fn held(time: u64, interval: u64, bytes: u32) -> u64 {
        let (mut budget, mut accepted, mut is_holding, mut held) = (HoldBudget::default(), 0, false, 0);
        // The reader has kept up for a while.
        budget.update(ms(1_000_000), 10 << 20, min_rate(), false);
        for now in (0..time).step_by(10) {
            if now > 0 && now % interval == 0 {
                accepted += bytes;
            }
            is_holding = budget.update(ms(1_000_000 + now), (10 << 20) + accepted, min_rate(), is_holding);
            held += u64::from(is_holding) * 10;
        }
        held
    }

    #[test]
    fn a_reader_that_keeps_up_with_the_minimum_rate_holds_back_senders_until_its_budget_is_used_up() {
        for (interval, bytes) in [(100, 7 * KIB), (1000, 64 * KIB), (7000, 448 * KIB), (100, 1000 * KIB)] {
            assert_eq!(held(60_000, interval, bytes), 60_000, "{bytes} every {interval} ms");
            // In five minutes, this is the budget plus a sixth of the time.
            let held = held(300_000, interval, bytes);
            assert!((100_000..111_000).contains(&held), "{bytes} every {interval} ms: {held}");
        }
    }

    #[test]
    fn a_reader_below_the_minimum_rate_soon_holds_back_nobody() {
        for (interval, bytes) in [(1000, 0), (1000, 10), (250, 100), (20, 1)] {
            let held = held(300_000, interval, bytes);
            assert!((10_000..12_000).contains(&held), "{bytes} every {interval} ms: {held}");
        }
        // At half the minimum rate, one second of progress is used up in two seconds.
        let held = held(60_000, 1000, 32 * KIB);
        assert!((20_000..41_000).contains(&held), "{held}");
    }

    #[test]
    fn a_reader_that_has_accepted_hardly_anything_holds_back_nobody() {
        let mut budget = HoldBudget::default();
        assert!(!budget.update(ms(1000), 15 * KIB, min_rate(), false));
        assert!(budget.update(ms(1000), 17 * KIB, min_rate(), false));
    }

    #[test]
    fn the_budget_comes_back() {
        let (mut budget, mut now, mut accepted) = (HoldBudget::default(), ms(0), 0);
        let mut second = |budget: &mut HoldBudget, was_holding| {
            now += ms(1000);
            accepted += 640 * KIB;
            budget.update(now, accepted, min_rate(), was_holding)
        };
        assert!(second(&mut budget, false));
        while second(&mut budget, true) {}
        assert_eq!(budget.total, Duration::ZERO);
        for _ in 0..=60 * RENEWAL {
            second(&mut budget, false);
        }
        assert_eq!(budget.total, BUDGET);
    }

    #[test]
    fn messages_pass_at_the_minimum_rate() {
        for (len, expected) in [(10, 256 * 60), (1024, 64 * 60), (64 * 1024, 60)] {
            let (mut pacer, mut passed) = (Pacer::default(), 0);
            for now in 0..60_000 {
                passed += u64::from(pacer.pass(ms(now), min_rate().time_of_frame(len)));
            }
            assert!((expected..=expected + expected / 50 + 1).contains(&passed), "{passed} of {len} bytes");
        }
    }

    #[test]
    fn the_minimum_rate_fits_the_send_queue() {
        for (queue, rate) in [(1 << 20, 64 * KIB), (16 * 1024, KIB), (1 << 30, 64 * KIB), (1, 1)] {
            assert_eq!(MinRate::new(&Limits::default().max_queue_bytes(queue)), MinRate(rate.into()));
        }
    }
}
