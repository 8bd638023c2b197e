//! Direct messages: a client of `chat-rooms.v1` sends a message to all sessions of a user.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use crate::broker::Unavailable;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::engine::DirectToSend;
use crate::hooks::events::DirectMessage;
use crate::hooks::guard;
use crate::hooks::policy::{BoxFuture, Decision, DirectRequest, Ruling, Verdict};
use crate::hooks::user::User;
use crate::protocol::direct::{self, DirectFrame};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::Direct;
use crate::protocol::outbound::About;
use crate::protocol::resume;
use crate::stats::Hook;

/// A message that the policy has yet to decide on.
pub(super) struct Draft<'a> {
    from: Arc<User>,
    to: Cow<'a, str>,
    /// An object up to its closing brace.
    body: String,
    cid: Option<Cow<'a, str>>,
    /// When the connection was found to be closed or lost while the message was waiting.
    gone: Option<Instant>,
}

/// What a message waits for.
pub(super) enum Undecided<'a> {
    /// The policy decides later.
    Verdict(Draft<'a>, BoxFuture<'static, Verdict>),
    /// Other nodes have to answer.
    Sending(Sending<'a>),
}

/// A message that goes to the sessions on all nodes.
pub(super) struct Sending<'a> {
    draft: Draft<'a>,
    /// What the host is told, up to the closing brace; `None` if the message was dropped.
    body: Option<String>,
    sent: BoxFuture<'static, Result<u64, Unavailable>>,
}

impl Draft<'_> {
    fn about(&self) -> About<'_> {
        self.cid.as_deref().map_or(About::Nothing, About::Message)
    }
}

/// Not an async fn, because every connection would reserve memory for its future.
pub(super) fn send<'a>(
    connection: &mut Connection,
    message: Direct<'a>,
) -> Result<Option<Undecided<'a>>, End> {
    let Some(draft) = check(connection, message)? else { return Ok(None) };
    let Some((draft, verdict)) = ask(connection, draft)? else { return Ok(None) };
    match verdict.decision {
        Decision::Later(verdict) => Ok(Some(Undecided::Verdict(draft, verdict))),
        Decision::Now(ruling) => Ok(obey(connection, draft, ruling)?.map(Undecided::Sending)),
    }
}

/// Waits for the policy's decision and for other nodes. The client's next messages wait in the inbox.
pub(super) async fn decide(connection: &mut Connection, undecided: Undecided<'_>) -> Result<(), End> {
    let (mut draft, mut verdict) = match undecided {
        Undecided::Verdict(draft, verdict) => (draft, verdict),
        Undecided::Sending(sending) => return finish(connection, sending).await,
    };
    loop {
        let hook = Hook::MaySendDirect;
        match waiting::ask_about_message(connection, &mut draft.gone, hook, verdict).await? {
            Some(Verdict { decision: Decision::Later(next), .. }) => verdict = next,
            Some(Verdict { decision: Decision::Now(ruling), .. }) => {
                return match obey(connection, draft, ruling)? {
                    Some(sending) => finish(connection, sending).await,
                    None => Ok(()),
                };
            }
            None => {
                let error = PeerError::new(ErrorCode::Internal, "the policy gave no answer; try again");
                return connection.refuse(error, draft.about());
            }
        }
    }
}

/// Waits until a message was sent to the sessions on all nodes.
async fn finish(connection: &mut Connection, sending: Sending<'_>) -> Result<(), End> {
    let Sending { mut draft, body, sent } = sending;
    match waiting::watch_answer(connection, &mut draft.gone, sent).await? {
        Ok(reached) => {
            connection.attachment().note_direct(draft.cid.as_deref(), reached)?;
            conclude(connection, &draft, body.as_deref(), reached)
        }
        Err(Unavailable) => connection.refuse_unavailable(draft.about()),
    }
}

/// Checks the keys and the sender. Returns `None` if the client has been answered.
fn check<'a>(connection: &mut Connection, message: Direct<'a>) -> Result<Option<Draft<'a>>, End> {
    let Direct { to, body, cid } = message;
    let cid = match cid.map(resume::cid).transpose() {
        Ok(cid) => cid,
        Err(error) => return connection.refuse(error, About::Nothing).map(|()| None),
    };
    if let Some(cid) = &cid
        && let Some(reached) = connection.attachment().reached_by(cid)?
    {
        connection.send(&direct::ack(cid, reached));
        return Ok(None);
    }
    let Some(from) = connection.attachment().session().user() else {
        let error = PeerError::new(ErrorCode::Denied, "only authenticated users can send direct messages");
        let about = cid.as_deref().map_or(About::Nothing, About::Message);
        return connection.refuse(error, about).map(|()| None);
    };
    Ok(Some(Draft { from, to, body, cid, gone: None }))
}

