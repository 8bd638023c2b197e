//! One room of a connection: when it is entered, and what happens if it can't be.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::backoff::{Backoff, Retry};
use super::context::Context;
use super::outputs::{Output, Outputs};
use super::presence::RoomPresence;
use super::refusal::Refusal;
use super::room_log::{FramesMissing, RoomLog};
use super::{Now, RoomKey, RoomSettings, RoomStatus};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::incoming::Entered;
use crate::retry_hint::RetryHint;

#[derive(Debug)]
pub(super) struct Room {
    key: RoomKey,
    settings: RoomSettings,
    state: State,
    limits: JoinLimits,
    log: RoomLog,
    /// The client was in the room on this connection.
    was_in: bool,
    /// An enter is not answered yet.
    is_entering: bool,
    /// When to enter again, after a temporary refusal.
    enter_at: Option<Now>,
    backoff: Backoff,
    /// The member may not send messages.
    is_read_only: bool,
    /// The other members do not see the member.
    is_hidden: bool,
}

/// If the server says when to enter again, the client adds a random time up to this, or up to half of the wait if that is
/// longer, no matter how often the server has said so.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// What the application was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: the room was not entered yet.
    Joining,
    Online,
    Outside,
    Reconnecting,
}

/// When a room is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinLimits {
    /// When it must have been entered for the first time.
    pub(super) join_by: Now,
    /// Failed attempts in a row.
    pub(super) max_attempts: u32,
}

/// What the connection has to do after something has happened in a room.
#[derive(Debug, PartialEq)]
#[must_use]
pub(super) enum Outcome {
    Nothing,
    /// Frames are missing that the server should have sent. They can be had on another connection.
    IsBroken,
    /// The room is to be closed for good.
    IsOver(ClientError),
}

impl Room {
    /// `backoff` is that of the connection.
    pub(super) fn new(key: RoomKey, settings: RoomSettings, limits: JoinLimits, backoff: Backoff) -> Room {
        let presence = RoomPresence::new(key, settings.roster, settings.state.clone());
        Room {
            key,
            settings,
            state: State::Joining,
            limits,
            log: RoomLog::new(key, presence),
            was_in: false,
            is_entering: false,
            enter_at: None,
            backoff,
            is_read_only: false,
            is_hidden: false,
        }
    }

    pub(super) fn key(&self) -> RoomKey {
        self.key
    }

