//! The time between attempts, and how many there may be.

use std::time::Duration;

use super::Now;
use crate::retry_hint::RetryHint;

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// A random time up to the backoff.
    Backoff,
    /// Immediately, unless that was tried before. For another token.
    AtOnce,
    /// A random time up to this, because others may have lost their connections as well.
    Spread(Duration),
    /// As the server says.
    Hint(RetryHint),
}

/// A success that lasts longer than this begins the backoff anew.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    /// Attempts since the last success that lasted.
    attempts: u32,
    /// How often the server has said when to come back, since the last success that lasted.
    hints: u32,
    /// When the last attempt succeeded; `None` if it failed.
    succeeded_at: Option<Now>,
    /// Attempts in a row that did not end in the room.
    failures: u32,
}

impl Backoff {
    /// The bound of the random wait starts at `first`, and doubles with each attempt up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, attempts: 0, hints: 0, succeeded_at: None, failures: 0 }
    }

    /// The client is in its room. A server that lets it in only to remove it again is tried less and less often.
    pub(super) fn succeed(&mut self, now: Now) {
        self.failures = 0;
        self.succeeded_at = Some(now);
    }

    /// The client has been in its room up to now, if at all.
    pub(super) fn end_success(&mut self, now: Now) {
        if self.succeeded_at.take().is_some_and(|at| now.saturating_sub(at) > STABLE) {
            self.attempts = 0;
            self.hints = 0;
        }
    }

    /// Makes the next wait at least as long as that of the other one.
    pub(super) fn raise_to(&mut self, other: &Backoff) {
        self.attempts = self.attempts.max(other.attempts);
    }

    /// Attempts since the last success that lasted.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt did not end in the room. Returns how many there were in a row.
    pub(super) fn fail(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Attempts in a row that did not end in the room.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next attempt. `longest` is another limit of the backoff, and `random` is from 0 to 1.
    pub(super) fn wait(&mut self, retry: Retry, longest: Duration, random: f64, now: Now) -> Duration {
        self.end_success(now);
        let mut tries = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if matches!(retry, Retry::Hint(_)) {
            // The server knows better than the attempts that have failed, unless it has sent the client away before.
            tries = self.hints;
            self.hints = self.hints.saturating_add(1);
        }
        let bound = self.first.saturating_mul(1 << tries.min(30)).min(self.longest).min(longest);
        let (wait, spread) = match retry {
            Retry::Backoff => (Duration::ZERO, None),
            Retry::AtOnce => (Duration::ZERO, Some(Duration::ZERO)),
            Retry::Spread(spread) => (Duration::ZERO, Some(spread.min(self.longest))),
            Retry::Hint(RetryHint { wait, spread }) => (wait, Some(spread)),
        };
        let spread = match spread {
            Some(spread) if tries == 0 => spread,
            Some(spread) => spread.max(bound),
            None => bound,
        };
        wait + spread.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No other limit.
    const ANY: Duration = Duration::MAX;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_bound_doubles_and_is_drawn_from() {
        let mut backoff = Backoff::new(ms(100), ms(500));
        let waits = [(); 6].map(|()| backoff.wait(Retry::Backoff, ANY, 1.0, ms(0)));
        assert_eq!(waits, [ms(100), ms(200), ms(400), ms(500), ms(500), ms(500)]);
        assert_eq!(backoff.wait(Retry::Backoff, ANY, 0.25, ms(0)), ms(125));
        let mut backoff = Backoff { attempts: u32::MAX, ..Backoff::new(ms(100), Duration::MAX) };
        assert!(backoff.wait(Retry::Backoff, ANY, 0.0, ms(0)).is_zero());
    }

    #[test]
    fn another_limit_is_drawn_from_as_well_and_the_attempts_count() {
        let mut backoff = Backoff::new(ms(100), ms(500));
        let mut wait = |limit, random| backoff.wait(Retry::Backoff, ms(limit), random, ms(0));
        assert_eq!([wait(50, 1.0), wait(150, 0.5), wait(1000, 1.0)], [ms(50), ms(75), ms(400)]);
        let hint = Retry::Hint(RetryHint { wait: ms(1000), spread: ms(600) });
        let waits = [(); 4].map(|()| backoff.wait(hint, ms(300), 1.0, ms(0)));
        assert_eq!(waits, [ms(1600); 4], "what the server asks for is not limited");
    }

    #[test]
    fn a_success_that_lasts_begins_anew() {
        let mut backoff = Backoff::new(ms(100), ms(500));
        backoff.succeed(ms(0));
        let mut wait = |now| backoff.wait(Retry::Backoff, ANY, 1.0, ms(now));
        assert_eq!([wait(10_001), wait(30_000)], [ms(100), ms(200)], "the time of a success counts once");
        backoff.succeed(ms(30_000));
        assert_eq!(backoff.wait(Retry::Backoff, ANY, 1.0, ms(40_000)), ms(400));
        backoff.succeed(ms(40_000));
        assert_eq!(backoff.wait(Retry::Backoff, ANY, 1.0, ms(50_001)), ms(100));
    }

    #[test]
    fn hints_count_and_those_who_are_sent_away_again_come_back_later() {
        let hint = Retry::Hint(RetryHint { wait: ms(1000), spread: ms(600) });
        let mut backoff = Backoff::new(ms(500), ms(4000));
        let waits = [(); 5].map(|()| backoff.wait(hint, ANY, 0.5, ms(0)));
        assert_eq!(waits, [ms(1300), ms(1500), ms(2000), ms(3000), ms(3000)]);
        for (retry, first, second) in [(Retry::AtOnce, 0, 1000), (Retry::Spread(ms(1200)), 1200, 1200)] {
            let mut backoff = Backoff::new(ms(500), ms(4000));
            assert_eq!([(); 2].map(|()| backoff.wait(retry, ANY, 1.0, ms(0))), [ms(first), ms(second)]);
        }
    }
}
