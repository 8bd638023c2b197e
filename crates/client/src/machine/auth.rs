//! How a connection is authenticated, and when the application is asked for a token.

use std::time::Duration;

use super::Now;
use crate::retry_hint::MAX_WAIT;

/// A token function that failed is called again after this, and a refused token is replaced.
const TOKEN_RETRY: Duration = Duration::from_secs(5);

/// The shortest time between two tokens, however short their lifetimes.
const TOKEN_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Auth {
    /// Why the server last refused it.
    refusal: Option<String>,
    /// The client has to authenticate, and then to enter.
    is_needed: bool,
    /// The application was asked for a token.
    is_asking: bool,
    /// When to ask for the next token.
    ask_at: Option<Now>,
    /// When the last token was used.
    used_at: Now,
    /// Rooms had to be left for an expired token. A `noAuth` follows, which answers nothing.
    expects_notice: bool,
}

impl Auth {
    pub(super) fn new(now: Now) -> Auth {
        let (refusal, ask_at) = (None, None);
        Auth { refusal, is_needed: false, is_asking: false, ask_at, used_at: now, expects_notice: false }
    }

    pub(super) fn is_needed(&self) -> bool {
        self.is_needed
    }

    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        self.ask_at
    }

    pub(super) fn is_due(&mut self, now: Now) -> bool {
        self.ask_at.take_if(|at| *at <= now).is_some()
    }

    /// The application is asked for a token. Returns `false` if it was already.
    pub(super) fn ask(&mut self) -> bool {
        !std::mem::replace(&mut self.is_asking, true)
    }

    /// The application has answered. Returns `false` if it was not asked.
    pub(super) fn stop_asking(&mut self) -> bool {
        std::mem::take(&mut self.is_asking)
    }

    pub(super) fn ask_at(&mut self, at: Option<Now>) {
        self.ask_at = at;
    }

    /// The token function has failed, or a token was refused while the last one is still valid.
    pub(super) fn ask_later(&mut self, now: Now) {
        self.ask_at = Some(now.saturating_add(TOKEN_RETRY));
    }

    /// The user's authentication expires after this time.
    pub(super) fn expires_in(&mut self, left: Duration, now: Now) {
        // A token that lives no longer than the warning is warned of as soon as it is accepted.
        let age = now.saturating_sub(self.used_at);
        let wait = (left / 2).min(MAX_WAIT).max(TOKEN_PAUSE).saturating_sub(age);
        self.ask_at = Some(now.saturating_add(wait));
    }

    /// The earliest time to ask for a token after the last one has expired.
    pub(super) fn pause_end(&self, now: Now) -> Now {
        now.max(self.used_at.saturating_add(TOKEN_PAUSE))
    }

    pub(super) fn use_token(&mut self, now: Now) {
        self.used_at = now;
    }

    pub(super) fn refuse(&mut self, why: String) {
        self.refusal = Some(why);
    }

    pub(super) fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// The client has to authenticate.
    pub(super) fn require(&mut self) {
        self.is_needed = true;
    }

    /// A room had to be left for an expired token. Returns `false` if this is known.
    pub(super) fn expire(&mut self) -> bool {
        if self.is_needed {
            return false;
        }
        self.is_needed = true;
        self.expects_notice = true;
        true
    }

    /// Whether this is the `noAuth` that follows when rooms had to be left.
    pub(super) fn take_notice(&mut self) -> bool {
        std::mem::take(&mut self.expects_notice)
    }

    /// A token was accepted. Returns whether one was needed.
    pub(super) fn accept(&mut self) -> bool {
        self.expects_notice = false;
        std::mem::take(&mut self.is_needed)
    }
}
