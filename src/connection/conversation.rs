//! The state of one connection's conversation, and what all its parts need.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use crate::connection::Opening;
use crate::connection::lifetime::Lifetime;
use crate::connection::reader::Inbox;
use crate::connection::seat::Seat;
use crate::connection::spending::Spending;
use crate::connection::stay::Stay;
use crate::connection::sweep;
use crate::engine::engine::{Engine, Permit};
use crate::engine::recipient::Recipient;
use crate::engine::standing::Standing;
use crate::hooks::guard::{self, NoAnswer, Panicked};
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::PeerError;
use crate::protocol::resume::Secret;
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound};

/// The task's own state. Its stay ends with it, on every way out.
pub(crate) struct Conversation<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    pub(super) engine: Arc<Engine>,
    pub(super) stay: Stay,
    pub(super) seat: Arc<Seat<IO>>,
    pub(super) inbox: Inbox,
    pub(super) wire: Wire,
    /// Nothing is done for the client before he has authenticated.
    pub(super) auth_first: bool,
    /// Malformed frames in a row.
    pub(super) bad_frames: u32,
    /// Failed authentications, all of them.
    failed_auths: u32,
    /// Boxed, for tasks come in sizes of 128 bytes.
    pub(super) spending: Box<Spending>,
    /// When the host lets the connection last no longer.
    expires: Option<Box<Instant>>,
    /// The time to authenticate, then to enter, then to go.
    pub(super) deadline: Option<Deadline>,
    /// The user's time, where it has an end.
    pub(super) lifetime: Option<Box<Lifetime>>,
    /// The last to be dropped: a shutdown waits for it, and so for the end of the stay.
    permit: Permit,
}

pub(super) struct Deadline {
    pub(super) at: Pin<Box<Sleep>>,
    pub(super) reason: LeaveReason,
}

/// The connection has to end.
pub(super) struct End(pub(super) LeaveReason);

