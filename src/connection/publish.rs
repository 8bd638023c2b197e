//! Publishing: a member sends a message to its room.

use std::borrow::Cow;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tower_chat_rooms_protocol::MAX_TRANSIENT_BYTES;

use crate::broker::{Submitted, Unavailable};
use crate::config::Keep;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::delivery::{Called, Calling, Kept, NotPublished};
use crate::hooks::guard;
use crate::hooks::policy::{BoxFuture, Decision, MessageRequest, Ruling, Verdict};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{self, Body, Publish, RoomField};
use crate::protocol::outbound::{self, About};
use crate::protocol::receipt::Receipt;
use crate::protocol::resume;
use crate::session::{MessageCommand, Published, Submission};
use crate::stats::Hook;

/// While readers catch up, the sender checks this often whether they have.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// While earlier frames are on their way through the broker or the store, the sender checks this often whether they have
/// arrived.
const IN_FLIGHT_POLL: Duration = Duration::from_millis(1);

/// The outcome of an attempt to publish.
pub(super) enum Attempt<'a> {
    /// It was published, or refused.
    Done,
    /// The room has to catch up first.
    Wait(Message<'a>, NotPublished),
    /// The policy decides later.
    Undecided(Draft<'a>, BoxFuture<'static, Verdict>),
    /// It was published, and another callback for the room must return before that for the message is called.
    Calling(Called),
}

/// Why an attempt has not concluded yet.
enum Unfinished {
    Wait(NotPublished),
    Calling(Called),
}

/// A message that the policy has yet to decide on.
pub(super) struct Draft<'a> {
    event: Cow<'a, str>,
    /// `None` if the message is for the only room that the client is in.
    room: Option<Cow<'a, str>>,
    body: Body<'a>,
    cid: Option<Cow<'a, str>>,
    /// When it is stored, as far as the policy has decided.
    keep: Option<Keep>,
    /// Its sender expects no acknowledgement, and its `cid` is not remembered.
    is_transient: bool,
    /// When it was received, if its delivery is measured.
    received: Option<Duration>,
    /// When the connection was found to be closed or lost while the message had to wait.
    gone: Option<Instant>,
}

/// A message that may be published.
pub(super) struct Message<'a> {
    draft: Draft<'a>,
    /// The whole object that the policy has replaced the message with.
    replaced: Option<String>,
    /// It has no place in the room log. Not always as in the draft: the event of the replacement counts.
    is_transient: bool,
}

impl Draft<'_> {
    fn about(&self) -> About<'_> {
        self.cid.as_deref().map_or(About::Nothing, About::Message)
    }

    /// The id under which the session remembers the message.
    fn id(&self) -> Option<&str> {
        self.cid.as_deref().filter(|_| !self.is_transient)
    }
}

impl Message<'_> {
    /// `text` is the frame as the client has sent it.
    fn command<'b>(&'b self, connection: &Connection, text: &'b str) -> MessageCommand<'b> {
        let default = connection.config().keep.unwrap_or_default();
        let Draft { event, room, body, .. } = &self.draft;
        MessageCommand {
            room: room.as_deref(),
            event,
            body,
            cid: self.draft.id(),
            text,
            replaced: self.replaced.as_deref(),
            keep: self.draft.keep.unwrap_or(default),
            received: self.draft.received,
        }
    }
}

/// Not an async fn, because every connection would reserve memory for its future.
pub(super) fn publish<'a>(
    connection: &mut Connection,
    text: &'a str,
    message: Publish<'a>,
) -> Result<Attempt<'a>, End> {
    let Some(draft) = check(connection, text, message)? else { return Ok(Attempt::Done) };
    let Some((mut draft, verdict)) = ask(connection, text, draft)? else { return Ok(Attempt::Done) };
    draft.keep = verdict.keep;
    match verdict.decision {
        Decision::Later(verdict) => Ok(Attempt::Undecided(draft, verdict)),
        Decision::Now(ruling) => obey(connection, text, draft, ruling),
    }
}

