//! Entering a room: for the first time, from another one, or when a client returns.

use std::borrow::Cow;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::admission::Action;
use crate::config::{Presence, SlowConsumer};
use crate::connection::auth::may_stay;
use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::connection::history;
use crate::connection::presence::{self, StateDecision};
use crate::connection::waiting;
use crate::delivery::{ReadAhead, Refused, ReplayRequest};
use crate::hooks::guard;
use crate::hooks::policy::{Access, EnterRequest};
use crate::ids::{IdError, MessageId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{Body, Enter, RoomField};
use crate::protocol::json::quote;
use crate::protocol::outbound::About;
use crate::protocol::presence::{ProfileKeys, check_state};
use crate::protocol::resume;
use crate::room::EnterError;
use crate::session::{CantEnter, EnterCommand, FromStore};
use crate::stats::Hook;

/// How many anonymous members one enter may remove because they have the entering user's own name.
const MAX_REMOVALS: usize = 8;

/// With several nodes, how long the first removal may take. Each further one may take twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// A checked enter.
struct Checked<'a> {
    name: Name,
    room: RoomId,
    body: Body<'a>,
    replay_request: Option<ReplayRequest>,
    /// The id of the latest message that the client has.
    last_id: Option<MessageId>,
    profile: ProfileKeys<'a>,
}

pub(super) async fn join(connection: &mut Connection, enter: Enter<'_>) -> Result<(), End> {
    let is_returning = enter.room.id().is_some_and(|id| connection.attachment().is_inactive(id));
    let since = Instant::now();
    enter_room(connection, enter, is_returning).await?;
    if is_returning {
        // Meanwhile the enters of its other rooms had to wait.
        connection.has_waited(since.elapsed());
    }
    Ok(())
}

async fn enter_room(connection: &mut Connection, enter: Enter<'_>, is_returning: bool) -> Result<(), End> {
    // The answer has a roster.
    waiting::until_answers_are_read(connection).await?;
    end_if_closing(connection)?;
    let id = enter.room.id().map(str::to_owned);
    let about = id.as_deref().map_or(About::Nothing, About::Room);
    let checked = check(connection, enter);
    let is_member = checked.as_ref().is_ok_and(|checked| is_in(connection, &checked.room, &checked.name));
    // A session may be in more rooms than a client may enter in a minute.
    if !(is_returning && is_member)
        && let Err(exceeded) =
            connection.rates().check_enter().and_then(|()| connection.check_shared(Action::Enter))
    {
        return connection.refuse_excess(exceeded, about);
    }
    connection.rates().forgive();
    let Checked { name, room, body, replay_request, last_id, profile } = match checked {
        Ok(checked) => checked,
        Err(error) => return connection.refuse(error, about),
    };
    let slow = slow_consumer(connection, &room)?;
    // The policy is asked even if nothing else changes, because the member's rights may have changed.
    if is_returning && !may_stay(connection, &room).await? && is_member {
        return Ok(());
    }
    if is_member {
        let attachment = connection.attachment();
        if connection.is_v1() {
            let replay_request = history::allowed(connection, &room, &name, replay_request).await?;
            enter_again(connection, &room, replay_request, last_id, slow).await?;
        } else {
            attachment.repeat_enter(&body, slow)?;
        }
        return Ok(());
    }
    if is_returning {
        // The enter has another name: the member first returns under its old name, and is then renamed.
        connection.attachment().enter_again(&room, None, FromStore::default(), slow)?;
    }
    let Some(access) = access(connection, &room, &name, &body).await? else { return Ok(()) };
    let (state, state_error) = match profile.state {
        Some(state) => decide_state(connection, &room, &name, state).await?,
        None => (None, None),
    };
    let profile = ProfileKeys { state: state.as_deref(), ..profile };
    let replay_request = history::allowed(connection, &room, &name, replay_request).await?;
    let read_ahead = history::read_ahead(connection, &room, replay_request, last_id).await?;
    if connection.engine().rooms.get(room.as_str()).is_none()
        && let Err(exceeded) =
            connection.rates().check_new_room().and_then(|()| connection.check_shared(Action::NewRoom))
    {
        return connection.refuse_excess(exceeded, about);
    }
    let command = EnterCommand {
        name: &name,
        room: &room,
        body: &body,
        replay_request,
        from_store: FromStore::new(&connection.engine().rooms, read_ahead.as_ref()),
        slow,
        presence: presence_in(connection, &room)?,
        access,
        profile,
    };
    let mut entered = carry_out(connection, &command, last_id, read_ahead.as_ref()).await?;
    // Repeated, because another anonymous client may take the name as soon as it is free. With several nodes, it takes a
    // moment until it is.
    let (mut attempts, mut wait) = (0..MAX_REMOVALS, FIRST_WAIT);
    while let Err(CantEnter::Refused(Refused::Room(EnterError::NameTaken { anonymous: Some(holder) }))) =
        entered
        && is_own_name(connection, &name)
        && attempts.next().is_some()
    {
        connection.engine().remove_anonymous(holder, &room, &name);
        if connection.engine().rooms.is_remote() {
            connection.attachment().keep_waiting();
            waiting::watch(connection, sleep(wait)).await?;
            wait *= 2;
        }
        entered = carry_out(connection, &command, last_id, read_ahead.as_ref()).await?;
    }
    match entered {
        Ok(()) => {
            connection.restart_deadline();
            connection.attachment().run_callbacks()?;
            // Only now: before the answer to the enter, it would be about the enter.
            match state_error {
                Some(error) => connection.refuse(error, about),
                None => Ok(()),
            }
        }
        Err(refused) => {
            end_if_closing(connection)?;
            let error = explain(&refused, connection);
            connection.refuse(error, about)
        }
    }
}

