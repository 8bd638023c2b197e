//! A connection's task: handles what the client sends, one frame after the other, until the connection ends.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admission::{Action, Permit};
use crate::config::Config;
use crate::connection::deadline::Deadline;
use crate::connection::end::End;
use crate::connection::faults::Faults;
use crate::connection::rate_limiter::{Exceeded, RateLimiter};
use crate::connection::token_expiry::{Step, TokenExpiry};
use crate::connection::{Opening, auth, frames, leave};
use crate::engine::Engine;
use crate::ids::RoomId;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::outbound::{About, WelcomeFrame};
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::session::{self, Attachment};
use crate::socket::{Inbox, Socket, Transport, Turn};
use crate::stats::HookTimes;

/// How long the end of a connection that the client closed during a stall is delayed, so that the connection that
/// the client has opened instead is in use before the client learns of the end.
const LATE_CLOSE: Duration = Duration::from_millis(250);

/// A client may publish again after this time if the broker could not be reached.
const RETRY_AFTER_MILLIS: u64 = 1000;

/// The task's own state.
pub(super) struct Connection {
    engine: Arc<Engine>,
    attachment: Attachment,
    inbox: Inbox,
    subprotocol: Subprotocol,
    /// Nothing is done for the client before it has authenticated.
    pending_auth: bool,
    faults: Faults,
    /// Boxed, because the sizes of tasks are multiples of 128 bytes.
    rates: Box<RateLimiter>,
    deadline: Deadline,
    /// Present if the user's authentication expires.
    token_expiry: Option<Box<TokenExpiry>>,
    /// Dropped last: a shutdown waits for it, and so for the end of the session.
    permit: Permit,
}

/// What comes next.
enum Event {
    Turn(Turn),
    /// The user's authentication expires after this time.
    Expiring(Duration),
    Expired,
    /// The client has not entered its rooms again in time.
    NotBack,
}

impl Connection {
    pub(super) fn open(engine: Arc<Engine>, io: Transport, opening: Opening) -> Connection {
        let Opening { permit, admission, peer, subprotocol, first, max_write } = opening;
        let (user, pending_auth) = admission.into_parts();
        let (context, id) = (engine.context.clone(), engine.sessions.table().new_id());
        let config = engine.config();
        let is_v1 = subprotocol == Subprotocol::V1;
        let keeps_sessions = is_v1 && !config.recovery.resume_window.is_zero();
        let token = keeps_sessions.then(ResumeToken::new).flatten();
        let mut socket = Box::new(Socket::new(io, max_write, context, subprotocol, first));
        // A client that replaces a connection may learn of the old one's end only now. The tutorial's page then closes
        // the new one, and reconnects only if it has had a heartbeat. So a heartbeat is sent first.
        if is_v1 {
            // In one write, because a heartbeat would overtake a welcome that has to wait.
            let mut both = Vec::new();
            let welcome = WelcomeFrame { connection: id, token, config, is_fresh: permit.is_fresh() };
            for text in [&*welcome.encode(), outbound::PING] {
                frame::push_text(&mut both, &[text.as_bytes()]);
            }
            socket.send(None, &both.into());
        } else {
            socket.send_heartbeat();
        }
        let user = user.map(Arc::new);
        let opening = session::Opening { id, subprotocol, socket, token, peer, user };
        let attachment = Attachment::begin(engine.sessions.clone(), opening);
        engine.start(subprotocol);
        engine.context.counters.accepted.add(1);
        if engine.admission.is_over() {
            // The drain or the shutdown may have looked for connections before this one could be found.
            attachment.close(LeaveReason::Shutdown);
        }
        let mut connection = Connection {
            attachment,
            inbox: Inbox::default(),
            subprotocol,
            pending_auth,
            faults: Faults::default(),
            rates: Box::new(RateLimiter::new(engine.context.clone(), subprotocol, permit.is_fresh())),
            deadline: Deadline::new(id, engine.config().timeouts.max_lifetime),
            token_expiry: None,
            permit,
            engine,
        };
        connection.restart_token_expiry();
        connection.restart_deadline();
        tracing::debug!(connection = %id, "connection open");
        connection
    }

