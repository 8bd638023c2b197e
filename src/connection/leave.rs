//! Leaving a room in `chat-rooms.v1`.

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::join;
use crate::protocol::close::LeaveReason;
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
