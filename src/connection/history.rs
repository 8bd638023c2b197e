//! What a client gets of a room's earlier frames: when it enters, and when it asks for messages.

use std::time::Duration;

use tokio::time::timeout;
use tower_chat_rooms_protocol::{DEFAULT_HISTORY, MAX_HISTORY};

use crate::broker::Unavailable;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::presence::{not_entered, room_of};
use crate::connection::waiting;
use crate::delivery::{EnterOutcome, Page, ReadAhead, ReplayRequest, Rooms};
use crate::hooks::policy::ReadRequest;
use crate::hooks::user::Denied;
use crate::ids::{MessageId, Name, RoomId};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{HistoryKeys, HistoryRequest};
use crate::protocol::outbound::About;
use crate::protocol::{frame, history, resume};
use crate::stats::Hook;
use crate::store::PageRange;

/// The most messages from the store that a client gets because it has missed them.
const MAX_MISSED: usize = 500;

/// How many times messages are read, because the room may get further frames meanwhile.
const READS: usize = 3;

/// How long the store may take if messages are read after the client has entered. Frames of the room wait meanwhile.
const READ_AGAIN_WAIT: Duration = Duration::from_secs(1);

/// Returns the part of the requested frames that the client may receive. A returning member may receive everything that
/// was published during its membership. For everything else, the policy is asked. If it refuses, the client still
/// enters, but gets fewer frames.
pub(super) async fn allowed(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    replay_request: Option<ReplayRequest>,
) -> Result<Option<ReplayRequest>, End> {
    let Some(replay_request) = replay_request else { return Ok(None) };
    if matches!(replay_request, ReplayRequest::Last(_))
        && connection.attachment().active_membership(Some(room.as_str())).is_some()
    {
        // It is in the room, and gets everything anyway.
        return Ok(None);
    }
    waiting::until_answers_are_read(connection).await?;
    let start = connection.attachment().membership(room.as_str()).map(|membership| membership.start);
    if let (ReplayRequest::Since(since), Some(start)) = (replay_request, start)
        && since.epoch == start.epoch
        && since.seq >= start.seq
    {
        return Ok(Some(replay_request));
    }
    let has_history = connection.config().recovery.history.is_some() || connection.engine().rooms.has_store();
    if !has_history {
        return Ok(Some(replay_request));
    }
    let last = match replay_request {
        ReplayRequest::Last(n) => Some(n),
        ReplayRequest::Since(_) | ReplayRequest::PartSince(_) => None,
    };
    match may_read(connection, room, name, last).await? {
        Some(Ok(())) => Ok(Some(replay_request)),
        Some(Err(_)) | None => Ok(match replay_request {
            // The answer still says how many messages follow.
            ReplayRequest::Last(_) => Some(ReplayRequest::Last(0)),
            ReplayRequest::Since(_) | ReplayRequest::PartSince(_) => start.map(ReplayRequest::PartSince),
        }),
    }
}

/// Asks the policy whether a client may read earlier messages. Returns `None` if it gave no answer.
async fn may_read(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    last: Option<usize>,
) -> Result<Option<Result<(), Denied>>, End> {
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy() else { return Ok(Some(Ok(()))) };
    let session = connection.attachment().session().clone();
    let user = session.user();
    let (id, peer, user) = (session.id(), session.peer(), user.as_deref());
    let request = ReadRequest { connection: id, peer, user, name, room, last };
    waiting::ask(connection, Hook::MayRead, async { policy.may_read(&request).await }).await
}

/// Reads messages from the store for a client that is about to enter, if the room does not have them in memory. `last_id`
/// is the id of the latest message that the client has.
pub(super) async fn read_ahead(
    connection: &mut Connection,
    room: &RoomId,
    replay_request: Option<ReplayRequest>,
    last_id: Option<MessageId>,
) -> Result<Option<ReadAhead>, End> {
    let engine = connection.engine().clone();
    let rooms = &engine.rooms;
    let Some((after, limit)) = to_read(rooms, room, replay_request, last_id) else { return Ok(None) };
    connection.attachment().keep_waiting();
    connection.rates().keep_waiting();
    let mut latest = None;
    for _ in 0..READS {
        match waiting::watch(connection, rooms.read_ahead(room, after, limit)).await? {
            Ok(read) if rooms.has_kept_since(room, read.at) => return Ok(Some(read)),
            Ok(read) => latest = Some(read),
            // The client enters nevertheless.
            Err(Unavailable) => return Ok(None),
        }
    }
    Ok(latest)
}

