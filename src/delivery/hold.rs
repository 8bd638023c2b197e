//! How long a room's readers may hold back its senders.

use std::time::Duration;

/// After a reader that is behind has made progress, senders wait for this long.
pub(crate) const HOLD: Duration = Duration::from_millis(250);

/// Within this time ...
const WINDOW: Duration = Duration::from_secs(60);

/// ... readers may hold back a room's senders for this long. Beyond that, a reader that is behind is
/// treated as slow, so that no member can delay a room forever.
const BUDGET: Duration = Duration::from_secs(10);

/// How much longer a room's senders may be held back.
#[derive(Debug)]
pub(crate) struct HoldBudget {
    left: Duration,
    /// When a sender last asked.
    at: Duration,
    /// Whether it was made to wait then.
    is_holding: bool,
}

impl HoldBudget {
    pub(crate) fn new() -> HoldBudget {
        HoldBudget { left: BUDGET, at: Duration::ZERO, is_holding: false }
    }

    /// Whether a sender may be made to wait now. Counts the time since the last one was.
    pub(crate) fn spend(&mut self, now: Duration) -> bool {
        let past = now.saturating_sub(self.at);
        let spent = if self.is_holding { past.min(HOLD) } else { Duration::ZERO };
        let earned = past.min(WINDOW) / (WINDOW.as_secs() / BUDGET.as_secs()) as u32;
        self.left = (self.left + earned).min(BUDGET).saturating_sub(spent);
        self.at = now;
        // Once the time is used up, enough for a whole wait has to accumulate first.
        let least = if self.is_holding { Duration::ZERO } else { HOLD };
        self.is_holding = self.left > least;
        self.is_holding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn senders_are_held_back_for_a_part_of_the_time() {
        let (mut budget, mut now, mut held) = (HoldBudget::new(), ms(500_000), 0);
        for _ in 0..12_000 {
            now += ms(10);
            held += u64::from(budget.spend(now)) * 10;
        }
        // In two minutes: the initial budget, and a sixth of the time.
        assert!((25_000..32_000).contains(&held), "{held}");
    }

    #[test]
    fn the_budget_comes_back() {
        let (mut budget, mut now) = (HoldBudget::new(), ms(10));
        while budget.spend(now) {
            now += ms(10);
        }
        assert!((10_000..13_000).contains(&(now.as_millis() as u64)), "{now:?}");
        assert!(budget.spend(now + WINDOW));
    }
}
