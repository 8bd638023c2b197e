//! Enters the room: what is sent, how the server may answer, and what removes the client from the room again.

use std::time::Duration;

use serde_json::json;

use super::backoff::Retry;
use super::link::Question;
use super::membership::Membership;
use super::{Machine, Now, Output, Position, State};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::incoming::{Entered, RetryHint, ServerError, Welcome};

/// Refusals of an enter that no later attempt can change.
const PERMANENT: [&str; 7] =
    ["denied", "bad_name", "bad_room_id", "bad_json", "bad_shape", "not_an_object", "too_deep"];

/// Temporary refusals. So is any refusal that says when to try again.
///
/// `unavailable` is reserved: no server sends it yet.
const TEMPORARY: [&str; 3] = ["internal", "rate_limited", "unavailable"];

/// Refusals of a frame that the server could not read, so that it could not find the `cid`.
const UNREADABLE: [&str; 5] = ["bad_json", "bad_shape", "not_an_object", "too_deep", "reserved_event"];

/// The wait if a server says that a refusal is temporary, but not when to try again.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// How many member ids are remembered, to recognize the client's own frames in a replay.
const MAX_MEMBERS: usize = 16;

/// The server has refused something.
struct Refusal {
    error: ClientError,
    is_temporary: bool,
    retry_after: Option<Duration>,
}

impl<T> Machine<T> {
    pub(super) fn on_welcome(&mut self, now: Now, welcome: Welcome) {
        let Some(link) = self.link.as_mut().filter(|link| link.welcome.is_none()) else { return };
        link.liveness.expect_heartbeats(welcome.silence);
        let token = welcome.resume_token.clone();
        link.welcome = Some(welcome);
        self.enter(now);
        if let Some(token) = token {
            self.resume_tokens.add(&token);
        }
    }

    pub(super) fn enter(&mut self, now: Now) {
        let by = self.step_deadline(now);
        let Some(link) = &mut self.link else { return };
        link.enter_at = None;
        link.questions.ask(Question::Enter);
        link.liveness.expect_answer(Some(by));
        let own_token = link.welcome.as_ref().and_then(|welcome| welcome.resume_token.as_deref());
        let mut frame =
            json!({"event": "enter", "message": self.settings.name, "roomId": self.settings.room});
        if let Some(Position { epoch, seq }) = &self.position {
            frame["since"] = json!({"epoch": epoch, "seq": seq});
        }
        let tokens = self.resume_tokens.to_enter(own_token);
        if !tokens.is_empty() {
            frame["resume"] = json!(tokens);
        }
        self.send_frame(&frame);
    }

    pub(super) fn on_entered(&mut self, now: Now, entered: Entered) {
        let (last, missed) = self.go_on_from(&entered);
        let Some(link) = &mut self.link else { return };
        let Some(welcome) = &link.welcome else { return };
        self.resume_tokens.replace(welcome.resume_token.as_deref());
        let Entered { name, member, epoch, seq, num, resumed, recovered, .. } = entered;
        let is_same_epoch = self.position.as_ref().is_some_and(|before| before.epoch == epoch);
        // An earlier enter whose answer was lost may have begun another session.
        let is_same_session = self.members.back().is_some_and(|present| **present == *member);
        let are_messages_known = self.outgoing.are_known_to(resumed.then_some(&member));
        link.questions.answer(Question::Enter);
        link.auth.is_needed = false;
        link.membership = Some(Membership::new(seq, last, are_messages_known));
        // The server's token buckets have paid for the enter: from now on, they hold no less than the client's.
        if !std::mem::replace(&mut link.was_in, true) {
            self.outgoing.set_limits(welcome, now);
        }
        link.enter_at = None;
        link.liveness.expect_answer(None);
        self.outgoing.stop();
        self.refused_tokens = 0;
        if !is_same_epoch {
            self.members.clear();
        }
        self.add_member(&member);
        if self.state != State::Online {
            self.backoff.succeed(now);
            self.state = State::Online;
            self.emit(ClientEvent::State(ClientState::Online));
        }
        let resumed = resumed && is_same_session && is_same_epoch;
        self.emit(ClientEvent::Entered { name, member, num, resumed, recovered });
        if missed != Some(0) {
            self.emit(ClientEvent::Gap { missed });
        }
        self.position = Some(Position { epoch, seq: last });
        self.start_sending(now);
    }

    /// The position from which the client continues, and how many frames it has missed for good.
    fn go_on_from(&self, entered: &Entered) -> (u64, Option<u64>) {
        let seq = entered.seq;
        let before = self.position.as_ref().filter(|before| before.epoch == entered.epoch);
        let before = before.map(|before| before.seq);
        // A server may not say how much is replayed.
        let replayed = entered.replayed.unwrap_or_else(|| match before {
            Some(before) if entered.recovered => seq.saturating_sub(before),
            _ => 0,
        });
        let start = seq.saturating_sub(replayed);
        match before {
            // More may be replayed than was requested.
            Some(before) if before <= seq => (start.max(before), Some(start.saturating_sub(before))),
            None if self.position.is_none() => (start, Some(0)),
            _ => (start, None),
        }
    }