impl From<Panicked> for End {
    fn from(_: Panicked) -> End {
        End(LeaveReason::HookFailed)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    pub(crate) fn open(engine: Arc<Engine>, io: IO, opening: Opening) -> Conversation<IO> {
        engine.keep_runtime();
        let (user, auth_first) = opening.admission.into_parts();
        let id = engine.table.new_id();
        let mut standing = Standing::new(id, opening.peer, user.map(Arc::new));
        let mut welcome = None;
        if opening.wire == Wire::V1 {
            let recovery = &engine.config.recovery;
            standing.secret = (!recovery.resume_window.is_zero()).then(Secret::new).flatten();
            welcome = Some(outbound::welcome(
                id,
                standing.secret,
                &engine.config.heartbeat,
                &engine.config.limits,
                recovery,
            ));
        }
        let seat = Arc::new(Seat::new(engine.clone(), io, opening.first, opening.wire));
        seat.greet(welcome.as_deref());
        let stay = Stay::begin(engine.clone(), standing, seat.clone());
        engine.counters.accepted.add(1);
        sweep::ensure(&engine);
        if engine.is_closing() {
            // The order to close may have been given before this one could hear it.
            seat.close(LeaveReason::Shutdown);
        }
        let mut conversation = Conversation {
            stay,
            seat,
            inbox: Inbox::default(),
            wire: opening.wire,
            auth_first,
            bad_frames: 0,
            failed_auths: 0,
            spending: Box::new(Spending::new(&engine)),
            expires: expiry(id, engine.config.timeouts.max_lifetime).map(Box::new),
            deadline: None,
            lifetime: None,
            permit: opening.permit,
            engine,
        };
        conversation.start_lifetime();
        conversation.start_deadline();
        tracing::debug!(connection = %id, "connection open");
        conversation
    }

    /// Waits for an async hook. `None` if it is too late.
    pub(super) async fn ask<T>(
        &mut self,
        hook: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, End> {
        let limit = self.engine.config.timeouts.hook_timeout;
        match self.watch(guard::answer(hook, limit, future)).await? {
            Ok(value) => Ok(Some(value)),
            Err(NoAnswer::TooLate) => Ok(None),
            Err(NoAnswer::Panicked) => Err(End(LeaveReason::HookFailed)),
        }
    }

    /// Waits for something; meanwhile the connection is read, written and watched.
    pub(super) async fn watch<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        let mut future = pin!(future);
        let (seat, inbox) = (&self.seat, &mut self.inbox);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            match seat.poll_ahead(cx, inbox) {
                Some(reason) => Poll::Ready(Err(End(reason))),
                None => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn no_auth(&self, reason: &str) {
        self.engine.counters.errors.add(1);
        self.seat.send(frame::text(outbound::no_auth(reason).as_bytes()));
    }

    /// Tells the client what was wrong.
    pub(super) fn refuse(&mut self, error: PeerError) -> Result<(), End> {
        self.refuse_message(error, None)
    }

    /// The same for a message, by its id if it has one.
    pub(super) fn refuse_message(&mut self, error: PeerError, cid: Option<&str>) -> Result<(), End> {
        self.engine.counters.errors.add(1);
        let text = outbound::error(error.code.as_str(), &error.text, cid, None);
        self.seat.send(frame::text(text.as_bytes()));
        if error.code.is_malformed() { self.count_bad_frame() } else { Ok(()) }
    }

    pub(super) fn count_bad_frame(&mut self) -> Result<(), End> {
        self.bad_frames += 1;
        if self.bad_frames >= self.engine.config.limits.max_bad_frames {
            return Err(End(LeaveReason::Misbehaved));
        }
        Ok(())
    }

    /// Guessing is not to be made up for by anything, for what is guessed opens doors.
    pub(super) fn count_failed_auth(&mut self) -> Result<(), End> {
        self.failed_auths += 1;
        if self.failed_auths >= self.engine.config.limits.max_failed_auths {
            self.engine.counters.auth_failed.add(1);
            return Err(End(LeaveReason::AuthFailed));
        }
        Ok(())
    }

    /// The user's time runs from now on.
    pub(super) fn start_lifetime(&mut self) {
        let warning = match self.wire {
            Wire::Plain => Duration::ZERO,
            Wire::V1 => self.engine.config.timeouts.token_warning,
        };
        let expiry = self.stay.standing.user.as_ref().and_then(|user| user.expiry());
        self.lifetime = expiry.and_then(|expiry| Lifetime::begin(expiry, warning)).map(Box::new);
    }

    /// The client has a room: no time to enter runs for him, and his place among the newcomers is
    /// free.
    pub(super) fn settle(&mut self) {
        self.start_deadline();
        self.permit.settle();
    }

    pub(super) fn start_deadline(&mut self) {
        let timeouts = &self.engine.config.timeouts;
        let (limit, reason) = match (self.auth_first, &self.stay.standing.membership) {
            (true, _) => (timeouts.auth_timeout, LeaveReason::NeverAuthenticated),
            (false, None) => (timeouts.enter_timeout, LeaveReason::NeverEntered),
            (false, Some(_)) => (Duration::MAX, LeaveReason::NeverEntered),
        };
        let at = (limit < Duration::MAX).then(|| Instant::now().checked_add(limit)).flatten();
        let next = match (at, self.expires.as_deref().copied()) {
            (Some(at), Some(expires)) if at < expires => Some((at, reason)),
            (Some(at), None) => Some((at, reason)),
            (_, expires) => expires.map(|at| (at, LeaveReason::LifetimeOver)),
        };
        self.deadline =
            next.map(|(at, reason)| Deadline { at: Box::pin(tokio::time::sleep_until(at)), reason });
    }
}

/// When the connection's lifetime ends: up to a tenth before the limit, so that connections that came
/// together do not end together.
fn expiry(id: ConnectionId, max_lifetime: Duration) -> Option<Instant> {
    if max_lifetime == Duration::MAX {
        return None;
    }
    // The golden ratio spreads consecutive numbers evenly. Integers only: a float would round the longest
    // lifetimes up, out of range.
    let spread = (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32;
    let early = max_lifetime / (10 << 16) * spread;
    Instant::now().checked_add(max_lifetime - early)
}
