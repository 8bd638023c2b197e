//! When a user's authentication expires, by two clocks: one only goes forward, the other can be set.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep};

use crate::hooks::user::Expiry;

/// A clock that is set back delays the expiry by no more than this. Clocks are rarely wrong by more, and after a
/// jump of a year no user stays for a year.
const MAX_SETBACK: Duration = Duration::from_secs(60 * 60);

/// The timer of one connection.
pub(super) struct TokenExpiry {
    plan: Plan,
    timer: Pin<Box<Sleep>>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It expires after this time.
    Warn(Duration),
    /// It has expired.
    Expire,
}

/// The times, independent of a clock.
struct Plan {
    /// Before this, the wall clock is ignored: if it were set forward, it would end every connection.
    due: Instant,
    /// The expiry by the wall clock, if that clock counts.
    wall: Option<SystemTime>,
    /// After this, the wall clock is ignored: if it were set back, every user could stay.
    last: Instant,
    /// How long before the expiry the client is warned; `None` once it was.
    warning: Option<Duration>,
}

impl TokenExpiry {
    /// `None` if the expiry is too far away to be reached. A warning of zero means no warning.
    pub(super) fn begin(expiry: Expiry, warning: Duration) -> Option<TokenExpiry> {
        let plan = Plan::new(expiry, warning, Instant::now(), SystemTime::now())?;
        Some(TokenExpiry { plan, timer: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Ready when there is something to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            match self.plan.next(Instant::now(), SystemTime::now()) {
                Ok(step) => return Poll::Ready(step),
                Err(wait) => self.timer.as_mut().reset(wait),
            }
        }
    }
}

impl Plan {
    fn new(expiry: Expiry, warning: Duration, now: Instant, wall: SystemTime) -> Option<Plan> {
        let due = now.checked_add(expiry.left(now, wall))?;
        let (wall, last) = match expiry {
            Expiry::At(time) => (Some(time), due.checked_add(MAX_SETBACK)?),
            Expiry::On(_) => (None, due),
        };
        Some(Plan { due, wall, last, warning: (!warning.is_zero()).then_some(warning) })
    }

    /// What is due now, or else when to ask again.
    fn next(&mut self, now: Instant, wall: SystemTime) -> Result<Step, Instant> {
        let left = self.left(now, wall);
        if left.is_zero() {
            return Ok(Step::Expire);
        }
        match self.warning {
            Some(warning) if left > warning => Err(now + (left - warning)),
            Some(_) => {
                self.warning = None;
                Ok(Step::Warn(left))
            }
            None => Err(now + left),
        }
    }

    fn left(&self, now: Instant, wall: SystemTime) -> Duration {
        if now < self.due {
            return self.due - now;
        }
        let by_wall = self.wall.and_then(|end| end.duration_since(wall).ok()).unwrap_or_default();
        by_wall.min(self.last.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    /// The steps and when they happen, if the wall clock is off by `drift` from the start on.
    fn steps(
        expiry: impl Fn(Instant, SystemTime) -> Expiry,
        drift: impl Fn(SystemTime) -> SystemTime,
    ) -> Vec<(Step, u64)> {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 50 * YEAR);
        let mut plan = Plan::new(expiry(start, wall), MINUTE, start, wall).unwrap();
        let (mut now, mut steps) = (start, Vec::new());
        for _ in 0..10 {
            match plan.next(now, drift(wall + (now - start))) {
                Err(wait) => {
                    assert!(wait > now);
                    now = wait;
                }
                Ok(step) => {
                    let is_over = step == Step::Expire;
                    steps.push((step, (now - start).as_secs()));
                    if is_over {
                        return steps;
                    }
                }
            }
        }
        panic!("no end: {steps:?}");
    }

    #[test]
    fn a_warning_then_the_end() {
        let want = [(Step::Warn(MINUTE), 540), (Step::Expire, 600)];
        assert_eq!(steps(|_, wall| Expiry::At(wall + 10 * MINUTE), |wall| wall), want);
        assert_eq!(steps(|now, _| Expiry::On(now + 10 * MINUTE), |wall| wall), want);
        // A user with less time left is warned immediately; one whose time is over is not.
        let short = [(Step::Warn(MINUTE / 2), 0), (Step::Expire, 30)];
        assert_eq!(steps(|_, wall| Expiry::At(wall + MINUTE / 2), |wall| wall), short);
        assert_eq!(steps(|_, wall| Expiry::At(wall - YEAR), |wall| wall), [(Step::Expire, 0)]);
    }

    #[test]
    fn a_clock_that_jumps_ends_no_connection_early_and_keeps_none_for_ever() {
        let at = |_, wall: SystemTime| Expiry::At(wall + 10 * MINUTE);
        let usual = [(Step::Warn(MINUTE), 540), (Step::Expire, 600)];
        assert_eq!(steps(at, |wall| wall + YEAR), usual);
        assert_eq!(
            steps(at, |_| SystemTime::UNIX_EPOCH),
            [(Step::Warn(MINUTE), 540), (Step::Expire, 600 + 3600)]
        );
        // A correction by five minutes is believed.
        assert_eq!(steps(at, |wall| wall - 5 * MINUTE), [(Step::Warn(MINUTE), 540), (Step::Expire, 900)]);
        let on = |now: Instant, _| Expiry::On(now + 10 * MINUTE);
        assert_eq!(steps(on, |wall| wall - YEAR), usual);
    }

    #[test]
    fn an_expiry_out_of_range_never_comes() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
        if let Some(mut plan) = Plan::new(Expiry::At(far), MINUTE, now, wall) {
            assert!(plan.next(now, wall).is_err());
            assert!(plan.next(now, SystemTime::UNIX_EPOCH).is_err());
        }
    }
}
