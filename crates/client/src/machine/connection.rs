//! When a connection is made, lost and given up.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms_protocol::close::{self, may_reconnect};

use super::backoff::Retry;
use super::link::Question;
use super::liveness::Liveness;
use super::{Failure, Link, Machine, Now, Output, State};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::incoming::RetryHint;

/// The time over which clients spread if the server does not say when to reconnect.
const BREAK_SPREAD: Duration = Duration::from_secs(1);

impl<T> Machine<T> {
    pub(super) fn connect(&mut self, now: Now) {
        let mut liveness = Liveness::new(self.patience, now);
        liveness.expect_answer(Some(self.step_deadline(now)));
        self.link = Some(Link::new(now, liveness));
        self.outputs.push_back(Output::Connect);
    }

    /// The WebSocket handshake is done. `token` is to be sent over the open connection.
    pub(crate) fn on_open(&mut self, now: Now, token: Option<&str>) {
        let by = self.step_deadline(now);
        let Some(link) = self.link.as_mut().filter(|link| !link.is_open) else { return };
        link.is_open = true;
        link.liveness.open(now);
        link.liveness.expect_answer(Some(by));
        if let Some(token) = token {
            self.send_token(now, token);
        }
    }

    /// The attempt to connect failed.
    pub(crate) fn on_failed(&mut self, now: Now, failure: Failure) {
        if self.link.as_ref().is_none_or(|link| link.is_open) {
            return;
        }
        let is_first = self.state == State::Connecting;
        match failure {
            Failure::Transient(why) => {
                self.lose_connection(now, ClientError::Unreachable(why), Retry::Backoff);
            }
            Failure::Token(why) => self.lose_connection(now, ClientError::Token(why), Retry::Backoff),
            Failure::Permanent(why) if is_first => self.end(ClientError::Unreachable(why)),
            Failure::Permanent(why) => {
                self.lose_connection(now, ClientError::Unreachable(why), Retry::Backoff);
            }
            Failure::Http { status, body, retry } => {
                let error = ClientError::Http { status, body };
                match status {
                    401 | 403 => self.on_token_refused(now, ClientError::NoAuth(error.to_string())),
                    408 | 425 | 429 => self.lose_connection(now, error, Retry::after(retry)),
                    // The path is wrong, or the server does not serve chat rooms.
                    200..=499 if is_first => self.end(error),
                    _ => self.lose_connection(now, error, Retry::after(retry)),
                }
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, now: Now, code: u16, reason: &str) {
        let Some(link) = self.link.as_ref().filter(|link| link.is_open) else { return };
        if matches!(code, close::NEVER_AUTHENTICATED | close::AUTH_EXPIRED | close::NOT_AUTHENTICATED) {
            return self.on_closed_for_auth(now, code, reason);
        }
        if !may_reconnect(code) {
            return self.end(ClientError::Closed { code, reason: reason.into() });
        }
        let retry = match RetryHint::in_reason(reason) {
            Some(hint) => Retry::Hint(hint),
            // Others may have lost their connections as well.
            None if link.was_in => Retry::Spread(BREAK_SPREAD),
            None => Retry::Backoff,
        };
        self.lose_connection(now, ClientError::Lost { code, reason: reason.into() }, retry);
    }

    /// The server took too long.
    pub(super) fn give_up(&mut self, now: Now) {
        let Some(link) = &mut self.link else { return };
        link.liveness.give_up();
        let why = link.overdue();
        self.reconnect(now, why);
    }

    /// Gives up the connection or the attempt to connect, in order to try again.
    pub(super) fn reconnect(&mut self, now: Now, why: &str) {
        let is_open = self.link.as_ref().is_some_and(|link| link.is_open);
        let error = match is_open {
            true => ClientError::Lost { code: close::HEARTBEAT_MISSED, reason: why.into() },
            false => ClientError::Unreachable(why.into()),
        };
        self.outputs.push_back(Output::Close(close::HEARTBEAT_MISSED));
        self.lose_connection(now, error, Retry::Backoff);
    }

    /// The connection has ended or could not be made.
    pub(super) fn lose_connection(&mut self, now: Now, reason: ClientError, retry: Retry) {
        let Some(link) = self.drop_link() else { return };
        if !link.was_in && self.has_failed_too_often(&reason) {
            return;
        }
        let random = self.random_part();
        let wait = self.backoff.wait(retry, random, now);
        tracing::debug!(%reason, ?wait, "not connected");
        self.connect_at = self.not_too_late(now.saturating_add(wait), &reason);
        if self.connect_at.is_some() && self.state != State::Connecting {
            self.state = State::Reconnecting;
            self.emit(ClientEvent::State(ClientState::Reconnecting { reason, retry_in: wait }));
        }
    }

    /// Counts an attempt that did not end in the room. Ends the client if it was the last one.
    pub(super) fn has_failed_too_often(&mut self, reason: &ClientError) -> bool {
        let attempts = self.backoff.fail();
        let was_last = attempts >= self.settings.max_attempts;
        if was_last {
            self.close(ClientError::GaveUp { attempts, last: reason.clone().into() });
        }
        was_last
    }

    /// The time of the next attempt. Ends the client if that is too late to enter for the first time.
    pub(super) fn not_too_late(&mut self, at: Now, reason: &ClientError) -> Option<Now> {
        if self.state == State::Connecting && at >= self.settings.first_timeout {
            let attempts = self.backoff.failures();
            self.close(ClientError::GaveUp { attempts, last: reason.clone().into() });
            return None;
        }
        Some(at)
    }

    /// The time by which the server must have done the next step.
    pub(super) fn step_deadline(&self, now: Now) -> Now {
        let patience = self.link.as_ref().map_or(self.patience, |link| link.liveness.patience());
        let end = now.saturating_add(self.settings.step_timeout.saturating_mul(patience));
        if self.state == State::Connecting { end.min(self.settings.first_timeout) } else { end }
    }

    /// Closes the connection, if there is one, and the client for good.
    pub(super) fn close(&mut self, error: ClientError) {
        if self.link.is_some() {
            self.outputs.push_back(Output::Close(close::NORMAL));
        }
        self.end(error);
    }

    /// The client is closed for good.
    pub(super) fn end(&mut self, error: ClientError) {
        if self.ended.is_some() {
            return;
        }
        tracing::debug!(%error, "client closed");
        self.drop_link();
        self.connect_at = None;
        for waiting in self.outgoing.drain() {
            self.outputs.push_back(Output::Resolve(waiting, Err(error.as_closed())));
        }
        if std::mem::replace(&mut self.state, State::Closed) != State::Connecting {
            self.emit(ClientEvent::State(ClientState::Closed { reason: error.clone() }));
        }
        self.ended = Some(error);
    }

    pub(super) fn send_frame(&mut self, frame: &Value) {
        self.outputs.push_back(Output::Send(frame.to_string()));
    }

    pub(super) fn send_token(&mut self, now: Now, token: &str) {
        let Some(link) = &mut self.link else { return };
        link.questions.ask(Question::Auth);
        link.auth.used_at = now;
        self.send_frame(&json!({"event": "auth", "message": token}));
    }

    fn drop_link(&mut self) -> Option<Link> {
        self.outgoing.stop();
        let link = self.link.take()?;
        self.patience = link.liveness.patience();
        let lost = link.pause.as_ref().map_or(0, |pause| pause.lost());
        self.emit_overflow(lost);
        Some(link)
    }
}

impl Retry {
    fn after(hint: Option<RetryHint>) -> Retry {
        hint.map_or(Retry::Backoff, Retry::Hint)
    }
}