/// Reads the messages again for a client that has entered, if frames between `read` and the enter would be missing. Later
/// frames of the room wait meanwhile, so no frame is missing. Returns `None` if `read` is complete, or if the store does
/// not answer in time.
pub(super) async fn read_again(
    connection: &mut Connection,
    room: &RoomId,
    replay_request: Option<ReplayRequest>,
    last_id: Option<MessageId>,
    read: Option<&ReadAhead>,
    outcome: &EnterOutcome,
) -> Result<Option<ReadAhead>, End> {
    let is_complete = outcome.replay.as_ref().is_some_and(|replay| replay.is_complete);
    if is_complete || read.is_none_or(|read| outcome.follows(read.at)) {
        return Ok(None);
    }
    let engine = connection.engine().clone();
    let rooms = &engine.rooms;
    let Some((after, limit)) = to_read(rooms, room, replay_request, last_id) else { return Ok(None) };
    connection.attachment().keep_waiting();
    connection.rates().keep_waiting();
    let again = timeout(READ_AGAIN_WAIT, rooms.read_ahead(room, after, limit));
    Ok(waiting::watch(connection, again).await?.ok().and_then(Result::ok))
}

/// The message after which the client wants messages from the store, and how many at most. `None` if it wants none.
fn to_read(
    rooms: &Rooms,
    room: &RoomId,
    replay_request: Option<ReplayRequest>,
    last_id: Option<MessageId>,
) -> Option<(Option<MessageId>, usize)> {
    let can_replay = |since| rooms.get(room.as_str()).is_some_and(|room| room.can_replay(since));
    match replay_request.filter(|_| rooms.has_store())? {
        ReplayRequest::Last(n) if n > 0 => Some((None, n)),
        ReplayRequest::Since(since) if last_id.is_some() && !can_replay(since) => Some((last_id, MAX_MISSED)),
        _ => None,
    }
}

/// Sends the client a page of a room's messages.
pub(super) async fn send(connection: &mut Connection, request: HistoryRequest<'_>) -> Result<(), End> {
    let cid = match request.cid.map(resume::cid).transpose() {
        Ok(cid) => cid,
        Err(error) => return connection.refuse(error, About::Nothing),
    };
    let about = cid.as_deref().map_or(About::Nothing, About::Message);
    let room = match room_of(&request.room) {
        Ok(room) => room,
        Err(error) => return connection.refuse(error, about),
    };
    waiting::until_answers_are_read(connection).await?;
    let Some(membership) = connection.attachment().active_membership(room) else {
        return not_entered(connection, about);
    };
    let HistoryKeys { before, after, limit } = request.keys;
    let limit = limit.unwrap_or(DEFAULT_HISTORY).min(MAX_HISTORY);
    let id = membership.room.id();
    match may_read(connection, id, &membership.name, Some(limit)).await? {
        Some(Ok(())) => {}
        Some(Err(denied)) => {
            return connection.refuse(PeerError::new(ErrorCode::Denied, denied.into_reason()), about);
        }
        None => {
            let text = "the room's policy gave no answer; try again";
            return connection.refuse(PeerError::new(ErrorCode::Internal, text), about);
        }
    }
    let range = match (before, after) {
        (Some(before), _) => PageRange::Before(before),
        (None, Some(after)) => PageRange::After(after),
        (None, None) => PageRange::Latest,
    };
    connection.attachment().keep_waiting();
    let engine = connection.engine().clone();
    let Page { messages, has_more } =
        match waiting::watch(connection, engine.rooms.read(id, range, limit)).await? {
            Ok(page) => page,
            Err(Unavailable) => {
                return connection.send_unavailable("the messages could not be read; try again", about);
            }
        };
    // It may have been removed from the room meanwhile.
    if connection.attachment().active_membership(Some(id.as_str())).is_none() {
        return not_entered(connection, about);
    }
    let texts = messages.iter().map(|(_, text)| &**text);
    let answer = history::answer(id.as_str(), cid.as_deref(), texts, has_more);
    connection.attachment().send_history(&membership, &frame::text(answer.as_bytes()));
    Ok(())
}
