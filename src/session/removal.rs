//! Removes members from their rooms while their sessions go on.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::EntryId;
use crate::delivery::{LiveRoom, Recipient};
use crate::ids::{Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::session::session::{Generation, Membership, Phase, Session, State, Superseded};
use crate::session::sessions::{Ended, Sessions};
use crate::sync::MutexGuard;

/// Removes an anonymous member from a room, because the user whose name it has enters. Its connection stays open, and
/// gets these frames. Does nothing if the member has left, changed its name, or authenticated meanwhile.
pub(crate) fn remove_anonymous(
    sessions: &Sessions,
    session: &Arc<Session>,
    room: &str,
    name: &Name,
    frames: &Bytes,
) {
    let state = session.state();
    let Some(own) = state.memberships.find(room).cloned() else { return };
    let (rooms, user) = (sessions.rooms(), state.user.as_deref());
    if rooms.is_anonymous_holder(&own.room, session.id(), &own.name, user, name) {
        remove_locked(sessions, session, state, own.room.id(), LeaveReason::NameTaken, frames);
    }
}

/// Removes a member that the broker does not know any more, because another one has got its name.
pub(crate) fn remove_evicted(
    sessions: &Sessions,
    session: &Arc<Session>,
    room: &RoomId,
    entry: EntryId,
    frames: &Bytes,
) {
    let state = session.state();
    let membership = state.memberships.find(room.as_str());
    if membership.is_some_and(|membership| sessions.rooms().has_entry(&membership.room, entry)) {
        remove_locked(sessions, session, state, room, LeaveReason::NameTaken, frames);
    }
}

/// Removes a member of which it is not known whether the broker still has it.
pub(super) fn remove_uncertain(
    sessions: &Sessions,
    session: &Arc<Session>,
    membership: &Arc<Membership>,
    reason: LeaveReason,
) {
    let state = session.state();
    let is_in = state.memberships.all().iter().any(|other| Arc::ptr_eq(other, membership));
    if !is_in || sessions.rooms().is_closed(&membership.room) {
        return;
    }
    let room = membership.room.id();
    let left = outbound::left(room.as_str(), Some((ErrorCode::Unavailable.as_str(), "enter the room again")));
    let frames = match session.subprotocol() {
        Subprotocol::Plain => Bytes::new(),
        Subprotocol::V1 => frame::text(left.as_bytes()),
    };
    remove_locked(sessions, session, state, room, reason, &frames);
}

/// Removes a member from a room that was closed. The connection of a plain client is closed.
pub(crate) fn remove_from_closed(sessions: &Sessions, session: &Arc<Session>, room: &LiveRoom) {
    if session.subprotocol() == Subprotocol::Plain {
        sessions.close(session, LeaveReason::RoomClosed);
        return;
    }
    let left = outbound::left(room.id().as_str(), Some(("room_closed", "the room was closed")));
    let state = session.state();
    // The client may already be in a new room with the same id.
    if state.memberships.all().iter().any(|membership| std::ptr::eq(&*membership.room, room)) {
        let frames = frame::text(left.as_bytes());
        remove_locked(sessions, session, state, room.id(), LeaveReason::RoomClosed, &frames);
    }
}

/// Removes a member from a room. Its connection gets these frames before the member can enter again. A session without
/// a connection ends if nothing else makes it worth resuming.
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
    let ended = if is_over { sessions.end(session, &mut state, reason) } else { Ended::default() };
    drop(state);
    sessions.after_end(session, ended);
}

/// Removes a client from a room that was closed while the client was entering: closing has only removed the members
/// that were in the room before.
pub(super) fn check_closed(sessions: &Sessions, session: &Arc<Session>, room: &LiveRoom) {
    if !sessions.rooms().is_closed(room) {
        return;
    }
    match sessions.admission().is_closing() {
        true => drop(sessions.close(session, LeaveReason::Shutdown)),
        false => remove_from_closed(sessions, session, room),
    }
}

/// Ends the membership in a room, if there is one, at the client's own request or because its connection has found a reason.
/// The client gets these frames; its connection stays.
pub(super) fn leave_room(
    sessions: &Sessions,
    session: &Arc<Session>,
    generation: Generation,
    room: &RoomId,
    reason: LeaveReason,
    frames: &Bytes,
) -> Result<(), Superseded> {
    let mut state = session.state_of(generation)?;
    sessions.memberships().end(session, &mut state, room.as_str(), reason);
    session.send(Some(sessions.rooms().key(room)), frames);
    Ok(())
}
