//! What can be looked at, as JSON: rooms, members, connections and users. Nothing here contains what clients have sent,
//! except for names and ids.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::task::yield_now;

use crate::admin::answer::Refused;
use crate::admin::listing::{Listing, Page};
use crate::admin::query::{MAX_LIMIT, Query};
use crate::admin::rates::{Rates, Sample};
use crate::delivery::{LiveRoom, MemberSnapshot};
use crate::engine::Engine;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::subprotocol::{Subprotocol, V1};
use crate::session::{SessionSnapshot, SessionState, USER_SHARDS};

/// After this many rooms or users, other tasks get a turn.
const ENTRIES_PER_TURN: usize = 512;

/// The sessions that are listed for a user. A user has few, unless something is wrong.
const MAX_SESSIONS: usize = 20;

/// Calls a function for each room that has members, and lets other tasks run in between.
pub(super) async fn each_room(engine: &Engine, mut see: impl FnMut(&Arc<LiveRoom>)) {
    let mut seen = 0;
    for part in engine.rooms.parts() {
        part.iter().filter(|room| room.has_members()).for_each(&mut see);
        seen += part.len();
        if seen >= ENTRIES_PER_TURN {
            seen = 0;
            yield_now().await;
        }
    }
}

/// The order of rooms: by a number, the highest first, then by id.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoomKey(Reverse<u64>, RoomId);

impl RoomKey {
    /// What [`RoomKey::cursor`] has returned.
    fn parse(cursor: &str) -> Result<RoomKey, Refused> {
        let parts = cursor.split_once('.').and_then(|(number, id)| Some((number.parse().ok()?, id)));
        let (number, id) = parts.ok_or_else(|| bad_cursor(cursor))?;
        Ok(RoomKey(Reverse(number), id.into()))
    }

    fn cursor(&self) -> String {
        format!("{}.{}", self.0.0, self.1)
    }
}

fn bad_cursor(cursor: &str) -> Refused {
    Refused::bad_request(format!("`after` is {cursor:?}; it must be the `next` of the previous page"))
}

/// A page of the rooms of this node.
pub(super) async fn rooms(engine: &Engine, rates: &Rates, mut query: Query) -> Result<Value, Refused> {
    let sort = query.take("sort").unwrap_or_else(|| "members".into());
    let after = query.take("after").map(|after| RoomKey::parse(&after)).transpose()?;
    let (find, limit) = (query.take("find").unwrap_or_default(), query.limit()?);
    query.finish()?;
    let sample = rates.current(engine).await;
    let number: &(dyn Fn(&LiveRoom) -> u64 + Sync) = match &*sort {
        "members" => &|room| (room.online() + room.hidden()) as u64,
        "rate" => &|room| sample.rate(room.id()).unwrap_or(0),
        "id" => &|_| 0,
        other => {
            let text = format!("`sort` is {other:?}; it must be `members`, `rate` or `id`");
            return Err(Refused::bad_request(text));
        }
    };
    let mut listing = Listing::new(after, limit);
    each_room(engine, |room| {
        if room.id().as_str().contains(&find) {
            listing.offer(RoomKey(Reverse(number(room)), room.id().clone()), room.clone());
        }
    })
    .await;
    let Page { entries, has_more } = listing.finish();
    let next = entries.last().filter(|_| has_more).map(|(key, _)| key.cursor());
    Ok(json!({
        "rooms": entries.iter().map(|(_, room)| room_counts(room, &sample)).collect::<Vec<_>>(),
        "next": next,
        "rate_window_seconds": sample.window().map(|window| window.as_secs_f64()),
    }))
}