/// Enters a room again that the client is already in.
async fn enter_again(
    connection: &mut Connection,
    room: &RoomId,
    replay_request: Option<ReplayRequest>,
    last_id: Option<MessageId>,
    slow: SlowConsumer,
) -> Result<(), End> {
    let read = history::read_ahead(connection, room, replay_request, last_id).await?;
    let from_store = FromStore::new(&connection.engine().rooms, read.as_ref());
    let Some(again) = connection.attachment().begin_enter_again(room, replay_request)? else { return Ok(()) };
    let later =
        history::read_again(connection, room, replay_request, last_id, read.as_ref(), again.outcome())
            .await?;
    let from_store = from_store.or(later.as_ref());
    Ok(connection.attachment().answer_enter_again(again, replay_request, from_store, slow)?)
}

/// Enters a room. With a broker that several nodes share, waits until the enter has its place in the room's order. `read`
/// has the messages that were read from the store before.
async fn carry_out(
    connection: &mut Connection,
    command: &EnterCommand<'_>,
    last_id: Option<MessageId>,
    read: Option<&ReadAhead>,
) -> Result<Result<(), CantEnter>, End> {
    if !connection.engine().rooms.is_remote() {
        return Ok(connection.attachment().enter(command)?);
    }
    let mut submitted = match connection.attachment().submit_enter(command)? {
        Ok(submitted) => submitted,
        Err(refused) => return Ok(Err(refused)),
    };
    connection.attachment().keep_waiting();
    match waiting::watch(connection, submitted.outcome()).await {
        Ok(Ok(entered)) => {
            let EnterCommand { room, replay_request, from_store, .. } = *command;
            let later =
                history::read_again(connection, room, replay_request, last_id, read, &entered.outcome);
            match later.await {
                Ok(None) => Ok(connection.attachment().accept(command, submitted, entered)?),
                Ok(later) => {
                    let from_store = from_store.or(later.as_ref());
                    let command = EnterCommand { from_store, ..command.clone() };
                    Ok(connection.attachment().accept(&command, submitted, entered)?)
                }
                Err(End(reason)) => {
                    submitted.give_up(reason);
                    Err(End(reason))
                }
            }
        }
        Ok(Err(Refused::Unavailable)) => Err(End(LeaveReason::Unavailable)),
        Ok(Err(refused)) => Ok(Err(CantEnter::Refused(refused))),
        Err(End(reason)) => {
            submitted.give_up(reason);
            Err(End(reason))
        }
    }
}

