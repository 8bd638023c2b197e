//! Decides which of a room's earlier frames a client gets when it enters.

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::delivery::ReplayRequest;
use crate::hooks::policy::ReadRequest;
use crate::ids::{Name, RoomId};

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
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy().filter(|_| connection.config().recovery.history.is_some()) else {
        return Ok(Some(replay_request));
    };
    let session = connection.attachment().session().clone();
    let user = session.user();
    let last = match replay_request {
        ReplayRequest::Last(n) => Some(n),
        ReplayRequest::Since(_) | ReplayRequest::PartSince(_) => None,
    };
    let request = ReadRequest {
        connection: session.id(),
        peer: session.peer(),
        user: user.as_deref(),
        name,
        room,
        last,
    };
    match waiting::ask(connection, "may_read", async { policy.may_read(&request).await }).await? {
        Some(Ok(())) => Ok(Some(replay_request)),
        Some(Err(_)) | None => Ok(match replay_request {
            // The answer still says how many messages follow.
            ReplayRequest::Last(_) => Some(ReplayRequest::Last(0)),
            ReplayRequest::Since(_) | ReplayRequest::PartSince(_) => start.map(ReplayRequest::PartSince),
        }),
    }
}
