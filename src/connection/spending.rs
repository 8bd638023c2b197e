//! What a client has spent of what it may: messages, bytes, enters, new rooms.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::RateLimits;
use crate::connection::conversation::{Conversation, End};
use crate::connection::rate::{Purse, Rate};
use crate::engine::engine::Engine;
use crate::engine::recipient::Recipient;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::inbound::{Inbound, Say};
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound, resume};

/// The purses of one connection.
#[derive(Debug)]
pub(super) struct Spending {
    messages: Purse,
    bytes: Purse,
    /// Answers to heartbeats, pings, pongs, parts of messages.
    others: Purse,
    enters: Purse,
    rooms: Purse,
    /// Frames beyond the rates, less those since that were within.
    excess: u32,
}

/// Something was beyond its rate.
#[derive(Debug)]
pub(super) struct TooMuch {
    limit: String,
    wait: Duration,
}

impl Spending {
    pub(super) fn new(engine: &Engine) -> Spending {
        let (limits, now) = (&engine.config.rate_limits, engine.age());
        Spending {
            messages: Purse::new(messages(limits), now),
            bytes: Purse::new(bytes(limits), now),
            others: Purse::new(others(engine), now),
            enters: Purse::new(enters(limits), now),
            rooms: Purse::new(rooms(limits), now),
            excess: 0,
        }
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
fn others(engine: &Engine) -> Rate {
    let beats = 1_000_u128.div_ceil(engine.config.heartbeat.interval().as_millis().max(1)) as u32;
    Rate::per_second(engine.config.rate_limits.max_messages_per_second.saturating_add(2 * beats))
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

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    /// Pays for a message of so many bytes.
    pub(super) fn pay_message(&mut self, len: usize) -> Result<(), TooMuch> {
        let (engine, spending) = (&self.engine, &mut self.spending);
        let limits = &engine.config.rate_limits;
        spending.messages.take(1, messages(limits), || engine.age()).map_err(|wait| TooMuch {
            limit: format!("more than {} messages per second", limits.max_messages_per_second),
            wait,
        })?;
        spending.bytes.take(clamp(len), bytes(limits), || engine.age()).map_err(|wait| TooMuch {
            limit: format!("more than {} bytes per second", limits.max_bytes_per_second),
            wait,
        })?;
        spending.excess = spending.excess.saturating_sub(1);
        Ok(())
    }

    /// Pays for so many frames that are no messages, and to which there is nothing to say.
    pub(super) fn pay_others(&mut self, n: u32) -> Result<(), End> {
        let (engine, spending) = (&self.engine, &mut self.spending);
        let excess = spending.others.take_most(n, others(engine), || engine.age());
        self.count_excess(excess)
    }

    /// Pays for an enter.
    pub(super) fn pay_enter(&mut self) -> Result<(), TooMuch> {
        let (engine, spending) = (&self.engine, &mut self.spending);
        let limits = &engine.config.rate_limits;
        spending.enters.take(1, enters(limits), || engine.age()).map_err(|wait| TooMuch {
            limit: format!("more than {} enters per minute", limits.max_enters_per_minute),
            wait,
        })
    }

    /// Pays for a room that is about to be opened.
    pub(super) fn pay_room(&mut self) -> Result<(), TooMuch> {
        let (engine, spending) = (&self.engine, &mut self.spending);
        let limits = &engine.config.rate_limits;
        spending.rooms.take(1, rooms(limits), || engine.age()).map_err(|wait| TooMuch {
            limit: format!(
                "more than {} new rooms per minute; enter one that exists, or wait",
                limits.max_new_rooms_per_minute
            ),
            wait,
        })
    }

    /// A message was beyond its rate.
    pub(super) fn drop_excess(&mut self, inbound: Inbound<'_>, too_much: TooMuch) -> Result<(), End> {
        match inbound {
            Inbound::Say(Say { cid: Some(cid), .. }) if self.wire == Wire::V1 => {
                self.refuse_excess(too_much, resume::cid(cid).ok().as_deref())
            }
            _ => self.refuse_excess(too_much, None),
        }
    }

    /// Tells the client that something was dropped, and when it may try again.
    pub(super) fn refuse_excess(&mut self, too_much: TooMuch, cid: Option<&str>) -> Result<(), End> {
        let TooMuch { limit, wait } = too_much;
        // Whole milliseconds, and none too few.
        let millis = wait.as_micros().div_ceil(1000);
        let text = format!("{limit}; try again in {millis} ms");
        self.engine.counters.errors.add(1);
        let retry = (self.wire == Wire::V1).then_some(millis as u64);
        let text = outbound::error(ErrorCode::RateLimited.as_str(), &text, cid, retry);
        self.seat.send(frame::text(text.as_bytes()));
        self.count_excess(1)
    }

    /// Who goes on regardless is closed.
    fn count_excess(&mut self, n: u32) -> Result<(), End> {
        if n == 0 {
            return Ok(());
        }
        self.engine.counters.rate_limited.add(n.into());
        self.spending.excess = self.spending.excess.saturating_add(n);
        if self.spending.excess >= self.engine.config.rate_limits.max_rate_violations {
            return Err(End(LeaveReason::Flooded));
        }
        Ok(())
    }
}