fn room_counts(room: &LiveRoom, sample: &Sample) -> Map<String, Value> {
    [
        ("id", json!(room.id().as_str())),
        ("online", json!(room.online())),
        ("hidden", json!(room.hidden())),
        ("users", json!(room.users())),
        ("rate", json!(sample.rate(room.id()).map(|rate| rate as f64 / 1000.0))),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// One room, with a page of its members on this node.
pub(super) async fn room(engine: &Engine, rates: &Rates, mut query: Query) -> Result<Value, Refused> {
    let id = query.required("id")?;
    let after = query.take("after").map(|after| after.parse().map_err(|_| bad_cursor(&after)));
    let (after, limit) = (after.transpose()?.unwrap_or(0), query.limit()?);
    query.finish()?;
    let sample = rates.current(engine).await;
    let room = engine.rooms.get(&id).filter(|room| room.has_members());
    let room = room.ok_or_else(|| Refused::not_found("no member of this node is in a room with this id"))?;
    let snapshot = room.snapshot(after, limit);
    let next =
        snapshot.members.last().filter(|_| snapshot.has_more).map(|last| last.member.place.to_string());
    // The room's lock is released. Only a member's session knows whether it is connected.
    let members = snapshot.members.iter().map(|MemberSnapshot { member, profile }| {
        let profile = profile.as_deref();
        json!({
            "connection": member.id.to_string(),
            "name": member.name.as_str(),
            "user": profile.and_then(|profile| profile.user.as_deref()),
            "is_hidden": profile.is_some_and(|profile| profile.is_hidden),
            "is_connected": member.handle.is_connected(),
        })
    });
    let members: Vec<Value> = members.collect();
    let mut value = room_counts(&room, &sample);
    let others = [
        ("here", json!(snapshot.here)),
        ("max_members", limit_value(engine.config().limits.max_room_members)),
        ("presence", json!(room.mode().as_str())),
        (
            "position",
            json!({
                "epoch": snapshot.position.epoch().to_string(),
                "seq": snapshot.position.seq(),
            }),
        ),
        ("holds_senders", json!(room.holds_senders())),
        ("members", json!(members)),
        ("next", json!(next)),
    ];
    value.extend(others.map(|(key, value)| (key.to_owned(), value)));
    Ok(value.into())
}

/// A limit; `null` if there is none.
fn limit_value(limit: usize) -> Value {
    if limit == usize::MAX { Value::Null } else { limit.into() }
}

/// One connection, or the session that is kept after it.
pub(super) fn connection(engine: &Engine, mut query: Query) -> Result<Value, Refused> {
    let text = query.required("id")?;
    query.finish()?;
    let id = connection_id(&text)?;
    let session = engine.sessions.table().get(id);
    let snapshot = session.map(|session| session.snapshot(MAX_LIMIT));
    match snapshot.filter(|snapshot| snapshot.state != SessionState::Ended) {
        Some(snapshot) => Ok(session_json(engine, id, &snapshot)),
        None => match engine.nodes() {
            Some(nodes) if nodes.own() != id.node() => Err(Refused::not_found(format!(
                "this node, {}, does not have the connection; it began on node {}",
                nodes.own(),
                id.node()
            ))),
            _ => {
                Err(Refused::not_found("there is no connection with this id, and no session is kept for it"))
            }
        },
    }
}

pub(super) fn connection_id(text: &str) -> Result<ConnectionId, Refused> {
    text.parse().map_err(|error| Refused::bad_request(format!("{text:?} is {error}")))
}

fn session_json(engine: &Engine, id: ConnectionId, session: &SessionSnapshot) -> Value {
    let now = engine.context.clock.now();
    let (state, kept_until) = match session.state {
        SessionState::Connected => ("connected", None),
        SessionState::Ending | SessionState::Ended => ("ending", None),
        SessionState::Absent(until) => ("absent", Some(until)),
    };
    let protocol = match session.subprotocol {
        Subprotocol::Plain => "plain",
        Subprotocol::V1 => V1,
    };
    let rooms = session.memberships.iter().map(|(membership, is_inactive)| {
        json!({
            "id": membership.room.id().as_str(),
            "name": membership.name.as_str(),
            "is_hidden": membership.is_hidden,
            "is_read_only": membership.is_read_only(),
            "is_inactive": is_inactive,
        })
    });
    let limits = &engine.config().limits;
    json!({
        "id": id.to_string(),
        "state": state,
        "protocol": protocol,
        "age_seconds": now.saturating_sub(session.began).as_secs(),
        "kept_for_seconds": kept_until.map(|until| until.saturating_sub(now).as_secs()),
        "user": session.user.as_ref().map(|user| user.id()),
        "user_has_expired": session.user.is_some() && !session.is_of_user,
        "address": session.peer.map(|peer| peer.to_string()),
        "queue": {
            "bytes": session.waiting.bytes,
            "frames": session.waiting.frames,
            "replay_bytes": session.replay_bytes,
            "max_bytes": limit_value(limits.max_queue_bytes),
            "max_frames": limit_value(limits.max_queue_frames),
        },
        "rooms": rooms.collect::<Vec<_>>(),
        "room_count": session.rooms,
    })
}

/// A page of the users that have sessions on this node, in the order of their ids.
pub(super) async fn users(engine: &Engine, mut query: Query) -> Result<Value, Refused> {
    let (after, find) = (query.take("after"), query.take("find").unwrap_or_default());
    let limit = query.limit()?;
    query.finish()?;
    let mut listing: Listing<String, (usize, Vec<ConnectionId>)> = Listing::new(after, limit);
    let (mut seen, mut found) = (0, 0);
    for shard in 0..USER_SHARDS {
        engine.sessions.users().visit(shard, |user, sessions| {
            seen += 1;
            if user.contains(&find) {
                found += 1;
                if listing.has_place_for(|other| other.as_str().cmp(user)) {
                    let ids = sessions.keys().take(MAX_SESSIONS).copied().collect();
                    listing.offer(user.to_owned(), (sessions.len(), ids));
                }
            }
        });
        if seen >= ENTRIES_PER_TURN {
            seen = 0;
            yield_now().await;
        }
    }
    let Page { entries, has_more } = listing.finish();
    let next = entries.last().filter(|_| has_more).map(|(user, _)| user.clone());
    let entries = entries.iter().map(|(user, (count, sessions))| {
        let sessions: Vec<String> = sessions.iter().map(ConnectionId::to_string).collect();
        json!({ "id": user, "session_count": count, "sessions": sessions })
    });
    Ok(json!({ "users": entries.collect::<Vec<_>>(), "next": next, "count": found }))
}