    /// Messages may be sent once none of them can be in the replay any more.
    pub(super) fn start_sending(&mut self, now: Now) {
        let membership = self.link.as_ref().and_then(|link| link.membership.as_ref());
        if membership.is_some_and(Membership::may_send)
            && let Some(member) = self.members.back()
        {
            self.outgoing.start(member.clone());
        }
        self.flush(now);
    }

    pub(super) fn on_error(&mut self, now: Now, error: ServerError) {
        let Some(link) = &self.link else { return };
        let ServerError { code, message, cid, has_room, retry_after } = error;
        let refusal = Refusal {
            is_temporary: TEMPORARY.contains(&&*code) || retry_after.is_some(),
            retry_after,
            error: ClientError::Refused { code, message },
        };
        if let Some(cid) = cid {
            self.on_message_refused(now, &cid, refusal);
        } else if refusal.is_any_of(&["rate_limited"]) && link.questions.is_next(Question::Auth) {
            self.on_token_postponed(now, refusal.error, retry_after.unwrap_or(DEFAULT_RETRY));
        } else if link.questions.has(Question::Enter) {
            self.on_enter_refused(now, refusal);
        } else if has_room && link.membership.is_some() {
            self.put_out(now, refusal);
        } else if let Some(waiting) =
            refusal.is_any_of(&UNREADABLE).then(|| self.outgoing.take_oldest()).flatten()
        {
            // Messages are answered in order.
            self.outputs.push_back(Output::Resolve(waiting, Err(refusal.error)));
            self.flush(now);
        } else {
            self.emit_error(refusal.error);
        }
    }

    fn on_message_refused(&mut self, now: Now, cid: &str, refusal: Refusal) {
        if refusal.is_any_of(&["not_entered"]) {
            // It was in flight when the client left the room. It is sent again in the room.
            if self.link.as_ref().is_some_and(|link| link.membership.is_some()) {
                self.put_out(now, Refusal { is_temporary: true, ..refusal });
            }
        } else if refusal.is_any_of(&["rate_limited"])
            || (refusal.is_temporary && refusal.retry_after.is_some())
        {
            self.outgoing.postpone(cid, refusal.retry_after.unwrap_or(DEFAULT_RETRY), now);
            self.flush(now);
        } else if let Some(waiting) = self.outgoing.take(cid) {
            self.outputs.push_back(Output::Resolve(waiting, Err(refusal.error)));
            self.flush(now);
        } else {
            self.emit_error(refusal.error);
        }
    }

    fn on_enter_refused(&mut self, now: Now, refusal: Refusal) {
        let Some(link) = &mut self.link else { return };
        link.questions.answer(Question::Enter);
        // On a reconnect, the room may be full because of the client's own lost connection: that is temporary as well.
        let passes_later = self.state != State::Connecting && !refusal.is_any_of(&PERMANENT);
        let refusal = Refusal { is_temporary: refusal.is_temporary || passes_later, ..refusal };
        if refusal.is_temporary || link.was_in {
            self.put_out(now, refusal);
        } else {
            self.close(refusal.error);
        }
    }

    /// The connection stays, but the client is out of its room. It enters again if the reason is temporary.
    fn put_out(&mut self, now: Now, refusal: Refusal) {
        self.leave_room();
        if !refusal.is_temporary {
            return self.become_outside(refusal.error, None);
        }
        if self.has_failed_too_often(&refusal.error) {
            return;
        }
        let random = self.random_part();
        let hint = refusal.retry_after.map(RetryHint::after);
        let wait = self.backoff.wait(hint.map_or(Retry::Backoff, Retry::Hint), random, now);
        let at = self.not_too_late(now.saturating_add(wait), &refusal.error);
        if let Some(link) = &mut self.link {
            link.enter_at = at;
            self.become_outside(refusal.error, Some(wait));
        }
    }

    pub(super) fn leave_room(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.membership = None;
        link.liveness.expect_answer(None);
        self.outgoing.stop();
    }

    /// Tells the application that the client is connected, but not in its room.
    pub(super) fn become_outside(&mut self, reason: ClientError, retry_in: Option<Duration>) {
        if self.state != State::Connecting {
            self.state = State::Outside;
            self.emit(ClientEvent::State(ClientState::Outside { reason, retry_in }));
        }
    }

    fn add_member(&mut self, member: &str) {
        self.members.retain(|known| **known != *member);
        self.members.push_back(member.into());
        if self.members.len() > MAX_MEMBERS {
            self.members.pop_front();
        }
    }
}

impl Refusal {
    fn is_any_of(&self, codes: &[&str]) -> bool {
        matches!(&self.error, ClientError::Refused { code, .. } if codes.contains(&code.as_str()))
    }
}
