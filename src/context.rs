//! What every part of one engine reads: its settings, its clock, and its counters.

use crate::clock::Clock;
use crate::config::{Config, Heartbeat};
use crate::protocol::subprotocol::Subprotocol;
use crate::stats::Counters;

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
}

impl Context {
    pub(crate) fn new(config: Config) -> Context {
        Context { config, clock: Clock::new(), counters: Counters::default() }
    }

    /// The heartbeat of connections that speak this subprotocol.
    pub(crate) fn heartbeat_of(&self, subprotocol: Subprotocol) -> &Heartbeat {
        match subprotocol {
            Subprotocol::Plain => &self.config.heartbeat,
            Subprotocol::V1 => &self.config.v1_heartbeat,
        }
    }
}
