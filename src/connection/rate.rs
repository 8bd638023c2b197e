//! How much a connection may do in a time. Pure: whoever asks brings the time.

use std::time::Duration;

/// So many in a period, and at least `burst` at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    count: u64,
    period: Duration,
    burst: u64,
}

/// What is left of a rate.
///
/// It is filled up only when it is found empty, so that the clock is hardly ever asked. That lets
/// up to twice the burst pass at once, and never less than a purse filled all the time would.
#[derive(Debug)]
pub(crate) struct Purse {
    left: u64,
    /// Up to when it has been filled, in microseconds.
    since: u64,
}

impl Rate {
    /// With two seconds' worth at once. `u64::MAX` is no limit.
    pub(crate) fn per_second(count: u64) -> Rate {
        Rate { count, period: Duration::from_secs(1), burst: count.saturating_mul(2) }
    }

    /// With a minute's worth at once. `u64::MAX` is no limit.
    pub(crate) fn per_minute(count: u64) -> Rate {
        Rate { count, period: Duration::from_secs(60), burst: count }
    }
}

impl Purse {
    /// A full one.
    pub(crate) fn new(rate: Rate, now: Duration) -> Purse {
        Purse { left: rate.burst, since: micros(now) }
    }

    /// Takes that much. An error says after what time it can be had, and nothing is taken.
    pub(crate) fn take(
        &mut self,
        n: u64,
        rate: Rate,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Duration> {
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

    /// Takes that much or what there is, and returns how much was not there.
    pub(crate) fn take_most(&mut self, n: u64, rate: Rate, now: impl FnOnce() -> Duration) -> u64 {
        if self.left < n {
            self.fill(rate, micros(now()));
        }
        let short = n.saturating_sub(self.left);
        self.left -= n - short;
        short
    }

    fn fill(&mut self, rate: Rate, now: u64) {
        let period = rate.period.as_micros();
        let earned = u128::from(now.saturating_sub(self.since)) * u128::from(rate.count) / period;
        if u128::from(self.left) + earned >= u128::from(rate.burst) {
            (self.left, self.since) = (rate.burst, now);
        } else {
            self.left += earned as u64;
            // What is no whole one yet goes on growing.
            self.since += (earned * period / u128::from(rate.count)) as u64;
        }
    }

    fn wait(&self, n: u64, rate: Rate, now: u64) -> Duration {
        let missing = u128::from(n - self.left) * rate.period.as_micros();
        let from_since = missing.div_ceil(u128::from(rate.count)) as u64;
        Duration::from_micros(from_since.saturating_sub(now - self.since).max(1))
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
        let mut purse = Purse::new(rate, ms(0));
        for _ in 0..20 {
            assert_eq!(purse.take(1, rate, || unreachable!("there is enough")), Ok(()));
        }
        assert_eq!(purse.take(1, rate, || ms(0)), Err(ms(100)));
        assert_eq!(purse.take(1, rate, || ms(40)), Err(ms(60)));
        assert_eq!(purse.take(1, rate, || ms(100)), Ok(()));
        assert_eq!(purse.take(1, rate, || ms(150)), Err(ms(50)));
        assert_eq!(purse.take(3, rate, || ms(150)), Err(ms(250)));
        assert_eq!(purse.take_most(5, rate, || ms(400)), 2);
        assert_eq!(purse.take(1, rate, || ms(499)), Err(ms(1)));
        assert_eq!(purse.take(20, rate, || ms(10_000)), Ok(()));
        assert_eq!(purse.take(1, rate, || ms(10_000)), Err(ms(100)));
    }

    #[test]
    fn without_a_limit_the_clock_is_never_asked() {
        let rate = Rate::per_second(u64::MAX);
        let mut purse = Purse::new(rate, ms(0));
        for _ in 0..1000 {
            assert_eq!(purse.take(1 << 40, rate, || unreachable!("no limit")), Ok(()));
            assert_eq!(purse.take_most(1 << 40, rate, || unreachable!("no limit")), 0);
        }
    }

    #[test]
    fn waiting_as_long_as_told_is_enough() {
        for count in [1, 3, 7, 60, 262_144] {
            let rate = Rate::per_minute(count);
            let (mut purse, mut now) = (Purse::new(rate, ms(5)), ms(5));
            purse.take(count, rate, || now).unwrap();
            for _ in 0..50 {
                now += purse.take(1, rate, || now).unwrap_err();
                purse.take(1, rate, || now).unwrap();
            }
            let most = Duration::from_secs(60) * 51 / count as u32 + ms(1);
            assert!(now < most + ms(5), "{count}: {now:?}");
        }
    }

    proptest! {
        /// In any time no more passes than twice the burst and what the rate allows, and never less
        /// than a bucket that is filled at every moment would let pass.
        #[test]
        fn rate_and_burst_hold(
            count in 1u64..200,
            steps in prop::collection::vec((0u64..200_000, 1u64..4), 1..400),
        ) {
            let rate = Rate::per_second(count);
            let mut purse = Purse::new(rate, ms(0));
            let (mut now, mut passed) = (0u64, 0u64);
            // The bucket, in millionths.
            let full = u128::from(rate.burst) * 1_000_000;
            let mut bucket = full;
            for (pause, n) in steps {
                now += pause;
                bucket = full.min(bucket + u128::from(pause) * u128::from(count));
                let taken = purse.take(n, rate, || Duration::from_micros(now)).is_ok();
                if u128::from(n) * 1_000_000 <= bucket {
                    prop_assert!(taken, "{n} at {now}");
                }
                if taken {
                    bucket = bucket.saturating_sub(u128::from(n) * 1_000_000);
                    passed += n;
                }
                prop_assert!(passed <= rate.burst * 2 + now * count / 1_000_000);
            }
        }
    }
}
