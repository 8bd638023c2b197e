//! A member says something.

use std::borrow::Cow;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::conversation::{Conversation, End};
use crate::engine::memberships::Crowded;
use crate::engine::recipient::Recipient;
use crate::hooks::events;
use crate::hooks::guard;
use crate::hooks::policy::{MessageRequest, Ruling};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{Body, Say};
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound, resume};

/// What has come of a message.
pub(super) enum Said<'a> {
    /// It has gone out, or been refused.
    Done,
    /// The room has to catch up before it can go out.
    Crowded(Message<'a>),
}

/// A message that may go out.
pub(super) struct Message<'a> {
    event: Cow<'a, str>,
    body: Body<'a>,
    /// What the policy has put in its place, as a whole.
    replaced: Option<String>,
    cid: Option<Cow<'a, str>>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    /// No future of its own, for every connection would have room for it.
    pub(super) fn on_say<'a>(&mut self, text: &'a str, say: Say<'a>) -> Result<Said<'a>, End> {
        let Some(message) = self.check_message(text, say)? else { return Ok(Said::Done) };
        match self.publish(&message) {
            Ok(seq) => self.conclude(text, &message, seq).map(|()| Said::Done),
            Err(Crowded) => Ok(Said::Crowded(message)),
        }
    }

    /// Whoever fills a room faster than it empties waits for its flusher.
    pub(super) async fn say_later(&mut self, text: &str, message: Message<'_>) -> Result<(), End> {
        while self.seat.keep_waiting() {
            tokio::task::yield_now().await;
            if let Ok(seq) = self.publish(&message) {
                return self.conclude(text, &message, seq);
            }
        }
        Ok(())
    }

    /// `None` if there is nothing to send, and the client has had its answer.
    fn check_message<'a>(&mut self, text: &'a str, say: Say<'a>) -> Result<Option<Message<'a>>, End> {
        let Say { event, body, cid } = say;
        let cid = match cid.filter(|_| self.wire == Wire::V1).map(resume::cid).transpose() {
            Ok(cid) => cid,
            Err(e) => return self.refuse(e).map(|()| None),
        };
        if let Some(cid) = cid.as_deref()
            && let Some(seq) = self.stay.standing.cids.as_ref().and_then(|cids| cids.seq_of(cid))
        {
            self.acknowledge(cid, seq);
            return Ok(None);
        }
        let Some(m) = &self.stay.standing.membership else {
            let text = "enter a room first: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}";
            let error = PeerError::new(ErrorCode::NotEntered, text);
            return self.refuse_message(error, cid.as_deref()).map(|()| None);
        };
        let Some(policy) = &self.engine.hooks.policy else {
            return Ok(Some(Message { event, body, replaced: None, cid }));
        };
        let request = MessageRequest {
            connection: self.stay.standing.id,
            user: self.stay.standing.user.as_deref(),
            name: &m.name,
            room: m.room.id(),
            event: &event,
            body: text,
        };
        let (body, replaced) = match guard::call("may_send", || policy.may_send(&request))?.0 {
            Ruling::Allow => (body, None),
            Ruling::Replace(text) => match self.replacement(&text) {
                Some(body) => match cid.as_deref() {
                    Some(cid) => (body.with_cid(cid), Some(text)),
                    None => (body, Some(text)),
                },
                None => {
                    tracing::error!(
                        "the policy's replacement is no JSON object or too big; the message is dropped"
                    );
                    let error = PeerError::new(ErrorCode::Internal, "the message could not be sent");
                    return self.refuse_message(error, cid.as_deref()).map(|()| None);
                }
            },
            Ruling::Drop => {
                // The sender is not to know: it looks as if it had gone out.
                let seq = m.room.lock().stream().position();
                self.remember(cid.as_deref(), seq);
                return Ok(None);
            }
            Ruling::Refuse(denied) => {
                let error = PeerError::new(ErrorCode::Denied, denied.into_reason());
                return self.refuse_message(error, cid.as_deref()).map(|()| None);
            }
        };
        Ok(Some(Message { event, body, replaced, cid }))
    }

    fn replacement(&self, text: &str) -> Option<Body<'static>> {
        if self.engine.config.limits.is_too_big(text.len()) { None } else { Body::of_host_for_member(text) }
    }

    fn publish(&self, message: &Message<'_>) -> Result<Option<u64>, Crowded> {
        match &self.stay.standing.membership {
            Some(m) => self.engine.publish(m, &message.body),
            // It was looked for before, and only this task takes it away.
            None => Err(Crowded),
        }
    }

    /// The message has gone out, unless the room was closed and the connection is about to end.
    fn conclude(&mut self, text: &str, message: &Message<'_>, seq: Option<u64>) -> Result<(), End> {
        let Some(seq) = seq else { return Ok(()) };
        self.engine.counters.messages.add(1);
        self.remember(message.cid.as_deref(), seq);
        let standing = &self.stay.standing;
        let (Some(events), Some(m)) = (&self.engine.hooks.events, &standing.membership) else {
            return Ok(());
        };
        let event = events::Message {
            connection: standing.id,
            room: m.room.id(),
            name: &m.name,
            user: standing.user.as_ref(),
            event: &message.event,
            body: message.replaced.as_deref().unwrap_or(text),
        };
        Ok(guard::call("message", || events.message(&event))?)
    }

    /// A repetition of this message must not go out.
    fn remember(&mut self, cid: Option<&str>, seq: u64) {
        if let Some(cid) = cid {
            self.stay.standing.cids.get_or_insert_default().add(cid, seq);
            self.acknowledge(cid, seq);
        }
    }

    fn acknowledge(&self, cid: &str, seq: u64) {
        self.seat.send(frame::text(outbound::ack(cid, seq).as_bytes()));
    }
}
