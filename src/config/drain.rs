use std::time::Duration;

/// Options of [`ChatRooms::drain`](crate::ChatRooms::drain).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drain {
    window: Duration,
    ready_delay: Duration,
}

impl Drain {
    /// Closes the connections evenly over this time, in random order.
    pub fn over(window: Duration) -> Drain {
        Drain { window, ready_delay: Duration::ZERO }
    }

    /// Waits for this time before the first connection is closed. Default: zero.
    ///
    /// Choose it long enough for your load balancer to learn that it must not send clients here: the interval of its
    /// health checks times the number of failed checks that it requires.
    pub fn ready_delay(self, delay: Duration) -> Drain {
        Drain { ready_delay: delay, ..self }
    }

    pub(crate) fn window(self) -> Duration {
        self.window
    }

    pub(crate) fn delay(self) -> Duration {
        self.ready_delay
    }
}
