//! Transient frames: a member sends something that is of no use later, such as that it is typing.

use tower_chat_rooms_protocol::MAX_TRANSIENT_BYTES;

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::publish::{ask_policy, bad_replacement, not_entered, replacement, room_of};
use crate::hooks::policy::Ruling;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::Publish;
use crate::protocol::outbound::About;
use crate::protocol::resume;

/// Unlike a message, it gets no acknowledgement, and its `cid` is not remembered.
pub(super) fn send(connection: &mut Connection, text: &str, message: Publish<'_>) -> Result<(), End> {
    let Publish { event, room, body, cid } = message;
    let cid = cid.and_then(|cid| resume::cid(cid).ok());
    let about = cid.as_deref().map_or(About::Nothing, About::Message);
    if text.len() > MAX_TRANSIENT_BYTES {
        let text = format!("a transient frame may have at most {MAX_TRANSIENT_BYTES} bytes");
        return connection.refuse(PeerError::new(ErrorCode::TooBig, text), about);
    }
    let room = match room_of(connection, room) {
        Ok(room) => room,
        Err(error) => return connection.refuse(error, about),
    };
    let Some(ruling) = ask_policy(connection, room.as_deref(), &event, &body.for_hooks(text))? else {
        return not_entered(connection, room.as_deref(), cid.as_deref());
    };
    let body = match ruling {
        Ruling::Allow => body,
        Ruling::Replace(text) => match replacement(connection, &text) {
            Some(body) => body,
            None => return connection.refuse(bad_replacement(), about),
        },
        Ruling::Drop => return Ok(()),
        Ruling::Refuse(denied) => {
            return connection.refuse(PeerError::new(ErrorCode::Denied, denied.into_reason()), about);
        }
    };
    match connection.attachment().send_transient(room.as_deref(), &event, &body)? {
        true => Ok(()),
        false => not_entered(connection, room.as_deref(), cid.as_deref()),
    }
}
