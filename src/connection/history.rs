//! Which of a room's earlier frames a client may have when it enters.

use std::time::Duration;

use tokio::time::sleep;

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::delivery::ReplayRequest;
use crate::hooks::policy::ReadRequest;
use crate::ids::{Name, RoomId};

/// While a client has replays to read, this is how often it is checked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// A member that returns may have what was published while it was one. For everything else the policy is asked. If it
/// refuses, the client enters nevertheless, and gets less.
pub(super) async fn may_have(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    wants: Option<ReplayRequest>,
) -> Result<Option<ReplayRequest>, End> {
    let Some(wants) = wants else { return Ok(None) };
    if matches!(wants, ReplayRequest::Last(_))
        && connection.attachment().active_membership(Some(room.as_str())).is_some()
    {
        // It is in the room, and gets everything anyway.
        return Ok(None);
    }
    // The replays of several rooms are asked for at once. Those that the client has yet to read keep memory.
    while connection.attachment().replay_bytes() > connection.config().limits.max_queue_bytes {
        connection.attachment().keep_waiting();
        connection.watch(sleep(LOOK)).await?;
    }
    let start = connection.attachment().membership(room.as_str()).map(|membership| membership.start);
    if let (ReplayRequest::Since(since), Some(start)) = (wants, start)
        && since.epoch == start.epoch
        && since.seq >= start.seq
    {
        return Ok(Some(wants));
    }
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy().filter(|_| connection.config().recovery.history.is_some()) else {
        return Ok(Some(wants));
    };
    let session = connection.attachment().session().clone();
    let user = session.user();
    let last = match wants {
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
    match connection.ask("may_read", async { policy.may_read(&request).await }).await? {
        Some(Ok(())) => Ok(Some(wants)),
        Some(Err(_)) | None => Ok(match wants {
            // The answer still says how many messages follow.
            ReplayRequest::Last(_) => Some(ReplayRequest::Last(0)),
            ReplayRequest::Since(_) | ReplayRequest::PartSince(_) => start.map(ReplayRequest::PartSince),
        }),
    }
}
