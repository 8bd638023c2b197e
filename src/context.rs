//! What all parts of one engine use: its settings, its clock, and its counters.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, Heartbeat};
use crate::protocol::subprotocol::Subprotocol;
use crate::stats::Counters;
use crate::sync::atomic::{AtomicU32, Ordering};

/// How many seconds a restart takes, including the shutdown.
const RESTART_SECONDS: u32 = 2;

/// After a restart, clients come back at this rate ...
const RECONNECTS_PER_SECOND: usize = 500;

/// ... but none has to wait for more seconds than this.
const MAX_RESTART_SPREAD: usize = 30;

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    /// How many seconds after they were closed the first clients may reconnect.
    restart_from: AtomicU32,
    /// The same for the last clients.
    restart_until: AtomicU32,
}

impl Context {
    pub(crate) fn new(config: Config) -> Context {
        Context {
            config,
            clock: Clock::new(),
            counters: Arc::default(),
            restart_from: AtomicU32::new(RESTART_SECONDS),
            restart_until: AtomicU32::new(0),
        }
    }

    /// A shutdown begins, or events of rooms were lost: this many clients will be told to reconnect, spread over some time. If
    /// their sessions are kept meanwhile, they come back in time.
    pub(crate) fn spread_restart(&self, clients: usize, is_kept: bool) {
        let window = self.config.recovery.resume_window.as_secs() as usize;
        let longest = if is_kept { MAX_RESTART_SPREAD.min(window / 2) } else { MAX_RESTART_SPREAD };
        let seconds = (clients / RECONNECTS_PER_SECOND).clamp(1, longest.max(1)) as u32;
        self.restart_from.store(RESTART_SECONDS, Ordering::Relaxed);
        self.restart_until.store(RESTART_SECONDS + seconds, Ordering::Relaxed);
    }

    /// A drain begins: clients will be told to reconnect within this many seconds.
    pub(crate) fn spread_drain(&self, seconds: u32) {
        self.restart_from.store(0, Ordering::Relaxed);
        self.restart_until.store(seconds, Ordering::Relaxed);
    }

    /// The range of seconds after which clients may reconnect after a shutdown or a drain. If only
    /// events were lost, the first ones may at once.
    pub(crate) fn restart(&self) -> RangeInclusive<u32> {
        let from = self.restart_from.load(Ordering::Relaxed);
        from..=self.restart_until.load(Ordering::Relaxed).max(from + 1)
    }

    /// The heartbeat of connections that speak this subprotocol.
    pub(crate) fn heartbeat_of(&self, subprotocol: Subprotocol) -> &Heartbeat {
        match subprotocol {
            Subprotocol::Plain => &self.config.heartbeat,
            Subprotocol::V1 => &self.config.v1_heartbeat,
        }
    }
}