/// Waits for the policy's decision. The client's next messages wait in the inbox.
pub(super) async fn decide(
    connection: &mut Connection,
    text: &str,
    mut draft: Draft<'_>,
    mut verdict: BoxFuture<'static, Verdict>,
) -> Result<(), End> {
    let ruling = loop {
        match waiting::ask_about_message(connection, &mut draft.gone, Hook::MaySend, verdict).await? {
            Some(Verdict { decision, keep }) => {
                draft.keep = keep.or(draft.keep);
                match decision {
                    Decision::Later(next) => verdict = next,
                    Decision::Now(ruling) => break ruling,
                }
            }
            None => {
                let text = "the room's policy gave no answer; try again";
                return connection.refuse(PeerError::new(ErrorCode::Internal, text), draft.about());
            }
        }
    };
    match obey(connection, text, draft, ruling)? {
        Attempt::Wait(message, why) => publish_later(connection, text, message, why).await,
        Attempt::Calling(called) => until_called(connection, called).await,
        Attempt::Done | Attempt::Undecided(..) => Ok(()),
    }
}

/// Waits until the host's callback for a message was called, so that the callbacks of the sender are in order.
pub(super) async fn until_called(connection: &mut Connection, called: Called) -> Result<(), End> {
    connection.attachment().keep_waiting();
    connection.rates().keep_waiting();
    match waiting::watch_message(connection, &mut None, called).await? {
        Ok(result) => Ok(result?),
        // The runtime of the callbacks has ended.
        Err(_) => Ok(()),
    }
}

/// Applies the policy's ruling and tries to publish the message.
fn obey<'a>(
    connection: &mut Connection,
    text: &'a str,
    draft: Draft<'a>,
    ruling: Ruling,
) -> Result<Attempt<'a>, End> {
    let Some(message) = apply(connection, draft, ruling)? else { return Ok(Attempt::Done) };
    match attempt(connection, text, &message)? {
        None => Ok(Attempt::Done),
        Some(Unfinished::Wait(why)) => Ok(Attempt::Wait(message, why)),
        Some(Unfinished::Calling(called)) => Ok(Attempt::Calling(called)),
    }
}

/// Waits until the room can take the message. Meanwhile the sender still receives frames.
pub(super) async fn publish_later(
    connection: &mut Connection,
    text: &str,
    mut message: Message<'_>,
    mut why: NotPublished,
) -> Result<(), End> {
    loop {
        let unfinished = match why {
            NotPublished::Closed | NotPublished::ReadOnly => return Ok(()),
            NotPublished::StoreFull => return connection.refuse_unavailable(message.draft.about()),
            NotPublished::IsStored => keep(connection, text, &mut message).await?,
            NotPublished::IsRemote => submit(connection, text, &mut message).await?,
            NotPublished::BatchFull => {
                keep_waiting(connection, &mut message, yield_now()).await?;
                attempt(connection, text, &message)?
            }
            NotPublished::Held => {
                keep_waiting(connection, &mut message, sleep(POLL_INTERVAL)).await?;
                attempt(connection, text, &message)?
            }
            NotPublished::InFlight => {
                keep_waiting(connection, &mut message, sleep(IN_FLIGHT_POLL)).await?;
                attempt(connection, text, &message)?
            }
        };
        match unfinished {
            None => return Ok(()),
            Some(Unfinished::Calling(called)) => return until_called(connection, called).await,
            Some(Unfinished::Wait(still)) => why = still,
        }
    }
}

/// Waits before the next attempt to publish a message.
async fn keep_waiting(
    connection: &mut Connection,
    message: &mut Message<'_>,
    pause: impl Future<Output = ()>,
) -> Result<(), End> {
    connection.attachment().keep_waiting();
    connection.rates().keep_waiting();
    waiting::watch_message(connection, &mut message.draft.gone, pause).await
}

/// Has a message stored, and waits until that is done and the message has its place. If it has to wait before, returns
/// why.
async fn keep(
    connection: &mut Connection,
    text: &str,
    message: &mut Message<'_>,
) -> Result<Option<Unfinished>, End> {
    let keeping = match connection.attachment().keep(&message.command(connection, text))? {
        Some(Ok(keeping)) => keeping,
        Some(Err(NotPublished::Closed)) => return Ok(None),
        Some(Err(why)) => return Ok(Some(Unfinished::Wait(why))),
        None => return not_entered(connection, &message.draft).map(|()| None),
    };
    let gone = &mut message.draft.gone;
    match waiting::watch_answer(connection, gone, keeping).await? {
        Ok(Ok(Kept { receipt, is_repeated, called })) => {
            let calling = called.map(Calling::Later);
            conclude(connection, message, Published { receipt, is_repeated, calling })
        }
        // It could not be stored, or the room's task has ended.
        Ok(Err(Unavailable)) | Err(_) => connection.refuse_unavailable(message.draft.about()).map(|()| None),
    }
}