    /// Runs the connection until it ends.
    ///
    /// Not an async fn: its future would have room for the connection twice.
    pub(super) fn serve(self) -> impl Future<Output = ()> + Send + 'static {
        let mut connection = self;
        async move {
            let End(reason) = match connection.run().await {
                Ok(never) => match never {},
                Err(end) => end,
            };
            // Boxed for the same reason as the rest of a frame's work.
            Box::pin(connection.finish(reason)).await;
        }
    }

    async fn finish(self, reason: LeaveReason) {
        let Connection { engine, attachment, permit, .. } = self;
        // After a stall, the tutorial's page opens a new connection while the old one ends. It then closes the new
        // one, and reconnects only if it has had a heartbeat.
        let is_late = reason == LeaveReason::Closed && engine.has_stalled();
        let delay = if is_late { LATE_CLOSE } else { Duration::ZERO };
        let limit = engine.config().timeouts.close_timeout;
        let id = attachment.session().id();
        engine.finish(attachment.finish(reason, delay, limit)).await;
        tracing::debug!(connection = %id, %reason, code = reason.close_code(), "connection closed");
        drop(permit);
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn config(&self) -> &Config {
        self.engine.config()
    }

    pub(super) fn hook_times(&self) -> &HookTimes {
        &self.engine.context.counters.hooks
    }

    pub(super) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    pub(super) fn is_v1(&self) -> bool {
        self.subprotocol == Subprotocol::V1
    }

    /// Resumes the session that one of these tokens belongs to.
    pub(super) fn resume(&mut self, tokens: &[ResumeToken]) -> Result<bool, End> {
        let has_resumed = self.attachment.resume(tokens)?;
        if has_resumed {
            self.attachment.run_callbacks()?;
            let limit = (self.config().timeouts.enter_timeout, LeaveReason::NeverEntered);
            match self.attachment.is_inactive_anywhere() {
                true => {
                    self.deadline.start(Some(limit));
                    self.permit.set_entered();
                }
                false => self.restart_deadline(),
            }
            self.restart_token_expiry();
        }
        Ok(has_resumed)
    }

    /// Notes that the client has authenticated.
    pub(super) fn has_authenticated(&mut self) {
        self.restart_token_expiry();
        let was_pending = std::mem::take(&mut self.pending_auth);
        if was_pending || self.is_v1() {
            self.restart_deadline();
        }
    }

    /// Counts an enter or a new room for the client's address and user.
    pub(super) fn check_shared(&self, action: Action) -> Result<(), Exceeded> {
        let session = self.attachment.session();
        let (address, user) = (session.peer().map(|peer| peer.ip()), session.user());
        let user = user.as_ref().map(|user| user.id());
        self.engine.admission.take(address, user, action).map_err(|wait| Exceeded {
            limit: "too many requests from this address or user, over all connections".into(),
            wait,
            is_shared: true,
        })
    }

    pub(super) fn rates(&mut self) -> &mut RateLimiter {
        &mut self.rates
    }

    pub(super) fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Whether the client must authenticate before anything else.
    pub(super) fn is_auth_pending(&self) -> bool {
        self.pending_auth
    }

    pub(super) fn subprotocol(&self) -> Subprotocol {
        self.subprotocol
    }

    /// What is waited with: the session's socket, and what is read from it meanwhile.
    pub(super) fn socket_parts(&mut self) -> (&Attachment, &mut Inbox) {
        (&self.attachment, &mut self.inbox)
    }

    /// Called for each message. Returns when it was received, if its delivery is measured.
    pub(super) fn sample(&mut self) -> Option<Duration> {
        self.inbox.sample()
    }

    pub(super) fn send(&self, text: &str) {
        self.attachment.send(&frame::text(text.as_bytes()));
    }

    /// Tells the client that it has to authenticate, or why a token was refused.
    pub(super) fn send_no_auth(&self, reason: &str) {
        self.engine.context.counters.errors.add(1);
        self.send(&outbound::no_auth(reason));
    }

    /// Sends the client an error.
    pub(super) fn refuse(&mut self, error: PeerError, about: About<'_>) -> Result<(), End> {
        self.engine.context.counters.errors.add(1);
        self.send(&outbound::error(error.code.as_str(), &error.text, self.known(about), None));
        if error.code.is_malformed() {
            self.faults.add_bad_frame(&self.engine.config().limits)?;
        }
        Ok(())
    }

    /// Tells the client why its token was refused, and counts the failure.
    pub(super) fn refuse_token(&mut self, reason: &str) -> Result<(), End> {
        self.send_no_auth(reason);
        let address = self.attachment.session().peer().map(|peer| peer.ip());
        if self.engine.admission.take(address, None, Action::FailedAuth).is_err() {
            return Err(End(LeaveReason::AuthFailed));
        }
        Ok(self.faults.add_failed_auth(&self.engine.config().limits)?)
    }

    /// Tells the client that something was dropped, and when it may try again.
    pub(super) fn refuse_excess(&mut self, exceeded: Exceeded, about: About<'_>) -> Result<(), End> {
        // In whole milliseconds, rounded up.
        let millis = exceeded.wait.as_micros().div_ceil(1000);
        let text = format!("{}; try again in {millis} ms", exceeded.limit);
        self.engine.context.counters.errors.add(1);
        let retry = self.is_v1().then_some(millis as u64);
        self.send(&outbound::error(ErrorCode::RateLimited.as_str(), &text, self.known(about), retry));
        if exceeded.is_shared {
            // A client that waits as long as it was told must not be closed because it has not entered yet.
            let time = exceeded.wait.saturating_add(self.config().timeouts.enter_timeout);
            self.deadline.leave_time_to_enter(time);
            self.rates.add_shared_violation();
            return Ok(());
        }
        Ok(self.rates.add_violations(1)?)
    }

    /// Tells the client that its message was not published because of the broker or the store, and when it may try again.
    pub(super) fn refuse_unavailable(&mut self, about: About<'_>) -> Result<(), End> {
        self.send_unavailable("the message could not be published; try again", about)
    }

    /// Tells the client that the broker or the store has failed, and when it may try again.
    pub(super) fn send_unavailable(&mut self, text: &str, about: About<'_>) -> Result<(), End> {
        self.engine.context.counters.errors.add(1);
        self.engine.context.counters.unavailable.add(1);
        let retry = self.is_v1().then_some(RETRY_AFTER_MILLIS);
        self.send(&outbound::error(ErrorCode::Unavailable.as_str(), text, self.known(about), retry));
        Ok(())
    }

    /// Errors to plain clients do not say what they are about.
    fn known<'a>(&self, about: About<'a>) -> About<'a> {
        if self.is_v1() { about } else { About::Nothing }
    }

    /// Removes the client from a room, and tells it why.
    pub(super) fn remove(&self, room: &RoomId, reason: LeaveReason, error: &PeerError) -> Result<(), End> {
        let code = error.code.as_str();
        let text = match self.subprotocol {
            Subprotocol::Plain => outbound::error(code, &error.text, About::Nothing, None),
            Subprotocol::V1 => outbound::left(room.as_str(), Some((code, &error.text))),
        };
        self.engine.context.counters.errors.add(1);
        self.attachment.leave_room(room, reason, &frame::text(text.as_bytes()))?;
        Ok(self.attachment.run_callbacks()?)
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        self.attachment.run_callbacks()?;
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Event::Turn(Turn::Messages) => {}
                Event::Turn(Turn::End(reason)) => return Err(End(reason)),
                Event::Expiring(left) => self.send(&outbound::expiring(left)),
                Event::Expired => auth::expire(self)?,
                Event::NotBack => {
                    leave::leave_others(self)?;
                    self.restart_deadline();
                }
            }
            let others = std::mem::take(&mut self.inbox.others);
            if others > 0 {
                self.rates.check_others(others)?;
            }
            #[allow(clippy::while_let_loop, reason = "the task would have room for the text twice")]
            loop {
                let Some(text) = self.inbox.texts.pop_front() else { break };
                let Some(rest) = frames::handle(self, text.as_str())? else { continue };
                rest.await?;
                // The deadlines are looked at before the next frame.
                break;
            }
            // While idle, keep memory for one message only, not for a burst.
            if self.inbox.texts.is_empty() && self.inbox.texts.capacity() > 1 {
                self.inbox.texts = VecDeque::with_capacity(1);
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // First, because a flood must not postpone it.
        if let Poll::Ready(reason) = self.deadline.poll(cx) {
            let is_in_a_room = reason == LeaveReason::NeverEntered && self.attachment.is_in_a_room();
            return Poll::Ready(if is_in_a_room { Event::NotBack } else { Event::Turn(Turn::End(reason)) });
        }
        if let Some(expiry) = &mut self.token_expiry
            && let Poll::Ready(step) = expiry.poll(cx)
        {
            return Poll::Ready(match step {
                Step::Warn(left) => Event::Expiring(left),
                Step::Expire => Event::Expired,
            });
        }
        self.attachment.poll_turn(cx, &mut self.inbox).map(Event::Turn)
    }

    /// Ends the connection if the user's authentication has expired, or the connection has reached its maximum lifetime,
    /// while a frame has to wait.
    pub(super) async fn check_time(&mut self) -> Result<(), End> {
        let deadline = poll_fn(|cx| Poll::Ready(self.deadline.poll(cx))).await;
        if deadline == Poll::Ready(LeaveReason::LifetimeOver) {
            return Err(End(LeaveReason::LifetimeOver));
        }
        let Some(expiry) = &mut self.token_expiry else { return Ok(()) };
        match poll_fn(|cx| Poll::Ready(expiry.poll(cx))).await {
            Poll::Pending => {}
            Poll::Ready(Step::Warn(left)) => self.send(&outbound::expiring(left)),
            Poll::Ready(Step::Expire) => {
                self.send_no_auth("the token has expired; get a new one");
                return Err(End(LeaveReason::AuthExpired));
            }
        }
        Ok(())
    }

    /// The user's authentication has expired, and the client has to send a new token.
    pub(super) fn require_auth(&mut self) {
        self.token_expiry = None;
        self.pending_auth = true;
        self.restart_deadline();
    }

    fn restart_token_expiry(&mut self) {
        let warning = if self.is_v1() { self.config().timeouts.token_warning } else { Duration::ZERO };
        let expiry = self.attachment.session().user().and_then(|user| user.expiry());
        self.token_expiry = expiry.and_then(|expiry| TokenExpiry::begin(expiry, warning)).map(Box::new);
    }

    /// Notes that the client was kept waiting for this long, which does not count against its deadline.
    pub(super) fn has_waited(&mut self, time: Duration) {
        self.deadline.extend(time);
    }

    /// Restarts the deadline for authenticating or, after that, for entering. A `chat-rooms.v1` client that has
    /// authenticated has no deadline for entering, because the host can reach its user without a room. A connection
    /// without a deadline does not count as pending.
    pub(super) fn restart_deadline(&mut self) {
        let timeouts = &self.engine.config().timeouts;
        let is_user = || self.is_v1() && self.attachment.session().user().is_some();
        let limit = match self.pending_auth {
            true => Some((timeouts.auth_timeout, LeaveReason::NeverAuthenticated)),
            // Its time to enter its rooms again is running, and starts with the resumption only.
            false if self.attachment.is_inactive_anywhere() => return,
            false if self.attachment.is_in_a_room() || is_user() => None,
            false => Some((timeouts.enter_timeout, LeaveReason::NeverEntered)),
        };
        self.deadline.start(limit);
        if limit.is_none() {
            self.permit.set_entered();
        }
    }
}