/// Asks the policy. Returns `None` if the client has been answered.
fn ask<'a>(connection: &mut Connection, draft: Draft<'a>) -> Result<Option<(Draft<'a>, Verdict)>, End> {
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy() else {
        let error = PeerError::new(ErrorCode::Denied, "this server does not allow direct messages");
        return connection.refuse(error, draft.about()).map(|()| None);
    };
    let session = connection.attachment().session();
    let request = DirectRequest {
        connection: session.id(),
        peer: session.peer(),
        user: &draft.from,
        to: &draft.to,
        cid: draft.cid.as_deref(),
        body: &whole(&draft.body),
    };
    let verdict =
        guard::call(connection.hook_times(), Hook::MaySendDirect, || policy.may_send_direct(&request))?;
    Ok(Some((draft, verdict)))
}

/// Applies the policy's ruling. Returns what the message waits for, if there are other nodes.
fn obey<'a>(
    connection: &mut Connection,
    mut draft: Draft<'a>,
    ruling: Ruling,
) -> Result<Option<Sending<'a>>, End> {
    let replaced = match ruling {
        Ruling::Allow => None,
        Ruling::Replace(text) => Some(direct::replacement(&text, draft.cid.as_deref())),
        // The sender must not notice that its message was dropped.
        Ruling::Drop => return send_to_sessions(connection, draft, None),
        Ruling::Refuse(denied) => {
            let error = PeerError::new(ErrorCode::Denied, denied.into_reason());
            return connection.refuse(error, draft.about()).map(|()| None);
        }
    };
    let body = replaced.as_deref().unwrap_or(&draft.body);
    let frame = DirectFrame::of_user(body, draft.from.id(), draft.from.name());
    if connection.config().limits.is_too_big(frame.len()) {
        let error = match replaced {
            None => PeerError::new(ErrorCode::TooBig, "the message is too long"),
            Some(_) => {
                tracing::error!("the policy's replacement is too big; the direct message is dropped");
                PeerError::new(ErrorCode::Internal, "the message could not be sent")
            }
        };
        return connection.refuse(error, draft.about()).map(|()| None);
    }
    let body = replaced.unwrap_or_else(|| std::mem::take(&mut draft.body));
    send_to_sessions(connection, draft, Some((frame, body)))
}

/// Sends a message to the sessions of its user. Returns what it waits for, if there are other nodes. Without a frame, it
/// only looks to the sender as if it had been sent.
fn send_to_sessions<'a>(
    connection: &mut Connection,
    draft: Draft<'a>,
    message: Option<(DirectFrame, String)>,
) -> Result<Option<Sending<'a>>, End> {
    let (frame, body) = message.map(|(frame, body)| (Arc::new(frame), body)).unzip();
    let engine = connection.engine();
    if engine.nodes().is_some() {
        let cid = draft.cid.as_deref().map(str::to_owned);
        let (engine, sender, to) = (engine.clone(), connection.attachment().id(), draft.to.to_string());
        let sent =
            async move { engine.send_direct_everywhere(DirectToSend { sender, to, cid, frame }).await };
        return Ok(Some(Sending { draft, body, sent: Box::pin(sent) }));
    }
    let sent = connection.attachment().send_direct(&draft.to, frame.as_ref(), draft.cid.as_deref())?;
    if sent.is_repeated {
        acknowledge(connection, &draft, sent.reached);
        return Ok(None);
    }
    conclude(connection, &draft, body.as_deref(), sent.reached).map(|()| None)
}

/// Acknowledges a message, and tells the host of it unless it was dropped.
fn conclude(connection: &Connection, draft: &Draft<'_>, body: Option<&str>, reached: u64) -> Result<(), End> {
    acknowledge(connection, draft, reached);
    let (Some(events), Some(body)) = (connection.engine().sessions.events(), body) else { return Ok(()) };
    let event = DirectMessage {
        connection: connection.attachment().id(),
        user: &draft.from,
        to: &draft.to,
        body: &whole(body),
        reached: reached as usize,
    };
    Ok(guard::call(connection.hook_times(), Hook::Direct, || events.direct(&event))?)
}

fn acknowledge(connection: &Connection, draft: &Draft<'_>, reached: u64) {
    if let Some(cid) = &draft.cid {
        connection.send(&direct::ack(cid, reached));
    }
}

/// The complete object, for hooks.
fn whole(body: &str) -> String {
    format!("{body}}}")
}
