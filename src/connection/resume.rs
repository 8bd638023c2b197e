//! Resuming a session in `chat-rooms.v1`.

use std::time::Duration;

use tokio::time::timeout;

use crate::broker::NotTaken;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::LastDirect;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::Resume;
use crate::protocol::outbound::About;
use crate::protocol::resume::{self, ResumeToken};

/// A client that has resumed its session waits no longer than this until the session can be resumed elsewhere again.
const RENAME_WAIT: Duration = Duration::from_secs(1);

/// A resume that may have to ask other nodes.
pub(super) struct Pending {
    tokens: Vec<ResumeToken>,
    last_direct: LastDirect,
}

/// Continues the session that one of these tokens belongs to. The client gets no frames of a room before it enters it
/// again, because only then is the policy asked.
pub(super) fn resume(connection: &mut Connection, resume: Resume<'_>) -> Result<Option<Pending>, End> {
    let tokens = match resume::tokens(resume.tokens) {
        Ok(tokens) => tokens,
        Err(error) => return connection.refuse(error, About::Nothing).map(|()| None),
    };
    if connection.attachment().is_in_a_room() {
        let text = "a session can be resumed only before a room is entered";
        let error = PeerError::new(ErrorCode::BadShape, text);
        return connection.refuse(error, About::Nothing).map(|()| None);
    }
    let last_direct = resume.last_direct;
    if connection.engine().rooms.is_remote() {
        return Ok(Some(Pending { tokens, last_direct }));
    }
    let has_resumed = connection.resume(&tokens)?;
    connection.attachment().answer_resume(has_resumed, last_direct)?;
    Ok(None)
}

/// As [`resume`], with sessions of other nodes.
pub(super) async fn resume_anywhere(connection: &mut Connection, pending: Pending) -> Result<(), End> {
    let Pending { tokens, last_direct } = pending;
    take_over(connection, &tokens).await?;
    let has_resumed = connection.resume(&tokens)?;
    if let Some(renamed) = connection.attachment().rename_record() {
        // The client forgets the earlier token when it gets the answer. If the broker cannot be reached, it gets the
        // answer nevertheless: most likely it cannot be reached from any other node.
        waiting::watch(connection, timeout(RENAME_WAIT, renamed)).await?.ok();
    }
    Ok(connection.attachment().answer_resume(has_resumed, last_direct)?)
}

/// Takes over the client's sessions of other nodes. If the broker cannot be reached, the client comes back later with the
/// same tokens, and nothing is lost, unless it has a session here that it can continue.
async fn take_over(connection: &mut Connection, tokens: &[ResumeToken]) -> Result<(), End> {
    let has_own = tokens.iter().any(|token| connection.attachment().knows(token));
    let mut has_taken = false;
    for token in tokens {
        if connection.attachment().knows(token) {
            continue;
        }
        let Some(taken) = connection.attachment().take_over(*token, !has_own && !has_taken) else {
            continue;
        };
        connection.attachment().keep_waiting();
        match waiting::watch(connection, taken).await? {
            Ok(()) => has_taken = true,
            Err(NotTaken::Unknown | NotTaken::OtherUser) => {}
            Err(NotTaken::Unavailable) if has_own || has_taken => return Ok(()),
            Err(NotTaken::Unavailable) => return Err(End(LeaveReason::Unavailable)),
        }
    }
    Ok(())
}