/// Submits a message to the broker that several nodes share, and waits until it has its place. If it has to wait before,
/// returns why.
async fn submit(
    connection: &mut Connection,
    text: &str,
    message: &mut Message<'_>,
) -> Result<Option<Unfinished>, End> {
    let submission = match connection.attachment().submit(&message.command(connection, text))? {
        Some(Ok(submission)) => submission,
        Some(Err(NotPublished::Closed)) => return Ok(None),
        Some(Err(why)) => return Ok(Some(Unfinished::Wait(why))),
        None => return not_entered(connection, &message.draft).map(|()| None),
    };
    let Submission { membership, submitted } = submission;
    let gone = &mut message.draft.gone;
    match waiting::watch_answer(connection, gone, submitted).await? {
        Ok(Submitted { position, id, is_repeat }) => {
            let (receipt, command) = (Receipt { position, id }, message.command(connection, text));
            let published =
                connection.attachment().accept_message(&membership, &command, receipt, is_repeat)?;
            conclude(connection, message, published)
        }
        Err(Unavailable) => connection.refuse_unavailable(message.draft.about()).map(|()| None),
    }
}

/// Publishes a message. If it has to wait, returns why.
fn attempt(
    connection: &mut Connection,
    text: &str,
    message: &Message<'_>,
) -> Result<Option<Unfinished>, End> {
    let Draft { event, room, body, .. } = &message.draft;
    if message.is_transient {
        return match connection.attachment().send_transient(room.as_deref(), event, body)? {
            Some(Err(NotPublished::ReadOnly)) => read_only(connection, &message.draft).map(|()| None),
            Some(_) if message.draft.is_transient => Ok(None),
            // The sender of a message waits for an acknowledgement.
            Some(_) => pretend_published(connection, &message.draft).map(|()| None),
            None => not_entered(connection, &message.draft).map(|()| None),
        };
    }
    match connection.attachment().publish(&message.command(connection, text))? {
        Some(Ok(published)) => conclude(connection, message, published),
        // The room was closed, and the connection is about to end.
        Some(Err(NotPublished::Closed)) => Ok(None),
        Some(Err(NotPublished::ReadOnly)) => read_only(connection, &message.draft).map(|()| None),
        Some(Err(why)) => Ok(Some(Unfinished::Wait(why))),
        None => not_entered(connection, &message.draft).map(|()| None),
    }
}

/// Checks the keys of the protocol. Returns `None` if the client has been answered.
fn check<'a>(
    connection: &mut Connection,
    text: &str,
    message: Publish<'a>,
) -> Result<Option<Draft<'a>>, End> {
    let Publish { event, room, body, cid } = message;
    let is_transient = connection.config().events.is_transient(&event);
    let cid = match cid.filter(|_| connection.is_v1()).map(resume::cid).transpose() {
        Ok(cid) => cid,
        Err(_) if is_transient => None,
        Err(error) => return connection.refuse(error, About::Nothing).map(|()| None),
    };
    let about = cid.as_deref().map_or(About::Nothing, About::Message);
    if is_transient && text.len() > MAX_TRANSIENT_BYTES {
        let text = format!("a transient frame may have at most {MAX_TRANSIENT_BYTES} bytes");
        return connection.refuse(PeerError::new(ErrorCode::TooBig, text), about).map(|()| None);
    }
    let room = match room.filter(|_| connection.is_v1()) {
        None => None,
        Some(RoomField::Id(room)) => Some(room),
        Some(RoomField::Invalid | RoomField::OtherKey) => {
            let error = PeerError::new(ErrorCode::BadRoomId, "the room id must be a string or a number");
            return connection.refuse(error, about).map(|()| None);
        }
    };
    let received = if is_transient { None } else { connection.sample() };
    Ok(Some(Draft { event, room, body, cid, keep: None, is_transient, received, gone: None }))
}

