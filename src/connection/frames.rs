//! Handles the frames of a client.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_protocol::MAX_TRANSIENT_BYTES;

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::publish::Attempt;
use crate::connection::rate_limiter::MAX_PONG;
use crate::connection::waiting;
use crate::connection::{auth, direct, history, join, leave, presence, publish, resume};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{self, Inbound};
use crate::protocol::outbound::{self, About};

/// The remaining work for a frame.
type Rest<'a> = Pin<Box<dyn Future<Output = Result<(), End>> + Send + 'a>>;

/// Handles a frame as far as possible without waiting. Work that has to wait is boxed: it is rare, and otherwise every
/// connection would reserve memory for the largest of these futures.
pub(super) fn handle<'a>(connection: &'a mut Connection, text: &'a str) -> Result<Option<Rest<'a>>, End> {
    let inbound = Inbound::parse(text, connection.subprotocol(), connection.config().limits.max_depth);
    if matches!(inbound, Ok(Inbound::Pong)) && text.len() <= MAX_PONG {
        connection.faults().reset_bad_frames();
        connection.rates().check_others(1)?;
        return Ok(None);
    }
    let rate = match is_transient(connection, &inbound) && text.len() <= MAX_TRANSIENT_BYTES {
        true if !connection.rates().check_transient()? => return Ok(None),
        true => Ok(()),
        false => connection.rates().check_message(text.len()),
    };
    let inbound = match inbound {
        Ok(inbound) => inbound,
        Err(error) if error.code == ErrorCode::TooDeep => {
            let (cid, room) = inbound::cid_and_room_of(text);
            let about = cid.as_deref().map(About::Message).or(room.as_deref().map(About::Room));
            return connection.refuse(error, about.unwrap_or(About::Nothing)).map(|()| None);
        }
        Err(error) => return connection.refuse(error, About::Nothing).map(|()| None),
    };
    if let Err(exceeded) = rate {
        if matches!(inbound, Inbound::State(_)) {
            // The frames that follow are read later too, and must not be refused because of this delay.
            connection.rates().keep_waiting();
        }
        if connection.rates().is_catching_up() {
            return Ok(Some(Box::pin(handle_later(connection, text, exceeded.wait))));
        }
        let cid = inbound.cid();
        let about = match &inbound {
            Inbound::Enter(enter) => enter.room.id().map_or(About::Nothing, About::Room),
            Inbound::Members(members) => presence::about(&members.room),
            _ => cid.as_deref().map_or(About::Nothing, About::Message),
        };
        return connection.refuse_excess(exceeded, about).map(|()| None);
    }
    if let Inbound::Publish(message) = &inbound
        && connection.config().events.is_of_host(&message.event)
    {
        let cid = inbound.cid();
        let about = cid.as_deref().map_or(About::Nothing, About::Message);
        return connection.refuse(inbound::reserved(&message.event), about).map(|()| None);
    }
    connection.faults().reset_bad_frames();
    // Enters and tokens have rates of their own, which are checked later.
    if !matches!(inbound, Inbound::Enter(_) | Inbound::Auth(_)) {
        connection.rates().forgive();
    }
    match inbound {
        Inbound::Pong => Ok(None),
        Inbound::Ping if connection.is_v1() => {
            connection.send(outbound::PONG);
            Ok(None)
        }
        Inbound::Ping => connection.refuse(inbound::reserved("heartbeat"), About::Nothing).map(|()| None),
        Inbound::Auth(token) => Ok(Some(Box::pin(auth::authenticate(connection, token)))),
        _ if connection.is_auth_pending() => {
            connection.send_no_auth("authenticate first: send {\"event\":\"auth\",\"message\":TOKEN}");
            Ok(None)
        }
        Inbound::Enter(enter) => Ok(Some(Box::pin(join::join(connection, enter)))),
        Inbound::Leave(room) => leave::leave(connection, room).map(|()| None),
        Inbound::State(state) => Ok(Some(Box::pin(presence::set_state(connection, text, state)))),
        Inbound::Members(request) if waiting::has_answers_to_read(connection) => {
            Ok(Some(Box::pin(presence::send_members_later(connection, request))))
        }
        Inbound::Members(request) => presence::send_members(connection, &request).map(|()| None),
        Inbound::History(request) => Ok(Some(Box::pin(history::send(connection, request)))),
        Inbound::Resume(tokens) => match resume::resume(connection, tokens)? {
            None => Ok(None),
            Some(pending) => Ok(Some(Box::pin(resume::resume_anywhere(connection, pending)))),
        },
        Inbound::Direct(message) => match direct::send(connection, message)? {
            None => Ok(None),
            Some(undecided) => Ok(Some(Box::pin(direct::decide(connection, undecided)))),
        },
        Inbound::Publish(message) => match publish::publish(connection, text, message)? {
            Attempt::Done => Ok(None),
            Attempt::Calling(called) => Ok(Some(Box::pin(publish::until_called(connection, called)))),
            Attempt::Wait(message, why) => {
                Ok(Some(Box::pin(publish::publish_later(connection, text, message, why))))
            }
            Attempt::Undecided(draft, verdict) => {
                Ok(Some(Box::pin(publish::decide(connection, text, draft, verdict))))
            }
        },
    }
}

fn is_transient(connection: &Connection, inbound: &Result<Inbound<'_>, PeerError>) -> bool {
    let Ok(Inbound::Publish(message)) = inbound else { return false };
    connection.config().events.is_transient(&message.event)
}

/// Handles a frame after this time. The client's next frames wait until then.
async fn handle_later(connection: &mut Connection, text: &str, wait: Duration) -> Result<(), End> {
    connection.attachment().keep_waiting();
    waiting::watch(connection, sleep(wait)).await?;
    match handle(connection, text)? {
        Some(rest) => rest.await,
        None => Ok(()),
    }
}
