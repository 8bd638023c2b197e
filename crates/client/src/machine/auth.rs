//! Tokens: refused ones, and those that expire.

use std::time::Duration;

use super::backoff::Retry;
use super::link::Question;
use super::{Credential, MAX_REFUSED_TOKENS, Machine, Now, Output};
use crate::error::ClientError;
use crate::incoming::MAX_WAIT;

/// A token function that failed is called again after this, and a refused token is replaced.
const TOKEN_RETRY: Duration = Duration::from_secs(5);

/// The shortest time between two tokens, however short their lifetimes.
const TOKEN_PAUSE: Duration = Duration::from_secs(1);

impl<T> Machine<T> {
    /// The application has provided a token, or has none.
    pub(crate) fn on_token(&mut self, now: Now, token: Result<String, String>) {
        let Some(link) = self.link.as_mut().filter(|link| link.auth.is_asking) else { return };
        link.auth.is_asking = false;
        match token {
            Ok(token) => self.send_token(now, &token),
            Err(why) => {
                link.auth.ask_at = Some(now.saturating_add(TOKEN_RETRY));
                self.emit_error(ClientError::Token(why));
            }
        }
    }

    /// Asks the application for a token, to be sent on the current connection.
    pub(super) fn ask_for_token(&mut self, now: Now) {
        let by = self.step_deadline(now);
        let Some(link) = self.link.as_mut().filter(|link| !link.auth.is_asking) else { return };
        link.auth.is_asking = true;
        if link.membership.is_none() {
            link.liveness.expect_answer(Some(by));
        }
        self.outputs.push_back(Output::AskToken);
    }

    /// Asks for a token at this time, unless one is being provided.
    fn ask_for_token_at(&mut self, now: Now, at: Now) {
        let Some(link) = &mut self.link else { return };
        if link.questions.has(Question::Auth) {
            return;
        }
        if at <= now {
            self.ask_for_token(now);
        } else {
            link.auth.ask_at = Some(at);
        }
    }

    /// The user's authentication expires after this time.
    pub(super) fn on_expiring(&mut self, now: Now, left: Duration) {
        if self.settings.credential == Credential::Fixed {
            return;
        }
        let Some(link) = &mut self.link else { return };
        // A token that lives no longer than the warning is warned of as soon as it is accepted.
        let age = now.saturating_sub(link.auth.used_at);
        let wait = (left / 2).min(MAX_WAIT).max(TOKEN_PAUSE).saturating_sub(age);
        link.auth.ask_at = Some(now.saturating_add(wait));
    }

    /// A token was accepted.
    pub(super) fn on_authenticated(&mut self, now: Now) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(Question::Auth);
        if link.membership.is_some() {
            // It was a renewal. Otherwise, the enter shows whether the token was of any use.
            self.refused_tokens = 0;
        }
        if std::mem::take(&mut link.auth.is_needed) && link.welcome.is_some() {
            self.enter(now);
        }
    }

    /// The server treats the client as not authenticated. `has_room` says that this removes it from its room.
    pub(super) fn on_no_auth(&mut self, now: Now, why: String, has_room: bool) {
        let Some(link) = &mut self.link else { return };
        // If the authentication has expired, this answers nothing.
        let answered = if has_room { None } else { link.questions.answer_oldest() };
        match answered {
            // It was refused along with the token before it.
            Some(Question::Message) => return,
            Some(Question::Enter) if link.auth.is_needed => return,
            _ => {}
        }
        link.auth.refusal = Some(why.clone());
        link.auth.is_needed = true;
        let error = ClientError::NoAuth(why);
        if link.membership.is_some() && answered == Some(Question::Auth) {
            return self.on_renewal_refused(now, error);
        }
        // The next token is asked for immediately, unless the last one was used only a moment ago.
        let mut ask_at = now;
        if link.membership.is_some() {
            link.questions.expect_refusals(self.outgoing.in_flight());
            ask_at = now.max(link.auth.used_at.saturating_add(TOKEN_PAUSE));
            self.refused_tokens = 0;
            self.leave_room();
        } else {
            self.refused_tokens += 1;
        }
        let was_in = self.link.as_ref().is_some_and(|link| link.was_in);
        let may_try_again = self.may_try_another_token();
        if may_try_again || (self.settings.credential == Credential::Fixed && was_in) {
            if was_in {
                self.become_outside(error, None);
            }
            if may_try_again {
                self.ask_for_token_at(now, ask_at);
            }
        } else {
            self.close(error);
        }
    }

    /// The server has not read a token. It accepts one after this time.
    pub(super) fn on_token_postponed(&mut self, now: Now, reason: ClientError, wait: Duration) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(Question::Auth);
        let at = now.saturating_add(wait);
        if link.membership.is_some() {
            link.auth.ask_at = Some(at);
            return;
        }
        link.auth.is_needed = true;
        link.liveness.expect_answer(None);
        if self.has_failed_too_often(&reason) {
            return;
        }
        let at = self.not_too_late(at, &reason);
        if let Some(link) = &mut self.link {
            link.auth.ask_at = at;
            self.become_outside(reason, Some(wait));
        }
    }

    /// The client is in its room, and the old token is still valid. Should an older server mean that the old token has
    /// expired, the enter after the next token makes up for it.
    fn on_renewal_refused(&mut self, now: Now, error: ClientError) {
        self.refused_tokens += 1;
        if self.may_try_another_token()
            && let Some(link) = &mut self.link
        {
            link.auth.ask_at = Some(now.saturating_add(TOKEN_RETRY));
        }
        self.emit_error(error);
    }

    /// The handshake was refused because there was no valid token.
    pub(super) fn on_token_refused(&mut self, now: Now, error: ClientError) {
        self.refused_tokens += 1;
        if self.may_try_another_token() {
            self.lose_connection(now, error, Retry::AtOnce);
        } else {
            self.end(error);
        }
    }

    /// The server has closed the connection because there was no valid token.
    pub(super) fn on_closed_for_auth(&mut self, now: Now, code: u16, reason: &str) {
        let Some(link) = &mut self.link else { return };
        // An earlier refusal was counted already.
        let is_counted = link.auth.refusal.is_some() && !link.was_in;
        let why = link.auth.refusal.take().unwrap_or_else(|| format!("{reason} ({code})"));
        self.refused_tokens = self.refused_tokens.saturating_sub(u32::from(is_counted));
        self.on_token_refused(now, ClientError::NoAuth(why));
    }

    fn may_try_another_token(&self) -> bool {
        self.settings.credential == Credential::Renewable && self.refused_tokens < MAX_REFUSED_TOKENS
    }
}
