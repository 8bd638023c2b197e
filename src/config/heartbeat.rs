use std::time::Duration;

/// How often the server pings each client, and how long it waits for a sign of life.
///
/// The server sends `{"event":"heartbeat","message":"ping","num":N}` to every connection once per
/// interval, and also when a connection has opened and when it has entered a room. The connections are
/// spread over the interval. Any inbound frame counts as a sign of life. If nothing arrives within
/// `timeout` after a heartbeat, the server closes the connection and the member leaves its room: at most
/// `interval + timeout` after the client's last sign of life.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::Heartbeat;
///
/// let fast = Heartbeat::every(Duration::from_secs(1));
/// assert_eq!(fast, Heartbeat::default());
/// assert_eq!(fast.timeout(), Duration::from_secs(1));
///
/// let mobile = Heartbeat::wide_internet();
/// assert_eq!((mobile.interval().as_secs(), mobile.timeout().as_secs()), (25, 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
}

impl Heartbeat {
    /// A heartbeat every `interval`, to be answered within `interval`.
    ///
    /// The interval must be at least 50 ms; otherwise building fails.
    pub fn every(interval: Duration) -> Heartbeat {
        Heartbeat { interval, timeout: interval }
    }

    /// A heartbeat every 25 s, to be answered within 20 s: for phones and slow networks.
    ///
    /// It costs a twenty-fifth of the default, and detects a lost client after at most 45 s. The
    /// tutorial's page reconnects after 1.5 s without a heartbeat, so it needs the default instead.
    pub fn wide_internet() -> Heartbeat {
        Heartbeat { interval: Duration::from_secs(25), timeout: Duration::from_secs(20) }
    }

    /// Replaces the time within which a heartbeat must be answered: more than zero, at most the interval.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Heartbeat {
        Heartbeat { timeout, ..self }
    }

    /// The time between two heartbeats of a connection.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The time within which a heartbeat must be answered.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat::every(Duration::from_secs(1))
    }
}
