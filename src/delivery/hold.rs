//! How long a room's readers may hold back its senders.

use std::time::Duration;

/// After a reader that is behind has taken something, senders wait for so long.
pub(crate) const HOLD: Duration = Duration::from_millis(250);

/// In so much time ...
const WINDOW: Duration = Duration::from_secs(60);

/// ... readers may hold back a room's senders for this long. Beyond that a reader that is behind is
/// treated as slow, so that no member can delay a room for ever.
const BUDGET: Duration = Duration::from_secs(10);

/// Two refusals that are further apart belong to two waits.
const STEP: Duration = Duration::from_millis(50);

/// What is left of the time for which a room's senders may be held back.
#[derive(Debug)]
pub(crate) struct HoldBudget {
    left: Duration,
    at: Duration,
}

impl HoldBudget {
    pub(crate) fn new() -> HoldBudget {
        HoldBudget { left: BUDGET, at: Duration::ZERO }
    }

    /// A sender would have to wait now. Returns whether it may be made to wait, and counts the time.
    pub(crate) fn spend(&mut self, now: Duration) -> bool {
        let past = now.saturating_sub(self.at);
        self.at = now;
        let earned = past.mul_f64(BUDGET.as_secs_f64() / WINDOW.as_secs_f64()).min(BUDGET);
        self.left = (self.left + earned).min(BUDGET);
        let spent = if past <= STEP { past } else { Duration::ZERO };
        match self.left.checked_sub(spent) {
            Some(left) if !left.is_zero() => {
                self.left = left;
                true
            }
            _ => {
                self.left = Duration::ZERO;
                false
            }
        }
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
        // In two minutes: what there was at first, and a sixth of the time.
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
