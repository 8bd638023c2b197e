use std::time::Duration;

/// How a server is drained: [`ChatRooms::drain`](crate::ChatRooms::drain).
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
    /// Choose it so that your load balancer learns meanwhile that it must not send clients here: the interval of its health
    /// checks times the number that must fail.
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
