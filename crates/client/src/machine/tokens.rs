//! Tokens: refused ones, and those that expire.

use std::time::Duration;

use super::backoff::Retry;
use super::link::{Link, Resumption};
use super::questions::Question;
use super::refusal::Refusal;
use super::{Credential, Machine, Now, Output, RoomKey};
use crate::error::ClientError;
use crate::outgoing::Recipient;

/// Refused tokens in a row, each provided anew, after which the client gives up.
const MAX_REFUSED_TOKENS: u32 = 3;

impl<T> Machine<T> {
    /// The application has provided a token, or has none.
    pub(crate) fn on_token(&mut self, now: Now, token: Result<String, String>) {
        self.cx.now = now;
        let Some(link) = &mut self.link else { return };
        if !link.auth.stop_asking() {
            return;
        }
        match token {
            Ok(token) => self.send_token(&token),
            Err(why) => {
                link.auth.ask_later(now);
                self.emit_error(ClientError::Token(why));
            }
        }
    }

    /// The application has another token.
    pub(crate) fn authenticate(&mut self, now: Now) {
        self.cx.now = now;
        let is_renewable = self.settings.credential == Credential::Renewable;
        // A connection that has just been opened has a token from a moment ago, or is going to ask for one.
        if is_renewable && self.link.as_ref().is_some_and(|link| link.welcome().is_some()) {
            self.ask_for_token_at(now);
        }
    }

    /// Asks the application for a token, to be sent on the current connection.
    pub(super) fn ask_for_token(&mut self) {
        let Some(link) = &mut self.link else { return };
        if link.auth.ask() {
            self.cx.outputs.push(Output::AskToken);
            self.expect_answer();
        }
    }

    /// Asks for a token at this time, unless one is being provided.
    fn ask_for_token_at(&mut self, at: Now) {
        let now = self.cx.now;
        let Some(link) = &mut self.link else { return };
        if link.questions.has(&Question::Auth) {
            return;
        }
        if at <= now {
            self.ask_for_token();
        } else {
            link.auth.ask_at(Some(at));
        }
    }

    /// The user's authentication expires after this time.
    pub(super) fn on_expiring(&mut self, left: Duration) {
        if let (Credential::Renewable, Some(link)) = (self.settings.credential, &mut self.link) {
            link.auth.expires_in(left, self.cx.now);
        }
    }

    /// A token was accepted.
    pub(super) fn on_authenticated(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(&Question::Auth);
        if self.rooms.is_in_any() || self.rooms.is_empty() {
            // It was a renewal. Otherwise, the enter shows whether the token was of any use.
            self.refused_tokens = 0;
        }
        if link.auth.accept() && link.welcome().is_some() {
            self.begin();
        }
        self.start_directs();
        self.expect_answer();
    }

    /// The server treats the client as not authenticated.
    pub(super) fn on_no_auth(&mut self, why: String) {
        let Some(link) = &mut self.link else { return };
        if link.auth.take_notice() {
            return link.auth.refuse(why);
        }
        let answered = link.questions.answer_oldest();
        let was_needed = link.auth.is_needed();
        self.ignore(answered.as_ref());
        // It was refused along with the token before it.
        if answered == Some(Question::Message)
            || (was_needed && !matches!(answered, None | Some(Question::Auth)))
        {
            return self.expect_answer();
        }
        let is_in = self.rooms.is_in_any();
        let Some(link) = &mut self.link else { return };
        link.auth.refuse(why.clone());
        let error = ClientError::NoAuth(why);
        if is_in && answered == Some(Question::Auth) {
            return self.on_renewal_refused(error);
        }
        link.auth.require();
        // Messages in flight are refused as well.
        let in_flight =
            if is_in { self.cx.in_flight() } else { self.cx.outgoing.in_flight_to(Recipient::Users) };
        link.questions.expect_refusals(in_flight);
        self.cx.outgoing.stop(Recipient::Users);
        if is_in {
            self.refused_tokens = 0;
        } else {
            self.refused_tokens += 1;
        }
        self.wait_for_token(error, is_in);
        self.expect_answer();
    }