/// During a shutdown, rooms are closed before all clients are told. Without this check, a client could be refused by a
/// closed room, and would not reconnect.
fn end_if_closing(connection: &Connection) -> Result<(), End> {
    match connection.engine().admission.is_closing() {
        true => Err(End(LeaveReason::Shutdown)),
        false => Ok(()),
    }
}

fn is_in(connection: &Connection, room: &RoomId, name: &Name) -> bool {
    let membership = connection.attachment().membership(room.as_str());
    membership.is_some_and(|membership| membership.name == *name)
}

/// Whether the name is the user's own and not one that the client has chosen.
fn is_own_name(connection: &Connection, name: &Name) -> bool {
    let user = connection.attachment().session().user();
    user.is_some_and(|user| user.name() == Some(name.as_str()))
}

/// Asks the policy which access the client gets. If the policy refuses, tells the client, and returns `None`.
async fn access(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    body: &Body<'_>,
) -> Result<Option<Access>, End> {
    let engine = connection.engine().clone();
    let Some(policy) = engine.policy() else { return Ok(Some(Access::member())) };
    let session = connection.attachment().session().clone();
    let user = session.user();
    let from = match connection.is_v1() {
        true => connection.attachment().membership(room.as_str()),
        false => connection.attachment().active_membership(None),
    };
    let body = format!("{}}}", body.as_str());
    let request = EnterRequest {
        connection: session.id(),
        peer: session.peer(),
        user: user.as_deref(),
        name,
        room,
        from: from.as_ref().map(|membership| membership.room.id()),
        body: Some(&body),
        is_renewal: false,
    };
    let error =
        match waiting::ask(connection, Hook::MayEnter, async { policy.may_enter(&request).await }).await? {
            // Yields, so that a client that has disconnected meanwhile does not enter.
            Some(Ok(access)) => {
                return waiting::watch(connection, yield_now()).await.map(|()| Some(access));
            }
            Some(Err(denied)) => PeerError::new(ErrorCode::Denied, denied.into_reason()),
            None => PeerError::new(ErrorCode::Internal, "the room's policy gave no answer; try again"),
        };
    connection.refuse(error, About::Room(room.as_str())).map(|()| None)
}

