//! From one connection to the next: when it is made, lost and given up.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms_protocol::close::{self, may_reconnect};

use super::{Credential, Failure, MAX_REFUSALS, Machine, Now, Output, Phase};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::incoming::retry_in;

impl<T> Machine<T> {
    pub(super) fn connect(&mut self, now: Now) {
        self.phase = Phase::Connecting(self.step_end(now));
        self.outputs.push_back(Output::Connect);
    }

    /// The WebSocket handshake is done. A token is given where it is to be sent in band.
    pub(crate) fn on_open(&mut self, now: Now, token: Option<&str>) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        self.last_heard = now;
        self.phase = Phase::Greeted(self.step_end(now));
        if let Some(token) = token {
            self.send_frame(&json!({"event": "auth", "message": token}));
        }
    }

    pub(crate) fn on_failed(&mut self, now: Now, failure: Failure) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        match failure {
            Failure::Broken(why) => self.lose(now, Duration::ZERO, &why),
            Failure::Hopeless(why) if !self.was_online => self.end(ClientError::Unreachable(why)),
            Failure::Hopeless(why) => self.lose(now, Duration::ZERO, &why),
            Failure::Http(status @ (401 | 403), _) => self.refuse_token(now, format!("HTTP {status}")),
            Failure::Http(status, after) => {
                self.lose(now, after.unwrap_or_default(), &format!("the server answered HTTP {status}"));
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, now: Now, code: u16, reason: &str) {
        if !matches!(self.phase, Phase::Greeted(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        if may_reconnect(code) {
            let why = if reason.is_empty() { "the connection was lost" } else { reason };
            self.lose(now, retry_in(reason).unwrap_or_default(), why);
        } else {
            self.end(ClientError::Closed { code, reason: reason.into() });
        }
    }

    pub(super) fn refuse_token(&mut self, now: Now, reason: String) {
        self.refusals += 1;
        if self.plan.credential == Credential::Fresh && self.refusals < MAX_REFUSALS {
            return self.come_back(now, &reason);
        }
        self.outputs.push_back(Output::Close(close::NORMAL));
        self.end(ClientError::NoAuth(reason));
    }

    /// Closes the connection, or gives up connecting, to try again.
    pub(super) fn come_back(&mut self, now: Now, why: &str) {
        self.outputs.push_back(Output::Close(close::HEARTBEAT_MISSED));
        self.lose(now, Duration::ZERO, why);
    }

    /// The connection is gone, or none was made.
    pub(super) fn lose(&mut self, now: Now, not_before: Duration, why: &str) {
        if self.phase == Phase::Online {
            self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Reconnecting)));
            if now.saturating_sub(self.online_since) > self.plan.backoff.1 {
                self.series = 0;
            }
        }
        let wait = not_before.saturating_add(self.jitter());
        tracing::debug!(why, ?wait, "not connected");
        self.series = self.series.saturating_add(1);
        self.outgoing.rewind();
        self.welcome = None;
        self.paused = None;
        self.overrun = false;
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.outputs.push_back(Output::Tell(ClientEvent::Overflow { lost }));
        }
        let at = now.saturating_add(wait);
        if !self.was_online && at >= self.plan.first_timeout {
            return self.end(ClientError::Unreachable(why.into()));
        }
        self.phase = Phase::Waiting(at);
    }

    /// Anything up to a bound that doubles with each failure.
    fn jitter(&mut self) -> Duration {
        let (first, longest) = self.plan.backoff;
        let bound = first.saturating_mul(1 << self.series.min(30)).min(longest);
        let part = (self.random)() >> 11;
        bound.mul_f64(part as f64 / (1u64 << 53) as f64)
    }

    /// It is over for good.
    pub(super) fn end(&mut self, ending: ClientError) {
        tracing::debug!(%ending, "client closed");
        for waiting in self.outgoing.drain() {
            self.outputs.push_back(Output::Settle(waiting, Err(ending.as_closed())));
        }
        if self.was_online {
            self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Closed)));
            if let ClientError::Closed { code, reason } = ending.as_closed() {
                self.outputs.push_back(Output::Tell(ClientEvent::Closed { code, reason }));
            }
        }
        self.phase = Phase::Over;
        self.welcome = None;
        self.paused = None;
        self.ending = Some(ending);
    }

    pub(super) fn step_end(&self, now: Now) -> Now {
        let end = now.saturating_add(self.plan.step_timeout);
        if self.was_online { end } else { end.min(self.plan.first_timeout) }
    }
}
