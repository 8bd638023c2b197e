//! Token buckets. Pure: the caller supplies the time.

use std::time::Duration;

/// A number per period, of which at least `burst` may come at the same time after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// `u32::MAX` means no limit.
    count: u32,
    period: Duration,
    burst: u32,
}

/// What is left of a rate.
///
/// The bucket is refilled only when it is found empty, so that the clock is hardly ever read. This lets up to twice
/// the burst pass, and never less than a bucket that is refilled continuously would.
// Packed, for every connection has several.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    left: u32,
    /// The time up to which it has been filled, in microseconds: the low and the high half.
    since: (u32, u32),
}

impl Rate {
    /// With a burst of two seconds' worth. `u32::MAX` means no limit.
    pub(crate) fn per_second(count: u32) -> Rate {
        Rate { count, period: Duration::from_secs(1), burst: count.saturating_mul(2) }
    }

    /// With a burst of a minute's worth. `u32::MAX` means no limit.
    pub(crate) fn per_minute(count: u32) -> Rate {
        Rate { count, period: Duration::from_secs(60), burst: count }
    }

    /// The time in which one token is added, rounded up.
    pub(crate) fn interval(self) -> Duration {
        let nanos = self.period.as_nanos().div_ceil(u128::from(self.count.max(1)));
        Duration::from_nanos(nanos as u64)
    }

    /// The same rate with another burst.
    pub(crate) fn with_burst(self, burst: u32) -> Rate {
        Rate { burst, ..self }
    }
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Duration) -> TokenBucket {
        let mut bucket = TokenBucket { left: rate.burst, since: (0, 0) };
        bucket.set_since(micros(now));
        bucket
    }

    /// A bucket with this many tokens, or a full bucket if it holds fewer.
    pub(crate) fn with(left: u32, rate: Rate, now: Duration) -> TokenBucket {
        TokenBucket { left: left.min(rate.burst), ..TokenBucket::new(rate, now) }
    }

    /// Whether this much could be taken.
    pub(crate) fn has(&mut self, n: u32, rate: Rate, now: Duration) -> bool {
        if rate.count == u32::MAX {
            return true;
        }
        self.fill(rate, micros(now));
        self.left >= n
    }

    /// Whether nothing was taken recently.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Duration) -> bool {
        self.has(rate.burst, rate, now)
    }

    /// Takes this much. The error says how long until it is available; in that case nothing is taken.
    pub(crate) fn take(
        &mut self,
        n: u32,
        rate: Rate,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Duration> {
        if rate.count == u32::MAX {
            return Ok(());
        }
        if self.left < n {
            let now = micros(now());
            self.fill(rate, now);
            if self.left < n {
                return Err(self.wait(n, rate, now));
            }
        }
        self.left -= n;
        Ok(())
    }

    /// Takes this much or as much as there is, and returns how much was missing.
    pub(crate) fn take_most(&mut self, n: u32, rate: Rate, now: impl FnOnce() -> Duration) -> u32 {
        if rate.count == u32::MAX {
            return 0;
        }
        if self.left < n {
            self.fill(rate, micros(now()));
        }
        let short = n.saturating_sub(self.left);
        self.left -= n - short;
        short
    }

    fn fill(&mut self, rate: Rate, now: u64) {
        let (period, since) = (rate.period.as_micros(), self.since());
        let earned = u128::from(now.saturating_sub(since)) * u128::from(rate.count) / period;
        if u128::from(self.left) + earned >= u128::from(rate.burst) {
            self.left = rate.burst;
            self.set_since(now);
        } else {
            self.left += earned as u32;
            // Fractions of a token keep accumulating.
            self.set_since(since + (earned * period / u128::from(rate.count)) as u64);
        }
    }

    fn wait(&self, n: u32, rate: Rate, now: u64) -> Duration {
        let missing = u128::from(n - self.left) * rate.period.as_micros();
        let from_since = missing.div_ceil(u128::from(rate.count)) as u64;
        Duration::from_micros(from_since.saturating_sub(now - self.since()).max(1))
    }

    fn since(&self) -> u64 {
        u64::from(self.since.0) | u64::from(self.since.1) << 32
    }

    fn set_since(&mut self, micros: u64) {
        self.since = (micros as u32, (micros >> 32) as u32);
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate::per_second(10);
        let mut bucket = TokenBucket::new(rate, ms(0));
        for _ in 0..20 {
            assert_eq!(bucket.take(1, rate, || unreachable!("there is enough")), Ok(()));
        }
        assert_eq!(bucket.take(1, rate, || ms(0)), Err(ms(100)));
        assert_eq!(bucket.take(1, rate, || ms(40)), Err(ms(60)));
        assert_eq!(bucket.take(1, rate, || ms(100)), Ok(()));
        assert_eq!(bucket.take(1, rate, || ms(150)), Err(ms(50)));
        assert_eq!(bucket.take(3, rate, || ms(150)), Err(ms(250)));
        assert_eq!(bucket.take_most(5, rate, || ms(400)), 2);
        assert_eq!(bucket.take(1, rate, || ms(499)), Err(ms(1)));
        assert_eq!(bucket.take(20, rate, || ms(10_000)), Ok(()));
        assert_eq!(bucket.take(1, rate, || ms(10_000)), Err(ms(100)));
    }

    #[test]
    fn without_a_limit_the_clock_is_never_asked() {
        let rate = Rate::per_second(u32::MAX);
        let mut bucket = TokenBucket::new(rate, ms(0));
        for _ in 0..1000 {
            assert_eq!(bucket.take(1 << 30, rate, || unreachable!("no limit")), Ok(()));
            assert_eq!(bucket.take_most(1 << 30, rate, || unreachable!("no limit")), 0);
        }
    }

    #[test]
    fn waiting_as_long_as_told_is_enough() {
        for count in [1, 3, 7, 60, 262_144] {
            let rate = Rate::per_minute(count);
            let (mut bucket, mut now) = (TokenBucket::new(rate, ms(5)), ms(5));
            bucket.take(count, rate, || now).unwrap();
            for _ in 0..50 {
                now += bucket.take(1, rate, || now).unwrap_err();
                bucket.take(1, rate, || now).unwrap();
            }
            let most = Duration::from_secs(60) * 51 / count + ms(1);
            assert!(now < most + ms(5), "{count}: {now:?}");
        }
    }

    proptest! {
        /// In any period, no more passes than twice the burst plus what the rate allows, and never less
        /// than a bucket that is filled continuously would let pass.
        #[test]
        fn rate_and_burst_hold(
            count in 1u32..200,
            steps in prop::collection::vec((0u64..200_000, 1u32..4), 1..400),
        ) {
            let rate = Rate::per_second(count);
            let mut bucket = TokenBucket::new(rate, ms(0));
            let (mut now, mut passed) = (0u64, 0u64);
            // An exact bucket, in millionths.
            let full = u128::from(rate.burst) * 1_000_000;
            let mut exact = full;
            for (pause, n) in steps {
                now += pause;
                exact = full.min(exact + u128::from(pause) * u128::from(count));
                let taken = bucket.take(n, rate, || Duration::from_micros(now)).is_ok();
                if u128::from(n) * 1_000_000 <= exact {
                    prop_assert!(taken, "{n} at {now}");
                }
                if taken {
                    exact = exact.saturating_sub(u128::from(n) * 1_000_000);
                    passed += u64::from(n);
                }
                prop_assert!(passed <= u64::from(rate.burst) * 2 + now * u64::from(count) / 1_000_000);
            }
        }
    }
}
