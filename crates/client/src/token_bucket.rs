//! Token buckets. Pure: the caller supplies the time.

use std::time::Duration;

/// Filled continuously, and full at the beginning.
///
/// It leaves half of the server's capacity unused, because messages that are sent evenly may arrive in lumps.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_ms: f64,
    capacity: f64,
    level: f64,
    filled_at: Duration,
}

impl TokenBucket {
    /// A full bucket, where `capacity` is the burst that the server allows.
    pub(crate) fn new(per_second: f64, capacity: f64, now: Duration) -> TokenBucket {
        let capacity = (capacity / 2.0).max(1.0);
        TokenBucket { per_ms: per_second / 1000.0, capacity, level: capacity, filled_at: now }
    }

    /// How long until this much can be taken. A full bucket lends what exceeds its capacity.
    pub(crate) fn wait(&mut self, amount: f64, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64() * 1000.0;
        self.level = (self.level + passed * self.per_ms).min(self.capacity);
        self.filled_at = now;
        let missing = amount.min(self.capacity) - self.level;
        // Rounded up, because otherwise the client would wait for the last bit again and again.
        if missing > 0.0 {
            Duration::from_millis((missing / self.per_ms).ceil() as u64)
        } else {
            Duration::ZERO
        }
    }

    pub(crate) fn take(&mut self, amount: f64) {
        self.level -= amount;
    }

    /// The server has found its bucket empty.
    pub(crate) fn drain(&mut self, now: Duration) {
        self.level = self.level.min(0.0);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn half_a_burst_passes_and_then_the_rate() {
        let mut bucket = TokenBucket::new(10.0, 20.0, ms(0));
        for _ in 0..10 {
            assert_eq!(bucket.wait(1.0, ms(0)), ms(0));
            bucket.take(1.0);
        }
        assert_eq!(bucket.wait(1.0, ms(0)), ms(100));
        assert_eq!(bucket.wait(1.0, ms(40)), ms(60));
        assert_eq!(bucket.wait(1.0, ms(100)), ms(0));
        assert_eq!(bucket.wait(5.0, ms(100)), ms(400));
        assert_eq!(bucket.wait(10.0, ms(60_000)), ms(0));
        bucket.drain(ms(60_000));
        assert_eq!(bucket.wait(1.0, ms(60_000)), ms(100));
    }

    #[test]
    fn more_than_the_capacity_is_lent_by_a_full_bucket() {
        let mut bucket = TokenBucket::new(10.0, 20.0, ms(0));
        assert_eq!(bucket.wait(25.0, ms(0)), ms(0));
        bucket.take(25.0);
        assert_eq!(bucket.wait(1.0, ms(0)), ms(1600));
        assert_eq!(bucket.wait(25.0, ms(0)), ms(2500));
        // Even a rate of almost nothing must not cause a panic.
        assert_eq!(TokenBucket::new(1e-300, 0.0, ms(0)).wait(5.0, ms(0)), ms(0));
        let mut bucket = TokenBucket::new(1e-300, 0.0, ms(0));
        bucket.take(1.0);
        assert_eq!(bucket.wait(1.0, Duration::MAX), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn waiting_as_long_as_told_is_enough() {
        for rate in [1.0, 3.0, 7.0, 262_144.0] {
            let (mut bucket, mut now) = (TokenBucket::new(rate, 1.0, ms(5)), ms(5));
            for _ in 0..50 {
                now += bucket.wait(1.0, now);
                assert_eq!(bucket.wait(1.0, now), ms(0));
                bucket.take(1.0);
            }
        }
    }
}
