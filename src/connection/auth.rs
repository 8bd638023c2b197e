//! Authentication with a token that the client sends.

use std::borrow::Cow;

use crate::config::OnExpiry;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::hooks::policy::EnterRequest;
use crate::hooks::user::User;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::outbound;

pub(super) async fn authenticate(connection: &mut Connection, token: Cow<'_, str>) -> Result<(), End> {
    let engine = connection.engine().clone();
    let Some(auth) = engine.auth() else { return Ok(()) };
    if let Err(exceeded) = connection.rates().check_auth() {
        return connection.refuse_excess(exceeded, None);
    }
    connection.rates().forgive();
    match connection.ask("on_token", async { auth.on_token(&token).await }).await? {
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
    may_stay(connection).await.map(|_| ())
}

/// The user's authentication has expired.
pub(super) fn expire(connection: &mut Connection) -> Result<(), End> {
    let membership = connection.attachment().membership();
    let room = membership.as_ref().map(|membership| &*membership.room);
    if connection.config().on_expiry == OnExpiry::Close {
        connection.send_no_auth_for("the token has expired; get a new one", room);
        return Err(End(LeaveReason::AuthExpired));
    }
    connection.attachment().leave_room(LeaveReason::AuthExpired)?;
    connection.attachment().run_callbacks()?;
    let text = "the token has expired: send {\"event\":\"auth\",\"message\":TOKEN} with a new one";
    connection.send_no_auth_for(text, room);
    connection.require_auth();
    Ok(())
}

/// Asks the policy whether a member may stay in its room as the user that it is now. If not, removes it from
/// the room, and tells it so.
pub(super) async fn may_stay(connection: &mut Connection) -> Result<bool, End> {
    let engine = connection.engine().clone();
    let session = connection.attachment().session().clone();
    let (Some(policy), Some(membership)) = (engine.policy(), session.membership()) else { return Ok(true) };
    let (user, room) = (session.user(), membership.room.id());
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
    let error = match connection.ask("may_enter", async { policy.may_enter(&request).await }).await? {
        Some(Ok(())) => return Ok(true),
        Some(Err(denied)) => PeerError::new(ErrorCode::Denied, denied.into_reason()),
        None => PeerError::new(ErrorCode::Internal, "the room's policy gave no answer; enter again"),
    };
    connection.attachment().leave_room(LeaveReason::Denied)?;
    connection.attachment().run_callbacks()?;
    engine.context.counters.errors.add(1);
    let room = connection.is_v1().then_some(room.as_str());
    connection.send_about(&membership.room, &outbound::put_out(error.code.as_str(), &error.text, room));
    Ok(false)
}
