//! What one connection says, and what comes of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::connection::Opening;
use crate::connection::seat::{Seat, Turn};
use crate::connection::sweep;
use crate::engine::engine::{Crowded, Engine, Membership, Newcomer, Permit, single};
use crate::engine::recipient::Recipient;
use crate::hooks::events::{Entered, Left, Message};
use crate::hooks::guard::{self, NoAnswer, Panicked};
use crate::hooks::policy::{EnterRequest, MessageRequest, Ruling};
use crate::hooks::user::User;
use crate::ids::{ConnectionId, IdError, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{Body, Enter, Inbound, RoomField};
use crate::protocol::outbound;

/// The task's own state. Its membership ends with it, on every way out.
pub(crate) struct Conversation<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    engine: Arc<Engine>,
    _permit: Permit,
    id: ConnectionId,
    peer: Option<SocketAddr>,
    seat: Arc<Seat<IO>>,
    inbox: VecDeque<Utf8Bytes>,
    user: Option<Arc<User>>,
    /// Nothing is done for the client before he has authenticated.
    auth_first: bool,
    membership: Option<Membership>,
    /// The host has been told of the membership, and must be told of its end.
    announced: bool,
    /// Malformed frames in a row.
    bad_frames: u32,
    /// The time to authenticate, then to enter.
    deadline: Option<Deadline>,
}

/// How long a connection that the client closed during a stall is kept, so that what it has
/// opened instead is in use before it hears of the end.
const LATE_CLOSE: Duration = Duration::from_millis(250);

struct Deadline {
    at: Pin<Box<Sleep>>,
    reason: LeaveReason,
}

