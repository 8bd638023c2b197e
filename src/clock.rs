//! The engine's clock: time since it was built. Pure code gets times as arguments.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Time since the engine was built.
    pub(crate) fn now(self) -> Duration {
        self.start.elapsed()
    }
}
