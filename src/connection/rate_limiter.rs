//! The rate limits of one connection.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::token_bucket::{Rate, TokenBucket};
use crate::config::{Heartbeat, RateLimits};
use crate::context::Context;
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;

/// Bytes of an answer to a heartbeat. One that is longer counts as a message.
pub(super) const MAX_PONG: usize = 128;

/// How many messages a connection that starts without a burst may send at once: a token, a resume, and the enters of as
/// many rooms as a client may be in by default. With fewer, a client that comes back would be refused.
const RETURN: u32 = 66;

/// Bytes of each of these messages on average.
const RETURN_BYTES: u32 = 1024;

/// After a pause of this many seconds, the token buckets of messages are full again.
const PAUSE: u8 = 2;

/// The token buckets of one connection.
pub(super) struct RateLimiter {
    context: Arc<Context>,
    subprotocol: Subprotocol,
    messages: TokenBucket,
    bytes: TokenBucket,
    /// For answers to heartbeats, pings, pongs, and parts of messages.
    others: TokenBucket,
    transients: TokenBucket,
    enters: TokenBucket,
    rooms: TokenBucket,
    auths: TokenBucket,
    /// Frames beyond the rates, minus later ones within the rates.
    violations: u32,
    /// Set while the server has kept the client waiting and the client has sent without a pause since: the second of
    /// its last message, modulo 256.
    catching_up: Option<u8>,
}

/// A rate was exceeded.
#[derive(Debug)]
pub(super) struct Exceeded {
    /// What is allowed.
    pub(super) limit: String,
    /// How long until the client can try again.
    pub(super) wait: Duration,
    /// The rate is that of an address or a user, and others may have used it up.
    pub(super) is_shared: bool,
}

impl RateLimiter {
    /// `is_fresh` allows a burst at the start. Without it, a client can send just enough to come back to its rooms.
    pub(super) fn new(context: Arc<Context>, subprotocol: Subprotocol, is_fresh: bool) -> RateLimiter {
        let (limits, now) = (&context.config.rate_limits, context.clock.now());
        let of = |rate, without_burst| match is_fresh {
            true => TokenBucket::new(rate, now),
            false => TokenBucket::with(without_burst, rate, now),
        };
        RateLimiter {
            messages: of(messages(limits), RETURN),
            bytes: of(bytes(limits), RETURN * RETURN_BYTES),
            others: TokenBucket::new(others(limits, context.heartbeat_of(subprotocol)), now),
            transients: of(transients(limits), 0),
            enters: TokenBucket::new(enters(limits), now),
            rooms: TokenBucket::new(rooms(limits), now),
            auths: TokenBucket::new(auths(limits), now),
            violations: 0,
            catching_up: None,
            subprotocol,
            context,
        }
    }

    /// Counts a message with this many bytes.
    pub(super) fn check_message(&mut self, len: usize) -> Result<(), Exceeded> {
        let Context { config, clock, .. } = &*self.context;
        let limits = &config.rate_limits;
        if let Some(last) = self.catching_up {
            let now = clock.now().as_secs() as u8;
            self.catching_up = (now.wrapping_sub(last) <= PAUSE).then_some(now);
        }
        self.messages.take(1, messages(limits), || clock.now()).map_err(|wait| Exceeded {
            limit: format!("more than {} messages per second", limits.max_messages_per_second),
            wait,
            is_shared: false,
        })?;
        self.bytes.take(clamp(len), bytes(limits), || clock.now()).map_err(|wait| Exceeded {
            limit: format!("more than {} bytes per second", limits.max_bytes_per_second),
            wait,
            is_shared: false,
        })
    }

    /// Counts a transient frame. Returns whether it is within its rate. A frame beyond the rate gets no answer, and
    /// counts as a frame that is not a message.
    pub(super) fn check_transient(&mut self) -> Result<bool, LeaveReason> {
        let Context { config, clock, counters, .. } = &*self.context;
        let limits = &config.rate_limits;
        if self.transients.take(1, transients(limits), || clock.now()).is_ok() {
            return Ok(true);
        }
        let rate = others(limits, self.context.heartbeat_of(self.subprotocol));
        match self.others.take(1, rate, || clock.now()) {
            Ok(()) => counters.rate_limited.add(1),
            Err(_) => self.add_violations(1)?,
        }
        Ok(false)
    }

