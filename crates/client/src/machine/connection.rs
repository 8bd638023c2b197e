//! When a connection is made, lost and given up.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms_protocol::close::{self, may_reconnect};

use super::{Credential, Failure, MAX_REFUSED_TOKENS, Machine, Now, Output, Phase};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::incoming::retry_in;

impl<T> Machine<T> {
    pub(super) fn connect(&mut self, now: Now) {
        self.phase = Phase::Connecting(self.step_deadline(now));
        self.outputs.push_back(Output::Connect);
    }

    /// The WebSocket handshake is done. `token` is to be sent in band.
    pub(crate) fn on_open(&mut self, now: Now, token: Option<&str>) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        self.last_received = now;
        self.phase = Phase::Connected(self.step_deadline(now));
        if let Some(token) = token {
            self.send_frame(&json!({"event": "auth", "message": token}));
        }
    }

    pub(crate) fn on_failed(&mut self, now: Now, failure: Failure) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        match failure {
            Failure::Transient(why) => self.lose_connection(now, Duration::ZERO, &why),
            Failure::Permanent(why) if !self.was_online => self.end(ClientError::Unreachable(why)),
            Failure::Permanent(why) => self.lose_connection(now, Duration::ZERO, &why),
            Failure::Http(status @ (401 | 403), _) => self.on_token_refused(now, format!("HTTP {status}")),
            Failure::Http(status, after) => {
                let why = format!("the server answered HTTP {status}");
                self.lose_connection(now, after.unwrap_or_default(), &why);
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, now: Now, code: u16, reason: &str) {
        if !matches!(self.phase, Phase::Connected(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        if may_reconnect(code) {
            let why = if reason.is_empty() { "the connection was lost" } else { reason };
            self.lose_connection(now, retry_in(reason).unwrap_or_default(), why);
        } else {
            self.end(ClientError::Closed { code, reason: reason.into() });
        }
    }

    pub(super) fn on_token_refused(&mut self, now: Now, reason: String) {
        self.refused_tokens += 1;
        if self.settings.credential == Credential::Renewable && self.refused_tokens < MAX_REFUSED_TOKENS {
            return self.reconnect(now, &reason);
        }
        self.outputs.push_back(Output::Close(close::NORMAL));
        self.end(ClientError::NoAuth(reason));
    }

    /// Gives up the connection or the attempt to connect, in order to try again.
    pub(super) fn reconnect(&mut self, now: Now, why: &str) {
        self.outputs.push_back(Output::Close(close::HEARTBEAT_MISSED));
        self.lose_connection(now, Duration::ZERO, why);
    }

    /// The connection has ended or could not be made. Waits at least `min_wait` for the next attempt.
    pub(super) fn lose_connection(&mut self, now: Now, min_wait: Duration, why: &str) {
        if self.phase == Phase::Online {
            self.outputs.push_back(Output::Emit(ClientEvent::State(ClientState::Reconnecting)));
            if now.saturating_sub(self.online_since) > self.settings.backoff.1 {
                self.failures = 0;
            }
        }
        let wait = min_wait.saturating_add(self.jitter());
        tracing::debug!(why, ?wait, "not connected");
        self.failures = self.failures.saturating_add(1);
        self.outgoing.rewind();
        self.welcome = None;
        self.paused = None;
        self.drops_frames = false;
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.outputs.push_back(Output::Emit(ClientEvent::Overflow { lost }));
        }
        let at = now.saturating_add(wait);
        if !self.was_online && at >= self.settings.first_timeout {
            return self.end(ClientError::Unreachable(why.into()));
        }
        self.phase = Phase::Waiting(at);
    }

    /// A random time up to a bound that doubles with each failure.
    fn jitter(&mut self) -> Duration {
        let (first, longest) = self.settings.backoff;
        let bound = first.saturating_mul(1 << self.failures.min(30)).min(longest);
        let part = (self.random)() >> 11;
        bound.mul_f64(part as f64 / (1u64 << 53) as f64)
    }

    /// Closes the client for good.
    pub(super) fn end(&mut self, error: ClientError) {
        tracing::debug!(%error, "client closed");
        for waiting in self.outgoing.drain() {
            self.outputs.push_back(Output::Resolve(waiting, Err(error.as_closed())));
        }
        if self.was_online {
            self.outputs.push_back(Output::Emit(ClientEvent::State(ClientState::Closed)));
            if let ClientError::Closed { code, reason } = error.as_closed() {
                self.outputs.push_back(Output::Emit(ClientEvent::Closed { code, reason }));
            }
        }
        self.phase = Phase::Ended;
        self.welcome = None;
        self.paused = None;
        self.ended = Some(error);
    }

    pub(super) fn step_deadline(&self, now: Now) -> Now {
        let end = now.saturating_add(self.settings.step_timeout);
        if self.was_online { end } else { end.min(self.settings.first_timeout) }
    }
}
