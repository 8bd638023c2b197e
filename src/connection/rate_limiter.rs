//! The rate limits of one connection.

use std::time::Duration;

use crate::config::{Config, Heartbeat, RateLimits};
use crate::connection::token_bucket::{Rate, TokenBucket};

/// The token buckets of one connection.
#[derive(Debug)]
pub(super) struct RateLimiter {
    messages: TokenBucket,
    bytes: TokenBucket,
    /// Answers to heartbeats, pings, pongs, parts of messages.
    others: TokenBucket,
    enters: TokenBucket,
    rooms: TokenBucket,
    /// Frames beyond the rates, less those since that were within.
    violations: u32,
}

/// Something was beyond its rate.
#[derive(Debug)]
pub(super) struct Exceeded {
    /// What is allowed.
    pub(super) limit: String,
    /// When it can be tried again.
    pub(super) wait: Duration,
}

impl RateLimiter {
    pub(super) fn new(config: &Config, heartbeat: &Heartbeat, now: Duration) -> RateLimiter {
        let limits = &config.rate_limits;
        RateLimiter {
            messages: TokenBucket::new(messages(limits), now),
            bytes: TokenBucket::new(bytes(limits), now),
            others: TokenBucket::new(others(limits, heartbeat), now),
            enters: TokenBucket::new(enters(limits), now),
            rooms: TokenBucket::new(rooms(limits), now),
            violations: 0,
        }
    }

    /// A message of so many bytes.
    pub(super) fn check_message(
        &mut self,
        len: usize,
        limits: &RateLimits,
        now: impl Fn() -> Duration,
    ) -> Result<(), Exceeded> {
        self.messages.take(1, messages(limits), &now).map_err(|wait| Exceeded {
            limit: format!("more than {} messages per second", limits.max_messages_per_second),
            wait,
        })?;
        self.bytes.take(clamp(len), bytes(limits), &now).map_err(|wait| Exceeded {
            limit: format!("more than {} bytes per second", limits.max_bytes_per_second),
            wait,
        })?;
        self.violations = self.violations.saturating_sub(1);
        Ok(())
    }

    /// Frames that are no messages. Returns how many were beyond the rate: there is no answer to them.
    pub(super) fn check_others(
        &mut self,
        n: u32,
        limits: &RateLimits,
        heartbeat: &Heartbeat,
        now: impl Fn() -> Duration,
    ) -> u32 {
        self.others.take_most(n, others(limits, heartbeat), now)
    }

    /// An enter.
    pub(super) fn check_enter(
        &mut self,
        limits: &RateLimits,
        now: impl Fn() -> Duration,
    ) -> Result<(), Exceeded> {
        self.enters.take(1, enters(limits), now).map_err(|wait| Exceeded {
            limit: format!("more than {} enters per minute", limits.max_enters_per_minute),
            wait,
        })
    }

    /// A room that is about to be opened.
    pub(super) fn check_new_room(
        &mut self,
        limits: &RateLimits,
        now: impl Fn() -> Duration,
    ) -> Result<(), Exceeded> {
        self.rooms.take(1, rooms(limits), now).map_err(|wait| Exceeded {
            limit: format!(
                "more than {} new rooms per minute; enter one that exists, or wait",
                limits.max_new_rooms_per_minute
            ),
            wait,
        })
    }

    /// Counts frames beyond a rate. False if a client goes on regardless, and is to be closed.
    #[must_use]
    pub(super) fn add_violations(&mut self, n: u32, limits: &RateLimits) -> bool {
        self.violations = self.violations.saturating_add(n);
        self.violations < limits.max_rate_violations
    }
}

fn messages(limits: &RateLimits) -> Rate {
    Rate::per_second(limits.max_messages_per_second)
}

fn bytes(limits: &RateLimits) -> Rate {
    // More than 4 GB a second is no limit.
    Rate::per_second(clamp(limits.max_bytes_per_second))
}

/// As many as messages, and two for each heartbeat, which the client has to answer.
fn others(limits: &RateLimits, heartbeat: &Heartbeat) -> Rate {
    let beats = 1_000_u128.div_ceil(heartbeat.interval().as_millis().max(1)) as u32;
    Rate::per_second(limits.max_messages_per_second.saturating_add(2 * beats))
}

fn enters(limits: &RateLimits) -> Rate {
    Rate::per_minute(limits.max_enters_per_minute)
}

fn rooms(limits: &RateLimits) -> Rate {
    Rate::per_minute(limits.max_new_rooms_per_minute)
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