    /// The server has not looked at what was asked.
    fn ignore(&mut self, question: Option<&Question>) {
        match question {
            Some(Question::Resume) => {
                self.link.iter_mut().for_each(|link| link.resumption = Resumption::Unasked);
            }
            Some(Question::Enter(key)) => {
                self.rooms.get_mut(*key).into_iter().for_each(|room| room.on_enter_ignored());
            }
            // A client that has to authenticate is in no room.
            Some(Question::Leave(id)) => self.finish_leave(id),
            Some(Question::Members(key)) => {
                self.rooms
                    .get_mut(*key)
                    .into_iter()
                    .for_each(|room| room.presence_mut().on_members_refused());
            }
            _ => {}
        }
    }

    /// The client is out of its rooms until it has another token. Closes the client if there is none.
    fn wait_for_token(&mut self, error: ClientError, has_expired: bool) {
        let was_in = self.rooms.iter().any(|room| room.was_in());
        let may_try_again = self.may_try_another_token();
        // Without another token, the client waits until the server closes the connection.
        let may_wait = self.settings.credential == Credential::Fixed && was_in;
        if !may_try_again && !may_wait {
            return self.close(error);
        }
        for room in self.rooms.iter_mut().filter(|room| room.was_in()) {
            room.wait_outside(error.clone(), None, &mut self.cx);
        }
        if self.rooms.is_empty() {
            self.emit_error(error);
        }
        if may_try_again && let Some(link) = &self.link {
            // Immediately, unless the last token was used only a moment ago.
            let at = if has_expired { link.auth.pause_end(self.cx.now) } else { self.cx.now };
            self.ask_for_token_at(at);
        }
    }

    /// The client is out of a room, because its token has expired.
    pub(super) fn on_room_expired(&mut self, key: RoomKey, why: String) {
        let in_flight = self.cx.in_flight();
        let Some(room) = self.rooms.get_mut(key).filter(|room| room.is_in()) else { return };
        room.wait_outside(ClientError::NoAuth(why), None, &mut self.cx);
        let Some(link) = &mut self.link else { return };
        if link.auth.expire() {
            link.questions.expect_refusals(in_flight);
            self.cx.outgoing.stop(Recipient::Users);
            let at = link.auth.pause_end(self.cx.now);
            self.refused_tokens = 0;
            if self.may_try_another_token() {
                self.ask_for_token_at(at);
            }
        }
    }

    /// The server has not read a token. It accepts one after a time.
    pub(super) fn on_token_postponed(&mut self, refusal: Refusal) {
        let (now, wait) = (self.cx.now, refusal.wait());
        let Some(link) = &mut self.link else { return };
        link.questions.answer(&Question::Auth);
        let at = now.saturating_add(wait);
        if self.rooms.is_in_any() {
            return link.auth.ask_at(Some(at));
        }
        link.auth.require();
        let error = refusal.error();
        let postponed = self.attempts.fail(&error).and_then(|()| self.attempts.check_time(at, &error));
        if let Err(gave_up) = postponed {
            return self.close(gave_up);
        }
        link.auth.ask_at(Some(at));
        for room in self.rooms.iter_mut() {
            room.on_token_postponed(&error, wait, &mut self.cx);
        }
        self.expect_answer();
    }

    /// The client is in a room, and the old token is still valid.
    fn on_renewal_refused(&mut self, error: ClientError) {
        self.refused_tokens += 1;
        if self.may_try_another_token()
            && let Some(link) = &mut self.link
        {
            link.auth.ask_later(self.cx.now);
        }
        self.emit_error(error);
    }

    /// The handshake was refused because there was no valid token.
    pub(super) fn on_token_refused(&mut self, error: ClientError) {
        self.refused_tokens += 1;
        if self.may_try_another_token() {
            self.lose_connection(error, Retry::AtOnce);
        } else {
            self.end(error);
        }
    }

    /// The server has closed the connection because there was no valid token.
    pub(super) fn on_closed_for_auth(&mut self, code: u16, reason: &str) {
        let was_useful = self.link.as_ref().is_some_and(Link::is_useful);
        let Some(link) = &mut self.link else { return };
        let refusal = link.auth.take_refusal();
        // An earlier refusal was counted already.
        let is_counted = refusal.is_some() && !was_useful;
        let why = refusal.unwrap_or_else(|| format!("{reason} ({code})"));
        self.refused_tokens = self.refused_tokens.saturating_sub(u32::from(is_counted));
        self.on_token_refused(ClientError::NoAuth(why));
    }

    fn may_try_another_token(&self) -> bool {
        self.settings.credential == Credential::Renewable && self.refused_tokens < MAX_REFUSED_TOKENS
    }
}
