//! The deadlines by which a client has to authenticate, to enter a room, and to reconnect.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;

/// One timer for whichever comes first. Boxed, because most connections have none.
pub(super) struct Deadline {
    /// When the connection reaches its maximum lifetime.
    end_of_life: Option<Box<Instant>>,
    timer: Option<Box<Timer>>,
}

struct Timer {
    at: Pin<Box<Sleep>>,
    reason: LeaveReason,
}

impl Deadline {
    pub(super) fn new(id: ConnectionId, max_lifetime: Duration) -> Deadline {
        let end_of_life = end_of_life(id, max_lifetime);
        Deadline { end_of_life: end_of_life.map(Box::new), timer: None }
    }

    /// Starts the time for something; `None` if the client has done everything.
    pub(super) fn start(&mut self, limit: Option<(Duration, LeaveReason)>) {
        let step = limit
            .filter(|(limit, _)| *limit < Duration::MAX)
            .and_then(|(limit, reason)| Some((Instant::now().checked_add(limit)?, reason)));
        let end = self.end_of_life.as_deref().map(|at| (*at, LeaveReason::LifetimeOver));
        let next = step.into_iter().chain(end).min_by_key(|(at, _)| *at);
        self.timer = next.map(|(at, reason)| Box::new(Timer { at: Box::pin(sleep_until(at)), reason }));
    }

    /// Adds this time, unless it is the maximum lifetime that ends next.
    pub(super) fn extend(&mut self, by: Duration) {
        if let Some(Timer { at, reason }) = self.timer.as_deref()
            && *reason != LeaveReason::LifetimeOver
        {
            let left = at.deadline().saturating_duration_since(Instant::now());
            self.start(Some((left.saturating_add(by), *reason)));
        }
    }

    /// Leaves at least this much time to enter a room.
    pub(super) fn leave_time_to_enter(&mut self, time: Duration) {
        if let Some(Timer { at, reason: reason @ LeaveReason::NeverEntered }) = self.timer.as_deref()
            && at.deadline().saturating_duration_since(Instant::now()) < time
        {
            self.start(Some((time, *reason)));
        }
    }

    /// Ready with the reason when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LeaveReason> {
        match &mut self.timer {
            Some(timer) => timer.at.as_mut().poll(cx).map(|()| timer.reason),
            None => Poll::Pending,
        }
    }
}

/// Up to a tenth before the limit, so that connections that opened together don't end together.
fn end_of_life(id: ConnectionId, max_lifetime: Duration) -> Option<Instant> {
    if max_lifetime == Duration::MAX {
        return None;
    }
    // The golden ratio spreads consecutive numbers evenly.
    let early = (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let early = (max_lifetime / 10).checked_mul(early >> 16)? / (1 << 16);
    Instant::now().checked_add(max_lifetime - early)
}
