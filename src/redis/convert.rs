//! What the engine and the crate for Redis tell each other, in the types of the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tower_chat_rooms_redis as redis;

use crate::broker::{
    BatchMessage, BatchOutcome, BatchStart, EntryId, EventKind, LoggedEvent, LostMember, MemberSession,
    NewMember, NotEntered, NotTaken, RemoteEvent, RemoteMember, RemoteSession, RoomEvent, RoomPlace, Stamp,
    Submitted, TakenMember, TakenSession, TokenHash, Unavailable, UniqueName, wire,
};
use crate::config::History;
use crate::health::Health;
use crate::ids::{ConnectionId, MaxLen, MessageId, Name, RoomId};
use crate::protocol::position::{Epoch, Position};
use crate::room::Profile;
use crate::stats::BrokerStats;

/// The beginning of the text of a session's user. It is needed because a user's id may be empty.
const USER: char = 'u';

/// The event for the engine, or `None` if the engine need not handle it.
pub(super) fn event_of(event: redis::Event) -> Option<RemoteEvent> {
    Some(match event {
        redis::Event::Room(event) => RemoteEvent::Room(room_event_of(event)?),
        redis::Event::Transient { room, body } => RemoteEvent::Transient { room: RoomId::shared(room), body },
        redis::Event::Reset { room, stamp, .. } => {
            RemoteEvent::Reset { room: RoomId::shared(room), stamp: stamp_of(stamp) }
        }
        redis::Event::Evicted { room, member, reason: redis::EvictionReason::NameTaken } => {
            RemoteEvent::Evicted { room: RoomId::shared(room), entry: entry_of(&member)? }
        }
        redis::Event::Command { body } => RemoteEvent::Command { body },
        redis::Event::SessionResumed(resumed) => RemoteEvent::SessionMoved(Box::new(taken_of(resumed)?)),
        redis::Event::SessionTaken { session, generation } => {
            RemoteEvent::SessionTaken { session: session.parse().ok()?, generation }
        }
        redis::Event::SessionGone { session, generation } => {
            RemoteEvent::SessionGone { session: session.parse().ok()?, generation }
        }
        redis::Event::MemberLost { room, member, profile, is_hidden, stamp } => {
            let redis::Profile { name, user, .. } = profile;
            RemoteEvent::MemberLost(LostMember {
                room: RoomId::shared(room),
                connection: entry_of(&member)?.member,
                name: Name::parse(&name, MaxLen::ANY).ok()?,
                user: user.map(Into::into),
                is_hidden,
                num: stamp.num,
            })
        }
        redis::Event::EnteredAgain { room, member } => {
            RemoteEvent::EnteredAgain { room: RoomId::shared(room), connection: entry_of(&member)?.member }
        }
        redis::Event::UserOffline { user } => RemoteEvent::UserOffline { user },
        redis::Event::UserOnline { user } => RemoteEvent::UserOnline { user },
        // The crate has logged the states.
        _ => return None,
    })
}

fn room_event_of(event: redis::RoomEvent) -> Option<RoomEvent> {
    let profile = event.profile();
    let redis::RoomEvent { room, stamp, kind, member, id, body, is_replaced, .. } = event;
    // A member that no node has entered: something else writes to the log.
    let entry = match member {
        Some(member) => Some(entry_of(&member)?),
        None => None,
    };
    let (room, stamp, kind) = (RoomId::shared(room), stamp_of(stamp), kind_of(kind));
    let id = id.and_then(MessageId::from_u64);
    let body = profile.map_or(body, |profile| body_of(profile).unwrap_or_default());
    Some(RoomEvent { room, stamp, kind, entry, id, body, is_replaced })
}

pub(super) fn logged_of(redis::LoggedEvent { event, age, .. }: redis::LoggedEvent) -> Option<LoggedEvent> {
    Some(LoggedEvent { event: room_event_of(event)?, age })
}

/// What the log of a room must keep for this history. A body can be about twice as long as its frame, because it
/// contains the frames of both subprotocols.
pub(super) fn log_needs(history: History) -> redis::LogNeeds {
    redis::LogNeeds {
        events: history.frames().try_into().unwrap_or(u32::MAX),
        bytes: (history.bytes() as u64).saturating_mul(2).min(1 << 52),
        age: history.age(),
        ..redis::LogNeeds::default()
    }
}