    /// Notes that the server has kept the client waiting. Frames that the client sent meanwhile are then read faster
    /// than they were sent.
    pub(super) fn keep_waiting(&mut self) {
        self.catching_up = Some(self.context.clock.now().as_secs() as u8);
    }

    /// Whether a message beyond a rate should wait instead of being refused: the client may have sent it within the
    /// rate.
    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some()
    }

    /// A frame was within all of its rates.
    pub(super) fn forgive(&mut self) {
        self.violations = self.violations.saturating_sub(1);
    }

    /// Counts frames that are not messages. They get no answer.
    pub(super) fn check_others(&mut self, n: u32) -> Result<(), LeaveReason> {
        let Context { config, clock, .. } = &*self.context;
        let rate = others(&config.rate_limits, self.context.heartbeat_of(self.subprotocol));
        match self.others.take_most(n, rate, || clock.now()) {
            0 => Ok(()),
            exceeding => self.add_violations(exceeding),
        }
    }

    /// Counts an enter.
    pub(super) fn check_enter(&mut self) -> Result<(), Exceeded> {
        let Context { config, clock, .. } = &*self.context;
        let limits = &config.rate_limits;
        self.enters.take(1, enters(limits), || clock.now()).map_err(|wait| Exceeded {
            limit: format!("more than {} enters per minute", limits.max_enters_per_minute),
            wait,
            is_shared: false,
        })
    }

    /// Counts a token that is to be checked.
    pub(super) fn check_auth(&mut self) -> Result<(), Exceeded> {
        let Context { config, clock, .. } = &*self.context;
        let limits = &config.rate_limits;
        self.auths.take(1, auths(limits), || clock.now()).map_err(|wait| Exceeded {
            limit: format!("more than {} tokens per minute", limits.max_auths_per_minute),
            wait,
            is_shared: false,
        })
    }

    /// Counts a room that is about to be opened.
    pub(super) fn check_new_room(&mut self) -> Result<(), Exceeded> {
        let Context { config, clock, .. } = &*self.context;
        let limits = &config.rate_limits;
        self.rooms.take(1, rooms(limits), || clock.now()).map_err(|wait| Exceeded {
            limit: format!(
                "more than {} new rooms per minute; enter an existing one, or wait",
                limits.max_new_rooms_per_minute
            ),
            wait,
            is_shared: false,
        })
    }

    /// Counts a frame beyond a rate that the connection shares with others. This is not its fault: its own rates limit how
    /// often it can try again.
    pub(super) fn add_shared_violation(&self) {
        self.context.counters.rate_limited.add(1);
    }

    /// Counts frames beyond a rate. Returns an error if the client continues regardless and is to be closed.
    pub(super) fn add_violations(&mut self, n: u32) -> Result<(), LeaveReason> {
        self.context.counters.rate_limited.add(n.into());
        self.violations = self.violations.saturating_add(n);
        let max = self.context.config.rate_limits.max_rate_violations;
        if self.violations < max { Ok(()) } else { Err(LeaveReason::Flooded) }
    }
}

fn messages(limits: &RateLimits) -> Rate {
    Rate::per_second(limits.max_messages_per_second)
}

fn transients(limits: &RateLimits) -> Rate {
    Rate::per_second(limits.max_transient_per_second)
}

fn bytes(limits: &RateLimits) -> Rate {
    // More than 4 GB per second is no limit.
    Rate::per_second(clamp(limits.max_bytes_per_second))
}

/// The same rate as for messages, plus two for each heartbeat, which the client has to answer.
fn others(limits: &RateLimits, heartbeat: &Heartbeat) -> Rate {
    let beats = 1_000_u128.div_ceil(heartbeat.interval().as_millis().max(1)) as u32;
    Rate::per_second(limits.max_messages_per_second.saturating_add(2 * beats))
}

fn enters(limits: &RateLimits) -> Rate {
    Rate::per_minute(limits.max_enters_per_minute)
}

fn auths(limits: &RateLimits) -> Rate {
    Rate::per_minute(limits.max_auths_per_minute)
}

fn rooms(limits: &RateLimits) -> Rate {
    Rate::per_minute(limits.max_new_rooms_per_minute)
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
