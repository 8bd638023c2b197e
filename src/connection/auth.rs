//! Authentication with a token that the client sends.

use std::borrow::Cow;

use bytes::Bytes;

use crate::config::OnExpiry;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::waiting;
use crate::hooks::policy::{Access, EnterRequest};
use crate::hooks::user::User;
use crate::ids::RoomId;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::outbound::About;
use crate::protocol::{frame, outbound};
use crate::stats::Hook;

/// Why a client whose authentication has expired is removed from its rooms.
const EXPIRED: (&str, &str) = ("token_expired", "the token has expired");

pub(super) async fn authenticate(connection: &mut Connection, token: Cow<'_, str>) -> Result<(), End> {
    let engine = connection.engine().clone();
    let Some(auth) = engine.auth() else { return Ok(()) };
    if let Err(exceeded) = connection.rates().check_auth() {
        return connection.refuse_excess(exceeded, About::Nothing);
    }
    connection.rates().forgive();
    match waiting::ask(connection, Hook::OnToken, async { auth.on_token(&token).await }).await? {
        Some(Ok(user)) => accept(connection, user).await,
        Some(Err(denied)) => connection.refuse_token(denied.reason()),
        None => {
            connection.send_no_auth("the token could not be checked; try again");
            Ok(())
        }
    }
}

async fn accept(connection: &mut Connection, user: User) -> Result<(), End> {
    let session = connection.attachment().session();
    if session.user().is_some_and(|old| old.id() != user.id()) {
        connection.send_no_auth("another user is authenticated on this connection; open a new one");
        return Ok(());
    }
    if user.time_left().is_some_and(|left| left.is_zero()) {
        return connection.refuse_token("the token has expired; get a new one");
    }
    let left = user.time_left();
    connection.attachment().set_user(user)?;
    connection.has_authenticated();
    if connection.is_v1() {
        connection.send(&outbound::authenticated(left));
    }
    connection.attachment().run_callbacks()?;
    for membership in connection.attachment().memberships() {
        may_stay(connection, membership.room.id()).await?;
    }
    Ok(())
}

/// The user's authentication has expired.
pub(super) fn expire(connection: &mut Connection) -> Result<(), End> {
    if connection.config().on_expiry == OnExpiry::Close {
        connection.send_no_auth("the token has expired; get a new one");
        return Err(End(LeaveReason::AuthExpired));
    }
    for membership in connection.attachment().memberships() {
        let room = membership.room.id();
        let frames = match connection.is_v1() {
            true => frame::text(outbound::left(room.as_str(), Some(EXPIRED)).as_bytes()),
            false => Bytes::new(),
        };
        connection.attachment().leave_room(room, LeaveReason::AuthExpired, &frames)?;
    }
    connection.attachment().expire_user()?;
    connection.attachment().run_callbacks()?;
    connection
        .send_no_auth("the token has expired: send {\"event\":\"auth\",\"message\":TOKEN} with a new one");
    connection.require_auth();
    Ok(())
}

/// Asks the policy whether a member may stay in a room as its current user, and applies what has changed. If it may not
/// stay, removes the member and tells it why.
pub(super) async fn may_stay(connection: &mut Connection, room: &RoomId) -> Result<bool, End> {
    let engine = connection.engine().clone();
    let session = connection.attachment().session().clone();
    let membership = connection.attachment().membership(room.as_str());
    let Some(membership) = membership else { return Ok(true) };
    let Some(policy) = engine.policy() else {
        connection.attachment().renew(room, &Access::member())?;
        return Ok(true);
    };
    let user = session.user();
    let request = EnterRequest {
        connection: session.id(),
        peer: session.peer(),
        user: user.as_deref(),
        name: &membership.name,
        room,
        from: None,
        body: None,
        is_renewal: true,
    };
    let error =
        match waiting::ask(connection, Hook::MayEnter, async { policy.may_enter(&request).await }).await? {
            Some(Ok(access)) => {
                connection.attachment().renew(room, &access)?;
                return Ok(true);
            }
            Some(Err(denied)) => PeerError::new(ErrorCode::Denied, denied.into_reason()),
            None => PeerError::new(ErrorCode::Internal, "the room's policy gave no answer; enter again"),
        };
    connection.remove(room, LeaveReason::Denied, &error)?;
    Ok(false)
}
