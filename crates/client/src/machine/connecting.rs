//! When a connection is made, lost and given up.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms_protocol::close::{self, may_reconnect};

use super::backoff::Retry;
use super::link::Link;
use super::questions::Question;
use super::{Failure, Machine, Now, Output, Owner};
use crate::error::ClientError;
use crate::event::ChatState;
use crate::outgoing::Recipient;
use crate::retry_hint::RetryHint;

/// The time over which clients spread if the server does not say when to reconnect.
const BREAK_SPREAD: Duration = Duration::from_secs(1);

impl<T> Machine<T> {
    pub(super) fn connect(&mut self) {
        let now = self.cx.now;
        self.link = Some(Link::new(now, self.attempts.begin(now)));
        self.cx.outputs.push(Output::Connect);
    }

    /// The WebSocket handshake is done. `token` is to be sent over the open connection.
    pub(crate) fn on_open(&mut self, now: Now, token: Option<&str>) {
        self.cx.now = now;
        let Some(link) = self.link.as_mut().filter(|link| !link.is_open()) else { return };
        link.open(now);
        self.expect_answer();
        if let Some(token) = token {
            self.send_token(token);
        }
    }

    /// The attempt to connect failed.
    pub(crate) fn on_failed(&mut self, now: Now, failure: Failure) {
        self.cx.now = now;
        if self.link.as_ref().is_none_or(Link::is_open) {
            return;
        }
        let is_first = self.attempts.are_first();
        match failure {
            Failure::Transient(why) => self.lose_connection(ClientError::Unreachable(why), Retry::Backoff),
            Failure::Token(why) => self.lose_connection(ClientError::Token(why), Retry::Backoff),
            Failure::Permanent(why) if is_first => self.end(ClientError::Unreachable(why)),
            Failure::Permanent(why) => self.lose_connection(ClientError::Unreachable(why), Retry::Backoff),
            Failure::Http { status, body, retry } => {
                let error = ClientError::Http { status, body };
                match status {
                    401 | 403 => self.on_token_refused(ClientError::NoAuth(error.to_string())),
                    408 | 425 | 429 => self.lose_connection(error, Retry::after(retry)),
                    // The path is wrong, or the server does not serve chat rooms.
                    200..=499 if is_first => self.end(error),
                    _ => self.lose_connection(error, Retry::after(retry)),
                }
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, now: Now, code: u16, reason: &str) {
        self.cx.now = now;
        let Some(link) = self.link.as_ref().filter(|link| link.is_open()) else { return };
        if matches!(code, close::NEVER_AUTHENTICATED | close::AUTH_EXPIRED | close::NOT_AUTHENTICATED) {
            return self.on_closed_for_auth(code, reason);
        }
        if code == close::NEVER_ENTERED && self.owner == Owner::Chat && self.rooms.is_empty() {
            return self.rest();
        }
        if !may_reconnect(code) {
            return self.end(ClientError::Closed { code, reason: reason.into() });
        }
        let retry = match RetryHint::in_reason(reason) {
            Some(hint) => Retry::Hint(hint),
            // Others may have lost their connections as well.
            None if link.is_useful() => Retry::Spread(BREAK_SPREAD),
            None => Retry::Backoff,
        };
        self.lose_connection(ClientError::Lost { code, reason: reason.into() }, retry);
    }

    /// The server has closed the connection because the client is in no room. The next room needs one.
    fn rest(&mut self) {
        self.drop_link();
        self.resume_tokens.forget();
        self.directs.end();
        self.emit_state(ChatState::Idle);
    }

    /// The server took too long.
    pub(super) fn give_up(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.liveness.give_up();
        let why = link.overdue();
        self.reconnect(why);
    }

    /// Gives up the connection or the attempt to connect, in order to try again.
    pub(super) fn reconnect(&mut self, why: &str) {
        let is_open = self.link.as_ref().is_some_and(Link::is_open);
        let error = match is_open {
            true => ClientError::Lost { code: close::HEARTBEAT_MISSED, reason: why.into() },
            false => ClientError::Unreachable(why.into()),
        };
        self.cx.outputs.push(Output::Close(close::HEARTBEAT_MISSED));
        self.lose_connection(error, Retry::Backoff);
    }

    /// The connection has ended or could not be made.
    pub(super) fn lose_connection(&mut self, reason: ClientError, retry: Retry) {
        let Some(link) = self.drop_link() else { return };
        for key in self.rooms.keys() {
            let Some(room) = self.rooms.get_mut(key) else { continue };
            let outcome = room.on_lost(&reason, &mut self.cx);
            self.conclude(key, outcome);
        }
        if self.ended.is_some() {
            return;
        }
        if !link.is_useful()
            && let Err(error) = self.attempts.fail(&reason)
        {
            return self.end(error);
        }
        let (now, random) = (self.cx.now, self.cx.random.part());
        let longest = match retry {
            Retry::Hint(hint) if !hint.wait.is_zero() => Duration::MAX,
            _ => self.resume_tokens.longest_wait(now),
        };
        let wait = match self.attempts.schedule(now, retry, longest, random, &reason) {
            Ok(wait) => wait,
            Err(error) => return self.end(error),
        };
        tracing::debug!(%reason, ?wait, "not connected");
        if !self.attempts.are_first() {
            self.emit_state(ChatState::Reconnecting { reason: reason.clone(), retry_in: wait });
        }
        for key in self.rooms.keys() {
            let Some(room) = self.rooms.get_mut(key) else { continue };
            let outcome = room.on_retry(&reason, wait, self.attempts.backoff(), &mut self.cx);
            self.conclude(key, outcome);
        }
    }

    /// Closes the connection, if there is one, and the client for good.
    pub(super) fn close(&mut self, error: ClientError) {
        if self.link.is_some() {
            self.cx.outputs.push(Output::Close(close::NORMAL));
        }
        self.end(error);
    }

    /// Closes the connection if nobody needs it any more.
    pub(super) fn close_if_unused(&mut self, error: ClientError) {
        if self.owner != Owner::Chat && self.rooms.is_empty() {
            self.close(error);
        }
    }

    /// The client is closed for good.
    pub(super) fn end(&mut self, error: ClientError) {
        if self.ended.is_some() {
            return;
        }
        tracing::debug!(%error, "client closed");
        self.drop_link();
        self.attempts.stop();
        for waiting in self.cx.outgoing.drain(Recipient::Users) {
            self.cx.outputs.resolve(waiting, Err(error.as_closed()));
        }
        for mut room in self.rooms.drain() {
            room.on_end(&mut self.cx);
            for waiting in self.cx.outgoing.drain(room.key().into()) {
                self.cx.outputs.resolve(waiting, Err(error.as_closed()));
            }
            room.close(error.clone(), &mut self.cx.outputs);
        }
        if !self.attempts.are_first() {
            self.emit_state(ChatState::Closed { reason: error.clone() });
        }
        self.ended = Some(error);
    }

    fn drop_link(&mut self) -> Option<Link> {
        self.cx.outgoing.stop_all();
        self.cx.transients.stop();
        self.frames_not_before = Now::ZERO;
        let link = self.link.take()?;
        self.attempts.end(&link.liveness);
        if let (Some(welcome), Some(token)) = (link.welcome(), link.token()) {
            self.resume_tokens.on_lost(token, welcome.resume_window, self.cx.now);
        }
        for key in self.leaving.on_lost() {
            self.cx.outputs.push(Output::Left(key));
        }
        Some(link)
    }

    pub(super) fn send_token(&mut self, token: &str) {
        let now = self.cx.now;
        let Some(link) = &mut self.link else { return };
        link.auth.use_token(now);
        self.ask(Question::Auth, &json!({"event": "auth", "message": token}));
    }

    /// Sends a frame that the server will answer.
    pub(super) fn ask(&mut self, question: Question, frame: &Value) {
        let number = self.link.as_ref().map_or(0, Link::next_frame);
        self.send_unanswered(frame);
        let Some(link) = &mut self.link else { return };
        link.questions.ask(question, number);
        if !link.liveness.expects_answer() {
            self.expect_answer();
        }
    }

    /// Sends a frame that is neither a message nor answered.
    pub(super) fn send_unanswered(&mut self, frame: &Value) {
        let bytes = self.cx.outputs.send(frame);
        self.cx.outgoing.charge(bytes);
        self.link.iter_mut().for_each(Link::count_frame);
    }

    /// The server has done a step. If there is another one, it gets as much time again.
    pub(super) fn expect_answer(&mut self) {
        let now = self.cx.now;
        let Some(link) = &mut self.link else { return };
        let by = self.attempts.step_deadline(now, link.liveness.patience());
        link.liveness.expect_answer(link.is_waiting().then_some(by));
    }
}

impl Retry {
    fn after(hint: Option<RetryHint>) -> Retry {
        hint.map_or(Retry::Backoff, Retry::Hint)
    }
}
