//! When to try again.

use std::time::Duration;

use crate::random;

const FIRST: Duration = Duration::from_millis(50);
/// The limit of the longest wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// Doubles the limit of the wait up to the longest one, and takes a random time below it ("full jitter"), so that nodes
/// that lost their connections together do not come back together. It never gives up.
#[derive(Debug)]
pub(crate) struct Backoff {
    limit: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(longest: Duration) -> Backoff {
        Backoff { limit: FIRST.min(longest), longest }
    }

    /// How long to wait before the next attempt.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let limit = self.limit;
        self.limit = (limit * 2).min(self.longest);
        random::up_to(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_limit_that_doubles() {
        let mut backoff = Backoff::new(LONGEST);
        let mut limit = FIRST;
        for _ in 0..100 {
            assert!(backoff.next_wait() <= limit);
            limit = (limit * 2).min(LONGEST);
        }
        assert_eq!(backoff.limit, LONGEST);
    }
}
