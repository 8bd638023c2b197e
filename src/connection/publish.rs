//! Publishing: a member sends a message to its room.

use std::borrow::Cow;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::delivery::NotPublished;
use crate::hooks::events;
use crate::hooks::guard;
use crate::hooks::policy::{MessageRequest, Ruling};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{Body, Publish, RoomField};
use crate::protocol::outbound::{self, About};
use crate::protocol::resume;
use crate::session::{Membership, Published};

/// While readers catch up, the sender checks this often whether they have.
const LOOK: Duration = Duration::from_millis(10);

/// The outcome of an attempt to publish.
pub(super) enum Attempt<'a> {
    /// It was published, or refused.
    Done,
    /// The room has to catch up first.
    Wait(Message<'a>, NotPublished),
}

/// A message that may be published.
pub(super) struct Message<'a> {
    event: Cow<'a, str>,
    /// Without it, the message is for the only room that the client is in.
    room: Option<Cow<'a, str>>,
    body: Body<'a>,
    /// The whole object that the policy has replaced the message with.
    replaced: Option<String>,
    cid: Option<Cow<'a, str>>,
}

/// Not an async fn, because every connection would reserve memory for its future.
pub(super) fn publish<'a>(
    connection: &mut Connection,
    text: &'a str,
    message: Publish<'a>,
) -> Result<Attempt<'a>, End> {
    let Some(message) = check(connection, text, message)? else { return Ok(Attempt::Done) };
    match attempt(connection, text, &message)? {
        None => Ok(Attempt::Done),
        Some(why) => Ok(Attempt::Wait(message, why)),
    }
}

/// Makes a sender wait that fills a room faster than it empties. Its own frames still reach it.
pub(super) async fn publish_later(
    connection: &mut Connection,
    text: &str,
    message: Message<'_>,
    mut why: NotPublished,
) -> Result<(), End> {
    loop {
        connection.attachment().keep_waiting();
        match why {
            NotPublished::Closed => return Ok(()),
            NotPublished::BatchFull => connection.watch(yield_now()).await?,
            NotPublished::Held => connection.watch(sleep(LOOK)).await?,
        }
        match attempt(connection, text, &message)? {
            None => return Ok(()),
            Some(still) => why = still,
        }
    }
}

/// Publishes a message. If it has to wait, returns why.
fn attempt(
    connection: &mut Connection,
    text: &str,
    message: &Message<'_>,
) -> Result<Option<NotPublished>, End> {
    let cid = message.cid.as_deref();
    match connection.attachment().publish(message.room.as_deref(), &message.body, cid)? {
        Some(Ok(published)) => conclude(connection, text, message, &published).map(|()| None),
        // The room was closed, and the connection is about to end.
        Some(Err(NotPublished::Closed)) => Ok(None),
        Some(Err(why)) => Ok(Some(why)),
        None => not_entered(connection, message.room.as_deref(), cid).map(|()| None),
    }
}

/// Returns what is to be published; `None` if nothing is, and the client has had its answer.
fn check<'a>(
    connection: &mut Connection,
    text: &'a str,
    message: Publish<'a>,
) -> Result<Option<Message<'a>>, End> {
    let Publish { event, room, body, cid } = message;
    let cid = match cid.filter(|_| connection.is_v1()).map(resume::cid).transpose() {
        Ok(cid) => cid,
        Err(error) => return connection.refuse(error, About::Nothing).map(|()| None),
    };
    let about = cid.as_deref().map_or(About::Nothing, About::Message);
    let room = match room_of(connection, room) {
        Ok(room) => room,
        Err(error) => return connection.refuse(error, about).map(|()| None),
    };
    if connection.engine().policy().is_none() {
        return Ok(Some(Message { event, room, body, replaced: None, cid }));
    }
    if let Some(cid) = cid.as_deref()
        && let Some(seq) = connection.attachment().seq_of(cid)?
    {
        connection.send(&outbound::ack(cid, seq));
        return Ok(None);
    }
    let Some(ruling) = ask_policy(connection, room.as_deref(), &event, &body.for_hooks(text))? else {
        return not_entered(connection, room.as_deref(), cid.as_deref()).map(|()| None);
    };
    let (body, replaced) = match ruling {
        Ruling::Allow => (body, None),
        Ruling::Replace(text) => match replacement(connection, &text) {
            Some(body) => match cid.as_deref() {
                Some(cid) => (body.with_cid(cid), Some(text)),
                None => (body, Some(text)),
            },
            None => return connection.refuse(bad_replacement(), about).map(|()| None),
        },
        Ruling::Drop => {
            // The sender must not notice, so it looks as if the message had been published.
            let seq = connection.attachment().pretend_published(room.as_deref(), cid.as_deref())?;
            if let Some(cid) = cid.as_deref() {
                connection.send(&outbound::ack(cid, seq));
            }
            return Ok(None);
        }
        Ruling::Refuse(denied) => {
            let error = PeerError::new(ErrorCode::Denied, denied.into_reason());
            return connection.refuse(error, about).map(|()| None);
        }
    };
    Ok(Some(Message { event, room, body, replaced, cid }))
}