/// What a message has become. It fails if its id is none.
pub(super) fn submitted_of(published: redis::Published) -> Result<Submitted, Unavailable> {
    let redis::Published { stamp, id, is_repeat, .. } = published;
    let id = MessageId::from_u64(id).ok_or(Unavailable)?;
    Ok(Submitted { position: stamp_of(stamp).position(), id, is_repeat })
}

pub(super) fn outcome_of(BatchOutcome { messages, has_failed }: BatchOutcome) -> redis::BatchOutcome {
    let messages = messages.into_iter().map(|BatchMessage { entry, key, id, is_known, body }| {
        let message = redis::BatchMessage::new(key, id.as_u64(), body);
        let message = if is_known { message.known() } else { message };
        match entry {
            Some(entry) => message.member(id_of(entry)),
            None => message,
        }
    });
    let outcome = redis::BatchOutcome::new(messages);
    if has_failed { outcome.failed() } else { outcome }
}

pub(super) fn place_of(place: redis::RoomPlace) -> RoomPlace {
    let position = place.position.map(|(epoch, seq)| Position { epoch: Epoch(epoch.as_u64()), seq });
    let late = place.late.map(|late| late.into_iter().filter_map(MessageId::from_u64).collect());
    RoomPlace { position, last_id: place.published.and_then(MessageId::from_u64), late }
}

pub(super) fn batch_start_of(start: redis::BatchStart) -> Result<BatchStart, Unavailable> {
    match start {
        redis::BatchStart::Begun(first) => {
            Ok(BatchStart::Begun(MessageId::from_u64(first).ok_or(Unavailable)?))
        }
        redis::BatchStart::NeedsFloor => Ok(BatchStart::NeedsFloor),
        _ => Ok(BatchStart::Busy),
    }
}

pub(super) fn not_entered_of(error: redis::EnterError) -> NotEntered {
    match error {
        redis::EnterError::RoomFull => NotEntered::RoomFull,
        redis::EnterError::NameTaken { without_owner } => {
            let anonymous = without_owner.and_then(|id| Some(entry_of(&id)?.member));
            NotEntered::NameTaken { anonymous }
        }
        _ => NotEntered::Unavailable,
    }
}

pub(super) fn not_taken_of(error: redis::ResumeError) -> NotTaken {
    match error {
        redis::ResumeError::Unknown => NotTaken::Unknown,
        redis::ResumeError::OtherUser => NotTaken::OtherUser,
        _ => NotTaken::Unavailable,
    }
}

pub(super) fn health_of(outage: Option<redis::Outage>) -> Health {
    match outage {
        Some(redis::Outage { since, reason, .. }) => Health::Degraded { since, reason },
        None => Health::Healthy,
    }
}

pub(super) fn stats_of(stats: redis::NodeStats, is_available: bool) -> BrokerStats {
    let redis::NodeStats { reconnects, events, dropped_messages, lost_members, waiting_calls, .. } = stats;
    BrokerStats { is_available, reconnects, events, dropped_messages, lost_members, waiting: waiting_calls }
}

fn kind_of(kind: redis::EventKind) -> EventKind {
    match kind {
        redis::EventKind::Enter => EventKind::Enter,
        redis::EventKind::Leave => EventKind::Leave,
        redis::EventKind::SilentEnter => EventKind::SilentEnter,
        redis::EventKind::SilentLeave => EventKind::SilentLeave,
        redis::EventKind::Publish => EventKind::Publish,
        redis::EventKind::Profile => EventKind::Profile,
        redis::EventKind::HiddenEnter => EventKind::HiddenEnter,
        redis::EventKind::HiddenLeave => EventKind::HiddenLeave,
    }
}

pub(super) fn stamp_of(stamp: redis::Stamp) -> Stamp {
    let redis::Stamp { epoch, event, seq, num } = stamp;
    Stamp { epoch: Epoch(epoch.as_u64()), event, seq, num }
}

pub(super) fn to_stamp(stamp: Stamp) -> redis::Stamp {
    let Stamp { epoch: Epoch(epoch), event, seq, num } = stamp;
    redis::Stamp { epoch: redis::Epoch::from_u64(epoch), event, seq, num }
}

pub(super) fn id_of(EntryId { member, number }: EntryId) -> String {
    format!("{member}.{number}")
}

fn entry_of(id: &str) -> Option<EntryId> {
    let (member, number) = id.split_once('.')?;
    Some(EntryId { member: member.parse().ok()?, number: number.parse().ok()? })
}

