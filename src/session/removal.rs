//! Removes members that did not ask to leave.

use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::{LiveRoom, Recipient};
use crate::ids::{Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::session::session::{Phase, Session, State};
use crate::session::sessions::Sessions;
use crate::sync::MutexGuard;

/// Removes an anonymous member from a room in favour of the user whose name it has. Its connection stays, and gets
/// these frames. It may have left, changed its name, or authenticated meanwhile; then it stays.
pub(crate) fn put_out(
    sessions: &Sessions,
    session: &Arc<Session>,
    room: &RoomId,
    name: &Name,
    reason: LeaveReason,
    frames: &Bytes,
) {
    let state = session.state();
    let has_name = state
        .memberships
        .find(room.as_str())
        .is_some_and(|own| sessions.rooms().is_anonymous_holder(&own.room, name, session.id()));
    if has_name {
        remove_locked(sessions, session, state, room, reason, frames);
    }
}

/// Removes a member from a room that was closed. The connection of a plain client is closed.
pub(crate) fn expel(sessions: &Sessions, session: &Arc<Session>, room: &LiveRoom) {
    if session.subprotocol() == Subprotocol::Plain {
        sessions.close(session, LeaveReason::RoomClosed);
        return;
    }
    let left = outbound::left(room.id().as_str(), Some(("room_closed", "the room was closed")));
    let state = session.state();
    // It may be in a new room with the same id by now.
    if state.memberships.all().iter().any(|membership| std::ptr::eq(&*membership.room, room)) {
        let frames = frame::text(left.as_bytes());
        remove_locked(sessions, session, state, room.id(), LeaveReason::RoomClosed, &frames);
    }
}

/// Removes a member from a room. Its connection gets these frames, before the member can enter again. A session
/// without a connection ends if there is nothing else to come back to.
fn remove_locked(
    sessions: &Sessions,
    session: &Arc<Session>,
    mut state: MutexGuard<'_, State>,
    room: &RoomId,
    reason: LeaveReason,
    frames: &Bytes,
) {
    let Some(left) = sessions.memberships().end(session, &mut state, room.as_str(), reason) else { return };
    session.send(Some(left.key()), frames);
    let is_over = matches!(state.phase, Phase::Detached(_)) && !state.is_worth_resuming();
    let absence = if is_over { sessions.end(session, &mut state, reason) } else { None };
    drop(state);
    sessions.after_end(session, absence);
}

/// Tells a client if its room was closed while it was entering, because nothing else does.
pub(super) fn check_closed(sessions: &Sessions, session: &Arc<Session>, room: &LiveRoom) {
    if !sessions.rooms().is_closed(room) {
        return;
    }
    match sessions.admission().is_closing() {
        true => drop(sessions.close(session, LeaveReason::Shutdown)),
        false => expel(sessions, session, room),
    }
}
