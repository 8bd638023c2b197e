//! Limits how often one kind of log line is written.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::{Mutex, lock};

/// One line per kind and interval. An outage may last for hours, and concern thousands of rooms.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets the first line through, and one per interval after that. Counts those in between.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the next line may be written; at any time, if there was none yet.
    next: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be written now, and if so, how many were suppressed since the last one.
    pub(crate) fn take(&self) -> Option<u64> {
        let (mut state, now) = (lock(&self.0), Instant::now());
        if state.next.is_some_and(|next| now < next) {
            state.suppressed += 1;
            return None;
        }
        state.next = Some(now + INTERVAL);
        Some(std::mem::take(&mut state.suppressed))
    }
}