/// The room that a `chat-rooms.v1` client names.
pub(super) fn room_of<'a>(
    connection: &Connection,
    room: Option<RoomField<'a>>,
) -> Result<Option<Cow<'a, str>>, PeerError> {
    match room.filter(|_| connection.is_v1()) {
        None => Ok(None),
        Some(RoomField::Id(room)) => Ok(Some(room)),
        Some(RoomField::Invalid | RoomField::OtherKey) => {
            Err(PeerError::new(ErrorCode::BadRoomId, "the room id must be a string or a number"))
        }
    }
}

/// Asks the policy about a message. `None` if the client is not in this room or, without a room, not in exactly one.
pub(super) fn ask_policy(
    connection: &Connection,
    room: Option<&str>,
    event: &str,
    body: &str,
) -> Result<Option<Ruling>, End> {
    let Some(policy) = connection.engine().policy() else { return Ok(Some(Ruling::Allow)) };
    let Some(membership) = connection.attachment().membership(room) else { return Ok(None) };
    let user = connection.attachment().session().user();
    let request = MessageRequest {
        connection: connection.attachment().id(),
        user: user.as_deref(),
        name: &membership.name,
        room: membership.room.id(),
        event,
        body,
    };
    Ok(Some(guard::call("may_send", || policy.may_send(&request))?.0))
}

/// The body of the policy's replacement, if it can be sent.
pub(super) fn replacement(connection: &Connection, text: &str) -> Option<Body<'static>> {
    if connection.config().limits.is_too_big(text.len()) { None } else { Body::of_host_for_member(text) }
}

/// Logs that the policy's replacement can't be sent.
pub(super) fn bad_replacement() -> PeerError {
    tracing::error!("the policy's replacement is not a JSON object or is too big; the message is dropped");
    PeerError::new(ErrorCode::Internal, "the message could not be sent")
}

pub(super) fn not_entered(
    connection: &mut Connection,
    room: Option<&str>,
    cid: Option<&str>,
) -> Result<(), End> {
    let text = match room {
        None if connection.attachment().is_in_a_room() => {
            "you are in several rooms: name the one that the message is for as \"roomId\""
        }
        _ => "enter the room first: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}",
    };
    let about = cid.map_or(About::Nothing, About::Message);
    connection.refuse(PeerError::new(ErrorCode::NotEntered, text), about)
}

/// Tells the sender and the host that the message has its place in the room's order.
fn conclude(
    connection: &Connection,
    text: &str,
    message: &Message<'_>,
    published: &Published,
) -> Result<(), End> {
    if let Some(cid) = message.cid.as_deref() {
        connection.send(&outbound::ack(cid, published.seq));
    }
    if published.is_repeated {
        return Ok(());
    }
    connection.engine().context.counters.messages.add(1);
    let Some(events) = connection.engine().sessions.events() else { return Ok(()) };
    let Membership { room, name, .. } = &*published.membership;
    let user = connection.attachment().session().user();
    let body = match &message.replaced {
        Some(replaced) => Cow::Borrowed(replaced.as_str()),
        None => message.body.for_hooks(text),
    };
    let event = events::Message {
        connection: connection.attachment().id(),
        room: room.id(),
        name,
        user: user.as_ref(),
        event: &message.event,
        body: &body,
    };
    Ok(guard::call("message", || events.message(&event))?)
}
