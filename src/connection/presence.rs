//! What members learn about each other: a client sets its state, or asks for the members of a room.

use std::borrow::Cow;

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::hooks::guard;
use crate::hooks::policy::{Decision, MessageRequest, Ruling, Verdict};
use crate::ids::{Name, RoomId};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{MembersRequest, RoomField, State};
use crate::protocol::outbound::About;
use crate::protocol::presence::{ProfileKeys, check_state, cursor};
use crate::stats::Hook;

/// What the policy has decided about a state.
pub(super) enum StateDecision {
    Allowed,
    /// With another state, or none.
    Replaced(Option<String>),
    Dropped,
    Refused(PeerError),
}

/// What an error answer to the request refers to.
pub(super) fn about<'a>(room: &'a Option<RoomField<'_>>) -> About<'a> {
    room.as_ref().and_then(RoomField::id).map_or(About::Nothing, About::Room)
}

/// Sets the client's state in a room, if the policy agrees.
pub(super) async fn set_state(
    connection: &mut Connection,
    text: &str,
    request: State<'_>,
) -> Result<(), End> {
    let about = about(&request.room);
    let room = match room_of(&request.room) {
        Ok(room) => room,
        Err(error) => return connection.refuse(error, about),
    };
    let Some(membership) = connection.attachment().active_membership(room) else {
        return not_entered(connection, about);
    };
    // The error names the room even if the client has left it out because it is in one room only.
    let room = membership.room.id().as_str();
    let about = About::Room(room);
    if let Err(error) = request.state.map(check_state).transpose() {
        return connection.refuse(error, about);
    }
    let body = request.body.for_hooks(text);
    let replaced;
    let state = match decide(connection, membership.room.id(), &membership.name, &body).await? {
        StateDecision::Allowed => request.state,
        StateDecision::Replaced(other) => {
            replaced = other;
            replaced.as_deref()
        }
        // The sender must not notice that its state was dropped.
        StateDecision::Dropped => return Ok(()),
        StateDecision::Refused(error) => return connection.refuse(error, about),
    };
    match connection.attachment().set_state(Some(room), state)? {
        true => Ok(()),
        false => not_entered(connection, about),
    }
}

/// Sends the client a page of a room's roster.
pub(super) fn send_members(connection: &mut Connection, request: &MembersRequest<'_>) -> Result<(), End> {
    let about = about(&request.room);
    let after = request.after.map_or(Ok(0), cursor);
    let (room, after) = match room_of(&request.room).and_then(|room| Ok((room, after?))) {
        Ok(request) => request,
        Err(error) => return connection.refuse(error, about),
    };
    match connection.attachment().send_members(room, after)? {
        true => Ok(()),
        false => not_entered(connection, about),
    }
}

/// As [`send_members`], once the client has read other rosters.
pub(super) async fn send_members_later(
    connection: &mut Connection,
    request: MembersRequest<'_>,
) -> Result<(), End> {
    waiting::until_answers_are_read(connection).await?;
    send_members(connection, &request)
}

/// Asks the policy about a state, which is in the frame `body`.
pub(super) async fn decide(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    body: &str,
) -> Result<StateDecision, End> {
    let Some(verdict) = ask(connection, room, name, body)? else { return Ok(StateDecision::Allowed) };
    Ok(match verdict_of(connection, verdict).await? {
        Some(Ruling::Allow) => StateDecision::Allowed,
        Some(Ruling::Replace(text)) => match state_in(&text) {
            Ok(state) => StateDecision::Replaced(state.map(str::to_owned)),
            Err(_) => {
                tracing::error!("the policy's replacement of a state is not valid; the state is dropped");
                let error = PeerError::new(ErrorCode::Internal, "the state could not be set");
                StateDecision::Refused(error)
            }
        },
        Some(Ruling::Drop) => StateDecision::Dropped,
        Some(Ruling::Refuse(denied)) => {
            StateDecision::Refused(PeerError::new(ErrorCode::Denied, denied.into_reason()))
        }
        None => {
            let text = "the room's policy gave no answer; try again";
            StateDecision::Refused(PeerError::new(ErrorCode::Internal, text))
        }
    })
}

/// Asks the policy. Returns `None` if there is no policy.
fn ask(connection: &Connection, room: &RoomId, name: &Name, body: &str) -> Result<Option<Verdict>, End> {
    let Some(policy) = connection.engine().policy() else { return Ok(None) };
    let user = connection.attachment().session().user();
    let request = MessageRequest {
        connection: connection.attachment().id(),
        user: user.as_deref(),
        name,
        room,
        event: "state",
        body,
    };
    Ok(Some(guard::call(connection.hook_times(), Hook::MaySend, || policy.may_send(&request))?))
}

/// Waits for the policy's decision. Returns `None` if it took too long.
async fn verdict_of(connection: &mut Connection, mut verdict: Verdict) -> Result<Option<Ruling>, End> {
    loop {
        match verdict.decision {
            Decision::Now(ruling) => return Ok(Some(ruling)),
            Decision::Later(later) => match waiting::ask(connection, Hook::MaySend, later).await? {
                Some(next) => verdict = next,
                None => return Ok(None),
            },
        }
    }
}

/// The state in the policy's replacement.
fn state_in(replacement: &str) -> Result<Option<&str>, PeerError> {
    let state = ProfileKeys::parse(replacement)?.state;
    state.map(check_state).transpose()?;
    Ok(state)
}

pub(super) fn room_of<'a>(room: &'a Option<RoomField<'_>>) -> Result<Option<&'a str>, PeerError> {
    match room {
        None => Ok(None),
        Some(RoomField::Id(room)) => Ok(Some(room)),
        Some(RoomField::Invalid | RoomField::OtherKey) => {
            Err(PeerError::new(ErrorCode::BadRoomId, "the room id must be a string or a number"))
        }
    }
}

pub(super) fn not_entered(connection: &mut Connection, about: About<'_>) -> Result<(), End> {
    let text: Cow<'static, str> = match about {
        About::Nothing if connection.attachment().memberships().len() > 1 => {
            "you are in several rooms: set \"roomId\"".into()
        }
        _ => "enter the room first: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}".into(),
    };
    connection.refuse(PeerError::new(ErrorCode::NotEntered, text), about)
}
