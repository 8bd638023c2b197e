//! What every part of one engine reads: its settings, its clock, and its counters.

use crate::clock::Clock;
use crate::config::Config;
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
}