/// Asks the policy. Returns `None` if the client has been answered.
fn ask<'a>(
    connection: &mut Connection,
    text: &str,
    draft: Draft<'a>,
) -> Result<Option<(Draft<'a>, Verdict)>, End> {
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy() else { return Ok(Some((draft, Verdict::allow()))) };
    if let Some(cid) = draft.id()
        && let Some(receipt) = connection.attachment().receipt_of(cid)?
    {
        connection.send(&outbound::ack(cid, receipt));
        return Ok(None);
    }
    let Some(membership) = connection.attachment().active_membership(draft.room.as_deref()) else {
        return not_entered(connection, &draft).map(|()| None);
    };
    if membership.is_read_only() {
        return read_only(connection, &draft).map(|()| None);
    }
    let user = connection.attachment().session().user();
    let request = MessageRequest {
        connection: connection.attachment().id(),
        user: user.as_deref(),
        name: &membership.name,
        room: membership.room.id(),
        event: &draft.event,
        body: &draft.body.for_hooks(text),
    };
    let verdict = guard::call(connection.hook_times(), Hook::MaySend, || policy.may_send(&request))?;
    Ok(Some((draft, verdict)))
}

/// Returns the message to publish, or `None` if there is none and the client has been answered.
fn apply<'a>(
    connection: &mut Connection,
    mut draft: Draft<'a>,
    ruling: Ruling,
) -> Result<Option<Message<'a>>, End> {
    let replaced = match ruling {
        Ruling::Allow => None,
        Ruling::Replace(text) => match replacement(connection, &text) {
            Some((event, body)) => {
                draft.event = event;
                draft.body = match draft.id() {
                    Some(cid) => body.with_cid(cid),
                    None => body,
                };
                Some(text)
            }
            None => {
                tracing::error!(
                    "the policy's replacement is not a JSON object or is too big; the message is dropped"
                );
                let error = PeerError::new(ErrorCode::Internal, "the message could not be sent");
                return connection.refuse(error, draft.about()).map(|()| None);
            }
        },
        // The sender must not notice.
        Ruling::Drop => return pretend_published(connection, &draft).map(|()| None),
        Ruling::Refuse(denied) => {
            let error = PeerError::new(ErrorCode::Denied, denied.into_reason());
            return connection.refuse(error, draft.about()).map(|()| None);
        }
    };
    let is_transient = connection.config().events.is_transient(&draft.event);
    Ok(Some(Message { draft, replaced, is_transient }))
}

/// Answers a message as if it had been published, and remembers its id.
fn pretend_published(connection: &mut Connection, draft: &Draft<'_>) -> Result<(), End> {
    match connection.attachment().pretend_published(draft.room.as_deref(), draft.id())? {
        Some(receipt) => {
            if let Some(cid) = draft.id() {
                connection.send(&outbound::ack(cid, receipt));
            }
            Ok(())
        }
        None => not_entered(connection, draft),
    }
}

/// The event and the body of a replacement, if it can be sent.
fn replacement(connection: &Connection, text: &str) -> Option<(Cow<'static, str>, Body<'static>)> {
    if connection.config().limits.is_too_big(text.len()) {
        return None;
    }
    let event = inbound::event_of(text)?.into_owned();
    Some((event.into(), Body::of_host_for_member(text)?))
}

fn not_entered(connection: &mut Connection, draft: &Draft<'_>) -> Result<(), End> {
    let text = match draft.room {
        None if connection.attachment().memberships().len() > 1 => {
            "you are in several rooms: set \"roomId\" to the room of the message"
        }
        _ => "enter the room first: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}",
    };
    connection.refuse(PeerError::new(ErrorCode::NotEntered, text), draft.about())
}

fn read_only(connection: &mut Connection, draft: &Draft<'_>) -> Result<(), End> {
    let error = PeerError::new(ErrorCode::ReadOnly, "you may only read in this room");
    connection.refuse(error, draft.about())
}

/// Tells the sender and the host that the message has its place in the room's order.
fn conclude(
    connection: &Connection,
    message: &Message<'_>,
    published: Published,
) -> Result<Option<Unfinished>, End> {
    let Published { receipt, is_repeated, calling } = published;
    if let Some(cid) = message.draft.id() {
        connection.send(&outbound::ack(cid, receipt));
    }
    if !is_repeated {
        connection.engine().context.counters.messages.add(1);
    }
    match calling {
        None => Ok(None),
        Some(Calling::Now(call)) => Ok(call.call().map(|()| None)?),
        Some(Calling::Later(called)) => Ok(Some(Unfinished::Calling(called))),
    }
}
