//! Distinguishes a long queue from a queue that does not move.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::sync::{Mutex, lock};

/// When there was progress for the last time.
pub(crate) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// How long an enter or a resumption waits without progress.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

    /// How long it waits in total.
    const LONGEST_WAIT: Duration = Duration::from_secs(30);

    pub(crate) fn new() -> Progress {
        Progress(Mutex::default())
    }

    /// There is progress.
    pub(crate) fn note(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    /// Waits for a future. Returns `None` if there is no progress for [`Progress::PATIENCE`], or after half a minute.
    pub(crate) async fn wait<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let start = Instant::now();
        loop {
            let since = lock(&self.0).map_or(start, |latest| latest.max(start));
            let end = start + Progress::LONGEST_WAIT;
            let until = end.min(since + Progress::PATIENCE);
            if let Ok(output) = timeout_at(until, &mut future).await {
                return Some(output);
            }
            let has_gone_on = lock(&self.0).is_some_and(|latest| latest > since);
            if !has_gone_on || until == end {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::select;
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Progress::PATIENCE;

    /// Notes progress again and again.
    async fn go_on(progress: &Progress) -> Option<()> {
        loop {
            progress.note();
            sleep(PATIENCE / 2).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_without_progress() {
        let (progress, start) = (Progress::new(), Instant::now());
        assert_eq!(progress.wait(sleep(PATIENCE / 2)).await, Some(()));
        progress.note();
        assert_eq!(progress.wait(pending::<()>()).await, None);
        assert_eq!(start.elapsed(), PATIENCE + PATIENCE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_lasts_while_there_is_progress_but_not_forever() {
        let progress = Progress::new();
        for (wait, output) in [(3 * PATIENCE, Some(())), (2 * Progress::LONGEST_WAIT, None)] {
            let start = Instant::now();
            let waited = select! {
                waited = progress.wait(sleep(wait)) => waited,
                never = go_on(&progress) => never,
            };
            assert_eq!((waited, start.elapsed()), (output, wait.min(Progress::LONGEST_WAIT)));
        }
    }
}
