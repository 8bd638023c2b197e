//! Limits how often one kind of log line is written.

use std::time::Duration;

use crate::sync::{Mutex, lock};

/// One line per kind and interval. Anybody can send what is logged here, so it must not fill the log.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets the first line through, and one per interval after that. Counts those in between.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the next line may be written; at any time, if there was none yet.
    next: Option<Duration>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be written now, and if so, how many were not since the last one, unless none.
    pub(crate) fn take(&self, now: Duration) -> Option<Option<u64>> {
        let mut state = lock(&self.0);
        if state.next.is_some_and(|next| now < next) {
            state.suppressed += 1;
            return None;
        }
        state.next = Some(now.saturating_add(INTERVAL));
        Some(Some(std::mem::take(&mut state.suppressed)).filter(|suppressed| *suppressed > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_is_written_and_the_others_are_counted() {
        let limit = LogLimit::default();
        let at = |millis| limit.take(Duration::from_millis(millis));
        assert_eq!(at(5_000), Some(None));
        assert_eq!([at(5_000), at(6_000), at(64_999)], [None; 3]);
        assert_eq!(at(65_000), Some(Some(3)));
        assert_eq!(at(124_999), None);
        assert_eq!(at(1_000_000), Some(Some(1)));
        assert_eq!(at(2_000_000), Some(None));
    }
}
