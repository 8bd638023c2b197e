//! The settings of an engine: plain data with documented defaults.

mod drain;
mod event_names;
mod heartbeat;
mod history;
mod keep;
mod limits;
mod on_expiry;
mod options;
mod presence;
mod rate_limits;
mod recovery;
mod slow_consumer;
mod timeouts;
mod unique_names;

pub use self::drain::Drain;
pub(crate) use self::event_names::EventNames;
pub use self::heartbeat::Heartbeat;
pub use self::history::History;
pub use self::keep::Keep;
pub use self::limits::Limits;
pub use self::on_expiry::OnExpiry;
pub use self::options::OptionInfo;
pub(crate) use self::presence::PresenceMode;
pub use self::presence::{AutoPresence, Presence};
pub use self::rate_limits::RateLimits;
pub use self::recovery::Recovery;
pub use self::slow_consumer::SlowConsumer;
pub use self::timeouts::Timeouts;
pub use self::unique_names::UniqueNames;

/// All settings of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Of plain connections.
    pub(crate) heartbeat: Heartbeat,
    pub(crate) v1_heartbeat: Heartbeat,
    pub(crate) limits: Limits,
    pub(crate) rate_limits: RateLimits,
    pub(crate) timeouts: Timeouts,
    pub(crate) recovery: Recovery,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) unique_names: UniqueNames,
    pub(crate) presence: Presence,
    pub(crate) on_expiry: OnExpiry,
    pub(crate) events: EventNames,
    /// `None` if the host has not chosen.
    pub(crate) keep: Option<Keep>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            heartbeat: Heartbeat::default(),
            v1_heartbeat: Heartbeat::wide_internet(),
            limits: Limits::default(),
            rate_limits: RateLimits::default(),
            timeouts: Timeouts::default(),
            recovery: Recovery::default(),
            slow_consumer: SlowConsumer::default(),
            unique_names: UniqueNames::default(),
            presence: Presence::default(),
            on_expiry: OnExpiry::default(),
            events: EventNames::default(),
            keep: None,
        }
    }
}

impl Config {
    /// The options that are not the default, as `name=value`.
    pub(crate) fn changed_options(&self) -> String {
        let changed = self.limits.changed().chain(self.rate_limits.changed());
        let changed = changed.chain(self.timeouts.changed()).chain(self.recovery.changed());
        changed.collect::<Vec<_>>().join(", ")
    }
}