/// Asks the policy about the state in an enter as about one that is set later. Returns the state to enter with, and the
/// error if the policy has refused it.
async fn decide_state<'a>(
    connection: &mut Connection,
    room: &RoomId,
    name: &Name,
    state: &'a str,
) -> Result<(Option<Cow<'a, str>>, Option<PeerError>), End> {
    let body = format!(r#"{{"event":"state","state":{state},"roomId":{}}}"#, quote(room.as_str()));
    Ok(match presence::decide(connection, room, name, &body).await? {
        StateDecision::Allowed => (Some(state.into()), None),
        StateDecision::Replaced(other) => (other.map(Cow::Owned), None),
        StateDecision::Dropped => (None, None),
        StateDecision::Refused(error) => (None, Some(error)),
    })
}

/// What happens if the client reads this room too slowly.
fn slow_consumer(connection: &Connection, room: &RoomId) -> Result<SlowConsumer, End> {
    let own = match connection.engine().policy() {
        Some(policy) => {
            guard::call(connection.hook_times(), Hook::SlowConsumer, || policy.slow_consumer(room))?
        }
        None => None,
    };
    Ok(own.unwrap_or(connection.config().slow_consumer))
}

/// What the members of this room learn about each other; `None` if the policy does not decide.
fn presence_in(connection: &Connection, room: &RoomId) -> Result<Option<Presence>, End> {
    match connection.engine().policy() {
        Some(policy) => Ok(guard::call(connection.hook_times(), Hook::Presence, || policy.presence(room))?),
        None => Ok(None),
    }
}

/// Checks that name and room are within the limits. The user's own name takes precedence over the claimed one.
fn check<'a>(connection: &Connection, enter: Enter<'a>) -> Result<Checked<'a>, PeerError> {
    let limits = &connection.config().limits;
    let bad_name = |why: &str| PeerError::new(ErrorCode::BadName, format!("the name {why}"));
    let claimed = enter.name.as_deref();
    let (since, last) = match connection.is_v1() {
        true => (enter.since, enter.last),
        false => (None, None),
    };
    // In the plain protocol, the key has no meaning.
    let state = enter.profile.state.filter(|_| connection.is_v1());
    state.map(check_state).transpose()?;
    let profile = ProfileKeys { state, ..enter.profile };
    let body = if since.or(last).is_some() { enter.body.without_replay_keys() } else { enter.body };
    let last_id = since.map(resume::last_id).transpose()?.flatten();
    let replay_request = match (since, last) {
        (Some(since), _) => Some(ReplayRequest::Since(resume::since(since)?)),
        (None, last) => last.map(resume::last).transpose()?.map(ReplayRequest::Last),
    };
    if body.as_str().len() >= limits.max_enter_bytes {
        let max = limits.max_enter_bytes;
        let text = format!("the enter has {} bytes; at most {max} are allowed", body.as_str().len() + 1);
        return Err(PeerError::new(ErrorCode::BadShape, text));
    }
    let user = connection.attachment().session().user();
    let (name, body) = match user.as_ref().and_then(|user| user.name()) {
        Some(own) if claimed != Some(own) => (Some(own), body.with_message(own)),
        own => (own.or(claimed), body),
    };
    let name = name.ok_or_else(|| {
        bad_name(
            "is missing: send {\"event\":\"enter\",\"message\":NAME,\"roomId\":ROOM}, NAME being a string",
        )
    })?;
    let name = Name::parse(name, limits.name()).map_err(|e: IdError| bad_name(&e.to_string()))?;
    let room = room_id(connection, &enter.room)?;
    Ok(Checked { name, room, body, replay_request, last_id, profile })
}

/// Checks that a room id is within the limits.
pub(super) fn room_id(connection: &Connection, room: &RoomField<'_>) -> Result<RoomId, PeerError> {
    let bad = |why: &str| PeerError::new(ErrorCode::BadRoomId, format!("the room id {why}"));
    let room = match room {
        RoomField::Id(room) => room,
        RoomField::Invalid => return Err(bad("must be a string or a number, as \"roomId\"")),
        RoomField::OtherKey => return Err(bad("is missing: its key is \"roomId\", not \"room\"")),
    };
    RoomId::parse(room, connection.config().limits.room_id()).map_err(|e: IdError| bad(&e.to_string()))
}

fn explain(refused: &CantEnter, connection: &Connection) -> PeerError {
    let limits = &connection.config().limits;
    let refused = match refused {
        CantEnter::Refused(refused) => refused,
        CantEnter::TooManyMemberships => {
            let max = limits.max_memberships;
            let text = format!("a client may be in {max} rooms at the same time; leave one first");
            return PeerError::new(ErrorCode::TooManyMemberships, text);
        }
    };
    match refused {
        Refused::TooManyRooms => {
            let max = limits.max_rooms;
            let text = format!("there are {max} rooms already, which is the limit; enter an existing one");
            PeerError::new(ErrorCode::TooManyRooms, text)
        }
        Refused::Unavailable => {
            PeerError::new(ErrorCode::Unavailable, "the room cannot be reached; try again")
        }
        Refused::Room(EnterError::Full) => {
            let max = limits.max_room_members;
            let text = format!("the room is full ({max} members); enter another one, or try again later");
            PeerError::new(ErrorCode::RoomFull, text)
        }
        Refused::Room(EnterError::NameTaken { .. }) => {
            PeerError::new(ErrorCode::NameTaken, "another member of the room has this name; choose another")
        }
        Refused::Room(EnterError::Closed) => PeerError::new(ErrorCode::Denied, "the room is closed"),
    }
}