pub(super) fn new_member_of(member: &NewMember) -> redis::NewMember {
    let mut new = redis::NewMember::new(id_of(member.entry))
        .profile(profile_of(&member.name, &member.profile))
        .body(member.body.clone())
        .leave_body(member.leave_body.clone());
    if let Some(UniqueName { key, owner }) = &member.unique {
        new = new.unique_as(&**key).owner(owner.as_deref().unwrap_or_default());
    }
    if let Some(replaced) = member.replaces {
        new = new.replaces(id_of(replaced));
    }
    if member.profile.is_hidden {
        new = new.hidden();
    }
    if let Some(MemberSession { token, window, generation }) = &member.session {
        let session = session_of(member.entry.member, token, *window);
        new = new.session(&session.taken_over(*generation));
    }
    if member.is_silent { new.silent() } else { new }
}

pub(super) fn user_session_of(session: redis::UserSession) -> Option<RemoteSession> {
    let redis::UserSession { session, node, is_live, .. } = session;
    Some(RemoteSession { session: session.parse().ok()?, node, is_live })
}

pub(super) fn profile_of(name: &Name, profile: &Profile) -> redis::Profile {
    let bytes = |text: &Option<Arc<str>>| text.as_deref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
    redis::Profile {
        name: name.as_str().to_owned(),
        user: profile.user.as_deref().map(str::to_owned),
        info: bytes(&profile.info),
        state: bytes(&profile.state),
    }
}

fn name_and_profile(profile: redis::Profile) -> Option<(Name, Profile)> {
    let text =
        |bytes: Option<Bytes>| bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(Into::into));
    let redis::Profile { name, user, info, state } = profile;
    let (user, info, state) = (user.map(Into::into), text(info), text(state));
    Some((Name::parse(&name, MaxLen::ANY).ok()?, Profile { user, info, state, ..Profile::default() }))
}

/// The body of an event with this profile.
fn body_of(profile: redis::Profile) -> Option<Bytes> {
    let (name, profile) = name_and_profile(profile)?;
    Some(wire::encode_profile(&name, &profile))
}

pub(super) fn member_of(entry: redis::RosterEntry) -> Option<RemoteMember> {
    remote_member(&entry.member, entry.profile, entry.is_hidden, entry.epoch, entry.event)
}

/// A member that has entered with this event.
fn remote_member(
    member: &str,
    profile: redis::Profile,
    is_hidden: bool,
    epoch: redis::Epoch,
    event: u64,
) -> Option<RemoteMember> {
    let (name, profile) = name_and_profile(profile)?;
    Some(RemoteMember {
        entry: entry_of(member)?,
        name,
        profile: Profile { is_hidden, ..profile },
        entered: (Epoch(epoch.as_u64()), event),
    })
}

/// A session that is kept in Redis.
pub(super) fn session_of(id: ConnectionId, token: &TokenHash, window: Duration) -> redis::Session {
    redis::Session::new(token.as_str(), id.to_string(), window)
}

/// The text of a session's user; empty if the session has no user.
pub(super) fn user_text(user: Option<&str>) -> String {
    user.map_or(String::new(), |user| format!("{USER}{user}"))
}

fn taken_of(resumed: redis::Resumed) -> Option<TakenSession> {
    let redis::Resumed { session, generation, memberships, .. } = resumed;
    let user = session.user_id().strip_prefix(USER).map(Into::into);
    let members = memberships.into_iter().filter_map(taken_member_of).collect();
    Some(TakenSession {
        id: session.id().parse().ok()?,
        token: TokenHash::new(session.token()),
        generation,
        user,
        members,
    })
}

fn taken_member_of(taken: redis::ResumedMembership) -> Option<TakenMember> {
    let redis::ResumedMembership { room, member, profile, is_hidden, body, entered, stamp, .. } = taken;
    let (epoch, event) = (entered.epoch, entered.event);
    Some(TakenMember {
        room: RoomId::shared(room),
        member: remote_member(&member, profile, is_hidden, epoch, event)?,
        body,
        entered: stamp_of(entered),
        stamp: stamp_of(stamp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        for (member, number) in [(0, 0), (u64::MAX, u64::MAX), (7 << 32, 1)] {
            let entry = EntryId { member: ConnectionId(member), number };
            assert_eq!(entry_of(&id_of(entry)), Some(entry));
        }
        for id in ["", "1", "1.", ".1", "01.1", "a.1"] {
            assert_eq!(entry_of(id), None, "{id}");
        }
    }
}
