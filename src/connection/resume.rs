//! Resuming a session in `chat-rooms.v1`.

use std::time::Duration;

use tokio::time::timeout;

use crate::broker::{BoxFuture, NotTaken};
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::LastDirect;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::Resume;
use crate::protocol::outbound::About;
use crate::protocol::resume::{self, ResumeToken};

/// How long a client waits for the broker.
const BROKER_WAIT: Duration = Duration::from_secs(5);

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
    answer(connection, has_resumed, last_direct).map(|()| None)
}

/// As [`resume`], with sessions of other nodes.
///
/// If the broker cannot be reached, the connection is closed, and the client comes back later with all of its tokens, so
/// nothing is lost. It would be wrong to continue a session of this node meanwhile: the client would forget the earlier
/// tokens, while the broker may still have another node take the session over, for which the client has asked before.
pub(super) async fn resume_anywhere(connection: &mut Connection, pending: Pending) -> Result<(), End> {
    let Pending { tokens, last_direct } = pending;
    let here = take_over(connection, &tokens).await?;
    let has_resumed = connection.resume(&here)?;
    // The client may have resumed its session elsewhere meanwhile. The enters that it sent here would make it a second
    // member of its rooms.
    if !has_resumed && let Some(reason) = connection.attachment().gone() {
        return Err(End(reason));
    }
    // Another connection of this node may have been about to resume it, too.
    if let Some(renamed) = connection.attachment().rename_record() {
        ask(connection, renamed).await?.map_err(|_| unavailable(connection))?;
    }
    answer(connection, has_resumed, last_direct)
}

fn answer(connection: &Connection, has_resumed: bool, last_direct: LastDirect) -> Result<(), End> {
    if !has_resumed {
        connection.engine().context.counters.not_resumed.add(1);
    }
    Ok(connection.attachment().answer_resume(has_resumed, last_direct)?)
}

/// The broker cannot be reached.
fn unavailable(connection: &Connection) -> End {
    connection.engine().context.counters.resume_unavailable.add(1);
    End(LeaveReason::Unavailable)
}

/// Takes over the client's sessions from other nodes, and prevents other nodes from taking over the session of this
/// node that the client is about to resume. Returns the tokens, except those of sessions that have already moved to
/// other nodes.
async fn take_over(connection: &mut Connection, tokens: &[ResumeToken]) -> Result<Vec<ResumeToken>, End> {
    let mut here = Vec::with_capacity(tokens.len());
    // Whether one of the sessions gets the token of this connection.
    let mut has_session = false;
    for token in tokens {
        let is_known = connection.attachment().knows(token);
        if is_known {
            let claimed = if has_session { None } else { connection.attachment().claim(*token) };
            let is_here = match claimed {
                Some(claimed) => {
                    has_session = ask(connection, claimed).await?.is_ok();
                    has_session
                }
                None => true,
            };
            if is_here {
                here.push(*token);
                continue;
            }
            // Another node has it, and this one does not know that yet.
        }
        let Some(taken) = connection.attachment().take_over(*token, !has_session) else {
            here.push(*token);
            continue;
        };
        match ask(connection, taken).await? {
            Ok(()) => {
                has_session = true;
                here.push(*token);
            }
            Err(NotTaken::Unknown | NotTaken::OtherUser) if is_known => {}
            Err(NotTaken::Unknown | NotTaken::OtherUser) => here.push(*token),
            Err(NotTaken::Unavailable) => return Err(unavailable(connection)),
        }
    }
    Ok(here)
}

/// Waits for the broker.
async fn ask<T>(connection: &mut Connection, answer: BoxFuture<'static, T>) -> Result<T, End> {
    connection.attachment().keep_waiting();
    let answer = waiting::watch(connection, timeout(BROKER_WAIT, answer)).await?;
    answer.map_err(|_| unavailable(connection))
}
