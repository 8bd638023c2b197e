//! Leaving a room in `chat-rooms.v1`.

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::join;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::RoomField;
use crate::protocol::outbound::About;
use crate::protocol::{frame, outbound};

/// A client that is not in the room gets the same answer, so it may repeat the request.
pub(super) fn leave(connection: &mut Connection, room: RoomField<'_>) -> Result<(), End> {
    let room = match join::room_id(connection, &room) {
        Ok(room) => room,
        Err(error) => return connection.refuse(error, About::Nothing),
    };
    let answer = frame::text(outbound::left(room.as_str(), None).as_bytes());
    connection.attachment().leave_room(&room, LeaveReason::Left, &answer)?;
    Ok(connection.attachment().run_callbacks()?)
}

/// Removes a client that has resumed its session from the rooms that it has not entered again in time. Otherwise it would
/// be a member that the policy has not been asked about.
pub(super) fn leave_others(connection: &mut Connection) -> Result<(), End> {
    for membership in connection.attachment().memberships() {
        let room = membership.room.id();
        if connection.attachment().is_inactive(room.as_str()) {
            let text = "the room was not entered again in time after the session was resumed";
            let error = PeerError::new(ErrorCode::NotEntered, text);
            connection.remove(room, LeaveReason::NeverEntered, &error)?;
        }
    }
    Ok(())
}
