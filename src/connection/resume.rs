//! Resuming a session in `chat-rooms.v1`.

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::Resume;
use crate::protocol::outbound::About;
use crate::protocol::resume;

/// Continues the session that one of these tokens belongs to. The client gets no frames of a room before it enters it
/// again, because only then is the policy asked.
pub(super) fn resume(connection: &mut Connection, resume: Resume<'_>) -> Result<(), End> {
    let tokens = match resume::tokens(resume.tokens) {
        Ok(tokens) => tokens,
        Err(error) => return connection.refuse(error, About::Nothing),
    };
    if connection.attachment().is_in_a_room() {
        let text = "a session can be resumed only before a room is entered";
        return connection.refuse(PeerError::new(ErrorCode::BadShape, text), About::Nothing);
    }
    let has_resumed = connection.resume(&tokens)?;
    Ok(connection.attachment().answer_resume(has_resumed, resume.last_direct)?)
}
