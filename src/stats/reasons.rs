//! Numbers for each reason why memberships and connections end.

use crate::protocol::close::LeaveReason;
use crate::stats::counter::Counter;

const REASONS: usize = LeaveReason::ALL.len();

/// How many connections or memberships have ended, for each reason. A field of [`Stats`](crate::Stats).
///
/// ```
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// use tower_chat_rooms::{ChatRooms, LeaveReason};
///
/// let rooms = ChatRooms::builder().build()?;
/// println!("{} connections were lost", rooms.stats().closed.of(LeaveReason::Lost));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasonCounts([u64; REASONS]);

impl ReasonCounts {
    /// Returns how many have ended for this reason.
    pub fn of(&self, reason: LeaveReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Returns how many have ended for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns all reasons with their numbers, which may be 0.
    pub fn iter(&self) -> impl Iterator<Item = (LeaveReason, u64)> {
        LeaveReason::ALL.into_iter().zip(self.0)
    }
}

/// The same, while many tasks add to it.
#[derive(Debug, Default)]
pub(crate) struct ReasonCounters([Counter; REASONS]);

impl ReasonCounters {
    pub(crate) fn add(&self, reason: LeaveReason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(1);
        }
    }

    pub(crate) fn read(&self) -> ReasonCounts {
        ReasonCounts(std::array::from_fn(|at| self.0[at].read()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counters = ReasonCounters::default();
        for reason in LeaveReason::ALL {
            (0..=reason as usize).for_each(|_| counters.add(reason));
        }
        let counts = counters.read();
        for reason in LeaveReason::ALL {
            assert_eq!(counts.of(reason), reason as u64 + 1, "{reason:?}");
        }
        assert_eq!(counts.total(), counts.iter().map(|(_, count)| count).sum::<u64>());
    }
}