    pub(super) fn id(&self) -> &str {
        &self.settings.id
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn room_status(&self) -> RoomStatus {
        RoomStatus {
            position: self.log.position().cloned(),
            member: self.log.member().cloned(),
            presence: self.presence().snapshot().clone(),
            is_read_only: self.is_read_only,
            is_hidden: self.is_hidden,
        }
    }

    pub(super) fn presence(&self) -> &RoomPresence {
        self.log.presence()
    }

    pub(super) fn presence_mut(&mut self) -> &mut RoomPresence {
        self.log.presence_mut()
    }

    pub(super) fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Whether the client is in the room, on this connection.
    pub(super) fn is_in(&self) -> bool {
        self.log.is_in()
    }

    /// Whether the client was in the room, on this connection.
    pub(super) fn was_in(&self) -> bool {
        self.was_in
    }

    pub(super) fn is_entering(&self) -> bool {
        self.is_entering
    }

    /// When it must have been entered for the first time.
    pub(super) fn join_deadline(&self) -> Option<Now> {
        (self.state == State::Joining).then_some(self.limits.join_by)
    }

    /// When it is to be entered again.
    pub(super) fn enter_deadline(&self) -> Option<Now> {
        self.enter_at
    }

    /// It is to be entered at this time, or not until something happens.
    pub(super) fn enter_at(&mut self, at: Option<Now>) {
        self.enter_at = at;
    }

    /// Whether the application must have been told by this time that the room was entered.
    pub(super) fn must_be_in_by(&self, at: Now) -> bool {
        self.state == State::Joining && at >= self.limits.join_by
    }

    /// The error of a room that is given up.
    pub(super) fn gave_up(&self, last: ClientError) -> ClientError {
        ClientError::GaveUp { attempts: self.backoff.failures(), last: last.into() }
    }

    /// Returns the frame that enters the room.
    pub(super) fn enter(&mut self) -> Value {
        self.enter_at = None;
        self.is_entering = true;
        let RoomSettings { id, name, history, .. } = &self.settings;
        let mut frame = json!({"event": "enter", "message": name, "roomId": id});
        if let Some(position) = self.log.position() {
            frame["since"] = json!({"epoch": position.epoch(), "seq": position.seq()});
            if let Some(id) = self.log.last_id() {
                frame["since"]["id"] = json!(id);
            }
        } else if *history > 0 {
            frame["last"] = json!(history);
        }
        if let Some(state) = self.log.presence_mut().state_to_enter() {
            frame["state"] = state.clone();
        }
        frame
    }

    pub(super) fn on_entered<T>(&mut self, entered: Entered, cx: &mut Context<T>) {
        self.is_entering = false;
        self.enter_at = None;
        self.was_in = true;
        self.is_read_only = entered.is_read_only;
        self.is_hidden = entered.is_hidden;
        if self.state != State::Online {
            self.backoff.succeed(cx.now);
            self.state = State::Online;
            cx.outputs.emit(self.key, ClientEvent::State(ClientState::Online));
        }
        self.log.enter(entered, cx);
    }

    /// The server has changed whether the member may send messages.
    pub(super) fn set_read_only<T>(&mut self, is_read_only: bool, cx: &mut Context<T>) {
        self.is_read_only = is_read_only;
        cx.outputs.emit(self.key, ClientEvent::ReadOnly(is_read_only));
    }

    pub(super) fn on_frame<T>(
        &mut self,
        seq: u64,
        object: Map<String, Value>,
        cx: &mut Context<T>,
    ) -> Outcome {
        self.log.on_frame(seq, object, cx).into()
    }

    /// Whether an earlier message is this client's own.
    pub(super) fn was_own(&self, message: &Map<String, Value>) -> bool {
        self.log.was_own(message)
    }

    pub(super) fn on_transient<T>(&mut self, object: Map<String, Value>, cx: &mut Context<T>) {
        self.log.on_transient(object, cx);
    }

    /// Whether frames from before the client was in the room are still to come.
    pub(super) fn is_replaying(&self) -> bool {
        self.log.is_replaying()
    }

    pub(super) fn on_unreadable<T>(&mut self, seq: Option<u64>, cx: &mut Context<T>) -> Outcome {
        self.log.on_unreadable(seq, cx).into()
    }

    /// Something that can't be read may be a frame of this room, or of another one.
    pub(super) fn note_unreadable(&mut self) {
        self.log.note_unreadable();
    }

    pub(super) fn on_lagged<T>(&mut self, missed: u64, cx: &mut Context<T>) {
        self.log.on_lagged(missed, cx);
    }

    /// Emits an event that no replay contains.
    pub(super) fn emit_unrecoverable<T>(&mut self, event: ClientEvent, cx: &mut Context<T>) {
        self.log.emit_unrecoverable(event, cx);
    }

    /// The application takes no events, and the queue is full. Returns `false` if this is known, or does not matter.
    pub(super) fn on_full(&mut self) -> bool {
        self.log.on_full()
    }

    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// The application takes events again. Returns whether the room has to be entered again for dropped frames.
    pub(super) fn on_capacity<T>(&mut self, cx: &mut Context<T>) -> bool {
        self.log.on_capacity(cx) && !self.is_entering
    }

    /// The server has not looked at the enter, because the client has to authenticate first.
    pub(super) fn on_enter_ignored(&mut self) {
        self.is_entering = false;
    }

    pub(super) fn on_enter_refused<T>(&mut self, refusal: Refusal, cx: &mut Context<T>) -> Outcome {
        self.is_entering = false;
        if self.is_in() {
            // It was for the frames that were dropped.
            if !refusal.is_temporary() {
                return Outcome::IsBroken;
            }
            self.enter_at = Some(cx.now.saturating_add(refusal.wait()));
            cx.outgoing.release(self.key.into());
            return Outcome::Nothing;
        }
        // On a reconnect, the room may be full because of the client's own lost connection: that is temporary as well.
        let passes_later = self.state != State::Joining && !refusal.is_permanent();
        if refusal.is_temporary() || passes_later {
            self.try_again_later(refusal, cx)
        } else if self.was_in {
            self.wait_outside(refusal.error(), None, cx);
            Outcome::Nothing
        } else {
            Outcome::IsOver(refusal.error())
        }
    }

    /// The server has removed the client from the room, or has not let it come back.
    pub(super) fn on_removed<T>(&mut self, refusal: Refusal, cx: &mut Context<T>) -> Outcome {
        if !self.is_in() && !self.is_entering {
            return Outcome::Nothing;
        }
        // An enter that was sent before the removal is still going to be answered.
        self.is_entering &= self.is_in();
        if refusal.has_code("room_closed") {
            self.log.leave(cx);
            return Outcome::IsOver(refusal.error());
        }
        if refusal.is_temporary() {
            return self.try_again_later(refusal, cx);
        }
        self.wait_outside(refusal.error(), None, cx);
        Outcome::Nothing
    }

    /// The server does not know that the client is in the room.
    pub(super) fn on_not_entered<T>(&mut self, refusal: Refusal, cx: &mut Context<T>) -> Outcome {
        if self.is_in() { self.try_again_later(refusal, cx) } else { Outcome::Nothing }
    }

    /// The connection stays, but the client is out of the room until it enters again by itself.
    fn try_again_later<T>(&mut self, refusal: Refusal, cx: &mut Context<T>) -> Outcome {
        self.log.leave(cx);
        let (retry, longest) = match refusal.retry_after() {
            Some(wait) if !wait.is_zero() => (Retry::Hint(RetryHint::after(wait)), LONGEST_DELAY),
            _ => (Retry::Backoff, Duration::MAX),
        };
        let reason = refusal.error();
        if self.backoff.fail() >= self.limits.max_attempts {
            return Outcome::IsOver(self.gave_up(reason));
        }
        let wait = self.backoff.wait(retry, longest, cx.random.part(), cx.now);
        let at = cx.now.saturating_add(wait);
        if self.must_be_in_by(at) {
            return Outcome::IsOver(self.gave_up(reason));
        }
        self.enter_at = Some(at);
        self.become_outside(reason, Some(wait), cx);
        Outcome::Nothing
    }

    /// The server has not read the token that the client needs. It does after this time.
    pub(super) fn on_token_postponed<T>(
        &mut self,
        reason: &ClientError,
        wait: Duration,
        cx: &mut Context<T>,
    ) {
        self.backoff.fail();
        self.become_outside(reason.clone(), Some(wait), cx);
    }

    /// The connection stays, but the client is out of the room.
    pub(super) fn wait_outside<T>(
        &mut self,
        reason: ClientError,
        retry_in: Option<Duration>,
        cx: &mut Context<T>,
    ) {
        self.log.leave(cx);
        self.become_outside(reason, retry_in, cx);
    }

    fn become_outside<T>(&mut self, reason: ClientError, retry_in: Option<Duration>, cx: &mut Context<T>) {
        if self.state != State::Joining {
            self.state = State::Outside;
            cx.outputs.emit(self.key, ClientEvent::State(ClientState::Outside { reason, retry_in }));
        }
    }

    /// The connection has ended or could not be made.
    pub(super) fn on_lost<T>(&mut self, reason: &ClientError, cx: &mut Context<T>) -> Outcome {
        self.log.on_lost(cx);
        self.is_entering = false;
        self.enter_at = None;
        let was_in = std::mem::take(&mut self.was_in);
        if !was_in && self.backoff.fail() >= self.limits.max_attempts {
            return Outcome::IsOver(self.gave_up(reason.clone()));
        }
        Outcome::Nothing
    }

    /// The next attempt to connect is made after this time. `backoff` is that of the connection.
    pub(super) fn on_retry<T>(
        &mut self,
        reason: &ClientError,
        retry_in: Duration,
        backoff: &Backoff,
        cx: &mut Context<T>,
    ) -> Outcome {
        self.backoff.end_success(cx.now);
        self.backoff.raise_to(backoff);
        if self.must_be_in_by(cx.now.saturating_add(retry_in)) {
            return Outcome::IsOver(self.gave_up(reason.clone()));
        }
        if self.state != State::Joining {
            self.state = State::Reconnecting;
            let reason = reason.clone();
            cx.outputs.emit(self.key, ClientEvent::State(ClientState::Reconnecting { reason, retry_in }));
        }
        Outcome::Nothing
    }

    /// The connection is closed for good.
    pub(super) fn on_end<T>(&mut self, cx: &mut Context<T>) {
        self.log.on_lost(cx);
    }

    /// Tells the application that the room is closed for good.
    pub(super) fn close<T>(self, reason: ClientError, outputs: &mut Outputs<T>) {
        if self.state != State::Joining {
            outputs.emit(self.key, ClientEvent::State(ClientState::Closed { reason: reason.clone() }));
        }
        outputs.push(Output::Closed(self.key, reason));
    }
}

impl From<Result<(), FramesMissing>> for Outcome {
    fn from(result: Result<(), FramesMissing>) -> Outcome {
        match result {
            Ok(()) => Outcome::Nothing,
            Err(FramesMissing) => Outcome::IsBroken,
        }
    }
}