/// The connection has to end.
struct End(LeaveReason);

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
        let seat = Arc::new(Seat::new(io, opening.first, &engine.limits));
        seat.greet();
        engine.table.insert(id, seat.clone());
        engine.counters.accepted.add(1);
        sweep::ensure(&engine);
        if engine.is_closing() {
            // The order to close may have been given before this one could hear it.
            seat.close(LeaveReason::Shutdown);
        }
        let mut conversation = Conversation {
            _permit: opening.permit,
            id,
            peer: opening.peer,
            seat,
            inbox: VecDeque::new(),
            user: user.map(Arc::new),
            auth_first,
            membership: None,
            announced: false,
            bad_frames: 0,
            deadline: None,
            engine,
        };
        conversation.start_deadline();
        tracing::debug!(connection = %id, "connection open");
        conversation
    }

    /// Leads the conversation to its end, and returns why it ends.
    pub(crate) async fn run(&mut self) -> LeaveReason {
        loop {
            if let Turn::End(reason) = self.turn().await {
                return reason;
            }
            while let Some(text) = self.inbox.pop_front() {
                if let Err(End(reason)) = self.on_text(text.as_str()).await {
                    return reason;
                }
            }
            // A burst's worth of memory is not kept while idle.
            if self.inbox.capacity() > 4 {
                self.inbox = VecDeque::new();
            }
        }
    }

    /// Leaves the room.
    pub(crate) fn end(&mut self, reason: LeaveReason) {
        match reason {
            LeaveReason::HeartbeatMissed => self.engine.counters.heartbeats_missed.add(1),
            LeaveReason::Slow => self.engine.counters.slow.add(1),
            _ => {}
        }
        self.leave(reason);
        self.deadline = None;
    }

    /// Closes the connection.
    pub(crate) async fn finish(&self, reason: LeaveReason) {
        if reason == LeaveReason::Closed && self.engine.has_stalled() {
            // After a stall the classic page's old connection ends while its new one opens. It
            // closes the new one then, and comes back only if that one has had a heartbeat.
            tokio::time::sleep(LATE_CLOSE).await;
        }
        // Boxed for the same reason as what is rare in `on_text`.
        Box::pin(self.seat.finish(reason, self.engine.limits.close_timeout)).await;
    }

    async fn turn(&mut self) -> Turn {
        let (seat, inbox, deadline) = (&self.seat, &mut self.inbox, &mut self.deadline);
        std::future::poll_fn(|cx| {
            // First, for a flood must not postpone it.
            if let Some(deadline) = deadline
                && deadline.at.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Turn::End(deadline.reason));
            }
            seat.poll_turn(cx, inbox)
        })
        .await
    }

    async fn on_text(&mut self, text: &str) -> Result<(), End> {
        let inbound = match Inbound::parse(text, self.engine.limits.max_depth) {
            Ok(inbound) => inbound,
            Err(e) => return self.refuse(e),
        };
        // Guessing tokens is no good behaviour, however well-formed.
        if !matches!(inbound, Inbound::Auth(_)) {
            self.bad_frames = 0;
        }
        match inbound {
            Inbound::Pong => Ok(()),
            // What is rare is boxed: every connection has room for the largest of its futures.
            Inbound::Auth(token) => Box::pin(self.on_auth(&token)).await,
            _ if self.auth_first => {
                self.no_auth("authenticate first: send {\"event\":\"auth\",\"message\":TOKEN}");
                Ok(())
            }
            Inbound::Enter(enter) => Box::pin(self.on_enter(enter)).await,
            Inbound::Say { event, body } => self.on_say(text, &event, body).await,
        }
    }

    async fn on_auth(&mut self, token: &str) -> Result<(), End> {
        let engine = self.engine.clone();
        let Some(auth) = &engine.hooks.auth else { return Ok(()) };
        match self.ask("in_band", async { auth.in_band(token).await }).await? {
            Some(Ok(user)) => {
                if self.user.as_ref().is_some_and(|old| old.id() != user.id()) {
                    self.no_auth("another user is authenticated on this connection; open a new one");
                    return Ok(());
                }
                self.user = Some(Arc::new(user));
                self.bad_frames = 0;
                if std::mem::take(&mut self.auth_first) {
                    self.start_deadline();
                }
                Ok(())
            }
            Some(Err(denied)) => {
                self.no_auth(denied.reason());
                self.count_bad_frame()
            }
            None => {
                self.no_auth("the token could not be checked; try again");
                Ok(())
            }
        }
    }

    async fn on_enter(&mut self, enter: Enter<'_>) -> Result<(), End> {
        let (name, room, body) = match self.check_enter(enter) {
            Ok(checked) => checked,
            Err(e) => return self.refuse(e),
        };
        if let Some(m) = &self.membership
            && m.name == name
            && m.room.id() == &room
        {
            self.engine.repeat(m, body.as_str(), &*self.seat);
            return Ok(());
        }
        let engine = self.engine.clone();
        if let Some(policy) = &engine.hooks.policy {
            let user = self.user.clone();
            let from = self.membership.as_ref().map(|m| m.room.id().clone());
            let request = EnterRequest {
                connection: self.id,
                peer: self.peer,
                user: user.as_deref(),
                name: &name,
                room: &room,
                from: from.as_ref(),
            };
            match self.ask("may_enter", async { policy.may_enter(&request).await }).await? {
                Some(Ok(())) => {}
                Some(Err(denied)) => {
                    return self.refuse(PeerError::new(ErrorCode::Denied, denied.into_reason()));
                }
                None => {
                    let text = "the room's policy gave no answer; try again";
                    return self.refuse(PeerError::new(ErrorCode::Internal, text));
                }
            }
        }
        self.enter(name, &room, &body)
    }

    /// Name and room within the limits; the user's own name counts more than the claimed one.
    fn check_enter<'a>(&self, enter: Enter<'a>) -> Result<(Name, RoomId, Body<'a>), PeerError> {
        let limits = &self.engine.limits;
        let bad_name = |why: &str| PeerError::new(ErrorCode::BadName, format!("the name {why}"));
        let claimed = enter.name.as_deref();
        let (name, body) = match self.user.as_ref().and_then(|u| u.name()) {
            Some(own) if claimed != Some(own) => (Some(own), enter.body.with_message(own)),
            own => (own.or(claimed), enter.body),
        };
        let name = name.ok_or_else(|| bad_name("must be a string, as \"message\""))?;
        let name = Name::parse(name, limits.max_name_bytes).map_err(|e: IdError| bad_name(&e.to_string()))?;
        let bad_room = |why: &str| PeerError::new(ErrorCode::BadRoomId, format!("the room id {why}"));
        let RoomField::Id(room) = enter.room else {
            return Err(bad_room("must be a string or a number, as \"roomId\""));
        };
        let room =
            RoomId::parse(&room, limits.max_room_id_bytes).map_err(|e: IdError| bad_room(&e.to_string()))?;
        Ok((name, room, body))
    }

    fn enter(&mut self, name: Name, room: &RoomId, body: &Body<'_>) -> Result<(), End> {
        let newcomer = Newcomer { id: self.id, name, user: self.user.clone(), link: self.seat.clone() };
        let entered = self.engine.enter(newcomer, room, body.as_str(), self.membership.as_ref());
        let (new, entry) = match entered {
            Ok(entered) => entered,
            Err(e) => return self.refuse(e),
        };
        self.deadline = None;
        let reason = match &self.membership {
            Some(old) if old.room.id() == room => LeaveReason::Renamed,
            _ => LeaveReason::Moved,
        };
        let (old, was_announced) = (self.membership.replace(new), std::mem::take(&mut self.announced));
        if let Some(old) = old
            && was_announced
        {
            self.tell_left(&old, reason, entry.left_online)?;
        }
        self.tell_entered(entry.online)
    }

    fn tell_entered(&mut self, online: usize) -> Result<(), End> {
        let (Some(events), Some(m)) = (&self.engine.hooks.events, &self.membership) else { return Ok(()) };
        // Even a callback that panics has been told.
        self.announced = true;
        let event = Entered {
            connection: self.id,
            peer: self.peer,
            room: m.room.id().clone(),
            name: m.name.clone(),
            user: self.user.clone(),
            online,
        };
        Ok(guard::call("entered", || events.entered(&event))?)
    }

    fn tell_left(&self, m: &Membership, reason: LeaveReason, online: usize) -> Result<(), Panicked> {
        let Some(events) = &self.engine.hooks.events else { return Ok(()) };
        let event = Left {
            connection: self.id,
            peer: self.peer,
            room: m.room.id().clone(),
            name: m.name.clone(),
            user: self.user.clone(),
            online,
            reason,
        };
        guard::call("left", || events.left(&event))
    }

    async fn on_say(&mut self, text: &str, event: &str, body: Body<'_>) -> Result<(), End> {
        let engine = self.engine.clone();
        let Some(m) = &self.membership else {
            let text = "enter a room first: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}";
            return self.refuse(PeerError::new(ErrorCode::NotEntered, text));
        };
        let mut replaced = None;
        if let Some(policy) = &engine.hooks.policy {
            let request = MessageRequest {
                connection: self.id,
                user: self.user.as_deref(),
                name: &m.name,
                room: m.room.id(),
                event,
                body: text,
            };
            match guard::call("may_send", || policy.may_send(&request))?.0 {
                Ruling::Allow => {}
                Ruling::Replace(text) => replaced = Some(text),
                Ruling::Drop => return Ok(()),
                Ruling::Refuse(denied) => {
                    return self.refuse(PeerError::new(ErrorCode::Denied, denied.into_reason()));
                }
            }
        }
        let body = match &replaced {
            Some(text) if engine.limits.is_too_big(text.len()) => None,
            Some(text) => Body::of_host_for_member(text),
            None => Some(body),
        };
        let Some(body) = body else {
            tracing::error!("the policy's replacement is no JSON object or too big; the message is dropped");
            return self.refuse(PeerError::new(ErrorCode::Internal, "the message could not be sent"));
        };
        // Whoever fills a room faster than it empties waits for its flusher.
        while engine.publish(m, body.as_str()) == Err(Crowded) {
            if !self.seat.keep_waiting() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        engine.counters.messages.add(1);
        if let Some(events) = &engine.hooks.events {
            let message = Message {
                connection: self.id,
                room: m.room.id(),
                name: &m.name,
                user: self.user.as_ref(),
                event,
                body: replaced.as_deref().unwrap_or(text),
            };
            guard::call("message", || events.message(&message))?;
        }
        Ok(())
    }

    /// Waits for an async hook; meanwhile the connection is read, written and watched.
    /// `None` if the hook is too late.
    async fn ask<T>(
        &mut self,
        hook: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, End> {
        let mut answer = pin!(guard::answer(hook, self.engine.limits.hook_timeout, future));
        let (seat, inbox) = (&self.seat, &mut self.inbox);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(match answer {
                    Ok(value) => Ok(Some(value)),
                    Err(NoAnswer::TooLate) => Ok(None),
                    Err(NoAnswer::Panicked) => Err(End(LeaveReason::HookFailed)),
                });
            }
            match seat.poll_ahead(cx, inbox) {
                Some(reason) => Poll::Ready(Err(End(reason))),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn no_auth(&self, reason: &str) {
        self.engine.counters.errors.add(1);
        self.seat.send(single(&outbound::no_auth(reason)));
    }

    /// Tells the client what was wrong.
    fn refuse(&mut self, error: PeerError) -> Result<(), End> {
        self.engine.counters.errors.add(1);
        self.seat.send(single(&outbound::error(error.code.as_str(), &error.text)));
        if error.code.is_malformed() { self.count_bad_frame() } else { Ok(()) }
    }

    fn count_bad_frame(&mut self) -> Result<(), End> {
        self.bad_frames += 1;
        if self.bad_frames >= self.engine.limits.max_bad_frames {
            return Err(End(LeaveReason::Misbehaved));
        }
        Ok(())
    }

    fn start_deadline(&mut self) {
        let limits = &self.engine.limits;
        let (limit, reason) = match (self.auth_first, &self.membership) {
            (true, _) => (limits.auth_timeout, LeaveReason::NeverAuthenticated),
            (false, None) => (limits.enter_timeout, LeaveReason::NeverEntered),
            (false, Some(_)) => (Duration::MAX, LeaveReason::NeverEntered),
        };
        self.deadline =
            (limit < Duration::MAX).then(|| Deadline { at: Box::pin(tokio::time::sleep(limit)), reason });
    }

    fn leave(&mut self, reason: LeaveReason) {
        self.engine.table.remove(self.id);
        let Some(m) = self.membership.take() else { return };
        let online = self.engine.leave(&m, self.id, &*self.seat);
        if std::mem::take(&mut self.announced) {
            // The connection is ending anyway.
            let _ = self.tell_left(&m, reason, online);
        }
        tracing::debug!(connection = %self.id, %reason, "left");
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for Conversation<IO> {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.leave(LeaveReason::Dropped)));
    }
}
