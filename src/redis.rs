//! The broker in Redis or Valkey.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tower_chat_rooms_redis as redis;
pub use tower_chat_rooms_redis::{ConnectError as RedisConnectError, Settings as RedisSettings};

use crate::broker::{
    BoxFuture, BrokerNode, EntryId, EventKind, NewMember, NotEntered, RemoteBroker, RemoteEvent,
    RemoteEvents, RemoteMember, RoomEvent, Stamp, Submitted, Unavailable,
};
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::protocol::position::Epoch;
use crate::room::Profile;
use crate::sync::{Mutex, lock};

/// Members that are read at a time.
const PAGE: usize = 500;

/// Jobs nobody waits for are spread over this many queues, by their rooms.
const QUEUES: usize = 16;

/// Jobs that may wait in a queue.
const QUEUE_LENGTH: usize = 256;

impl BrokerNode {
    /// Connects to Redis 7.0, Valkey 7.2 or later. All processes that use the same prefix share their rooms.
    ///
    /// Set `maxmemory-policy noeviction`: if keys are evicted, rooms lose members.
    ///
    /// ```no_run
    /// use tower_chat_rooms::{BrokerNode, ChatRooms, RedisSettings};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = BrokerNode::redis(RedisSettings::new("redis://127.0.0.1").prefix("shop-chat")).await?;
    /// let rooms = ChatRooms::builder().broker(node).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If a process ends without [`shutdown`](crate::ChatRooms::shutdown), the other nodes remove its members when its
    /// [lease](RedisSettings::lease) has run out.
    ///
    /// # Errors
    ///
    /// If the settings cannot work, or if Redis refuses the connection. If Redis cannot be reached, it waits or fails, as
    /// [`RedisSettings::wait_for_redis`] says.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub async fn redis(settings: RedisSettings) -> Result<BrokerNode, RedisConnectError> {
        let (node, events) = redis::Node::connect(settings).await?;
        // 0 is for ids without a broker.
        let number = (RandomState::new().hash_one(node.name()) as u32).max(1);
        let (node, runtime) = (Arc::new(node), Handle::current());
        let queues = std::array::from_fn(|_| {
            let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
            runtime.spawn(work(node.clone(), jobs));
            queue
        });
        let hasher = RandomState::new();
        let broker = RedisBroker { node, number, runtime, turns: Turns::default(), hasher, queues };
        Ok(BrokerNode { broker: Arc::new(broker), events: Box::new(Events(events)) })
    }
}

struct RedisBroker {
    node: Arc<redis::Node>,
    number: u32,
    runtime: Handle,
    turns: Turns,
    hasher: RandomState,
    queues: [mpsc::Sender<Job>; QUEUES],
}

struct Events(redis::Events);

/// A call that nobody waits for, and that may get lost.
enum Job {
    Transient { room: RoomId, body: Bytes },
    Profile { room: RoomId, entry: EntryId, profile: redis::Profile, body: Bytes },
}

/// Lets the calls for a member have their effects in the order of the calls.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<HashMap<ConnectionId, LatestTurn>>>);

struct LatestTurn {
    number: u64,
    is_over: oneshot::Receiver<()>,
}

struct Turn {
    turns: Turns,
    member: ConnectionId,
    number: u64,
    /// The one before.
    previous: Option<oneshot::Receiver<()>>,
    /// Dropped when this one is over.
    _is_over: oneshot::Sender<()>,
}

impl Turns {
    /// The turn after the latest one of a member.
    fn next(&self, member: ConnectionId) -> Turn {
        let (over, is_over) = oneshot::channel();
        let mut turns = lock(&self.0);
        let number = turns.get(&member).map_or(0, |latest| latest.number + 1);
        let previous = turns.insert(member, LatestTurn { number, is_over }).map(|latest| latest.is_over);
        Turn { turns: self.clone(), member, number, previous, _is_over: over }
    }
}

impl Turn {
    async fn begin(&mut self) {
        if let Some(previous) = self.previous.take() {
            // An error says that it is over, too.
            let _ = previous.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        if turns.get(&self.member).is_some_and(|latest| latest.number == self.number) {
            turns.remove(&self.member);
        }
    }
}

impl RedisBroker {
    fn enqueue(&self, job: Job, room: &RoomId) {
        let queue = &self.queues[self.hasher.hash_one(room) as usize % QUEUES];
        if queue.try_send(job).is_err() {
            tracing::warn!(%room, "too much waits for Redis; a transient frame or a profile is dropped");
        }
    }
}

impl RemoteBroker for RedisBroker {
    fn node(&self) -> u32 {
        self.number
    }

    fn enter(
        &self,
        room: &RoomId,
        member: NewMember,
        max_members: u64,
    ) -> BoxFuture<'static, Result<(), NotEntered>> {
        let NewMember { entry, name, profile, is_silent, body, leave_body } = member;
        let new = redis::NewMember::new(id_of(entry))
            .profile(profile_of(&name, &profile))
            .body(body)
            .leave_body(leave_body);
        let new = if is_silent { new.silent() } else { new };
        let (node, room, mut turn) = (self.node.clone(), room.clone(), self.turns.next(entry.member));
        // Its turn is over when the member is in the room, even if nobody waits for it.
        let entered = self.runtime.spawn(async move {
            turn.begin().await;
            node.enter(room.as_str(), new, Some(max_members)).await
        });
        Box::pin(async {
            match entered.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(redis::EnterError::RoomFull)) => Err(NotEntered::RoomFull),
                Ok(Err(_)) | Err(_) => Err(NotEntered::Unavailable),
            }
        })
    }

    fn leave(&self, room: &RoomId, entry: EntryId, body: Option<Bytes>) {
        let (node, room, mut turn) = (self.node.clone(), room.clone(), self.turns.next(entry.member));
        self.runtime.spawn(async move {
            turn.begin().await;
            node.leave(room.as_str(), &id_of(entry), body).await;
        });
    }

    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        id: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let (node, room, id) = (self.node.clone(), room.clone(), id.map(str::to_owned));
        Box::pin(async move {
            let entry = entry.map(id_of);
            let published = node.publish(room.as_str(), entry.as_deref(), id.as_deref(), &body).await;
            let redis::Published { stamp, is_repeat, .. } = published.map_err(|_| Unavailable)?;
            Ok(Submitted { seq: stamp.seq, is_repeat })
        })
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        self.enqueue(Job::Transient { room: room.clone(), body }, room);
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, name: &Name, profile: &Profile, body: Bytes) {
        let profile = profile_of(name, profile);
        self.enqueue(Job::Profile { room: room.clone(), entry, profile, body }, room);
    }

    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>> {
        let (node, room) = (self.node.clone(), room.clone());
        Box::pin(async move {
            let (mut after, mut members) = (0, Vec::new());
            loop {
                let page = node.roster(room.as_str(), after, PAGE).await.ok()?.members;
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |last| last.event);
                members.extend(page.into_iter().filter_map(member_of));
                if is_last {
                    return Some(members);
                }
            }
        })
    }

    fn send_to_all(&self, body: Bytes) {
        let node = self.node.clone();
        self.runtime.spawn(async move {
            if node.send_to_all(&body).await.is_err() {
                tracing::warn!("Redis cannot be reached; the other nodes miss a call of the host");
            }
        });
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let node = self.node.clone();
        Box::pin(async move {
            if node.close().await.is_err() {
                tracing::warn!("Redis cannot be reached; other nodes remove the members of this one");
            }
        })
    }
}

impl RemoteEvents for Events {
    fn next(&mut self) -> BoxFuture<'_, Option<RemoteEvent>> {
        Box::pin(async {
            loop {
                let event = self.0.recv().await?;
                if let Some(event) = event_of(event) {
                    return Some(event);
                }
            }
        })
    }
}

async fn work(node: Arc<redis::Node>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        // They may get lost.
        match job {
            Job::Transient { room, body } => {
                let _ = node.send_transient(room.as_str(), &body).await;
            }
            Job::Profile { room, entry, profile, body } => {
                let _ = node.set_profile(room.as_str(), &id_of(entry), profile, &body).await;
            }
        }
    }
}

/// What the engine has to know of.
fn event_of(event: redis::Event) -> Option<RemoteEvent> {
    Some(match event {
        redis::Event::Room(redis::RoomEvent { room, stamp, kind, member, body }) => {
            // A member that no node has entered: something else writes to the log.
            let entry = match member {
                Some(member) => Some(entry_of(&member)?),
                None => None,
            };
            let (room, stamp, kind) = (RoomId::shared(room), stamp_of(stamp), kind_of(kind));
            RemoteEvent::Room(RoomEvent { room, stamp, kind, entry, body })
        }
        redis::Event::Transient { room, body } => RemoteEvent::Transient { room: RoomId::shared(room), body },
        redis::Event::Reset { room, stamp, reason } => {
            tracing::warn!(%room, ?reason, "events of a room are lost; its members are disconnected");
            RemoteEvent::Reset { room: RoomId::shared(room), stamp: stamp_of(stamp) }
        }
        redis::Event::Command { body } => RemoteEvent::Command { body },
        redis::Event::State(redis::State::Degraded) => {
            tracing::warn!("Redis cannot be reached");
            return None;
        }
        redis::Event::State(redis::State::Connected) => {
            tracing::info!("connected to Redis");
            return None;
        }
        _ => return None,
    })
}

fn kind_of(kind: redis::EventKind) -> EventKind {
    match kind {
        redis::EventKind::Enter => EventKind::Enter,
        redis::EventKind::Leave => EventKind::Leave,
        redis::EventKind::SilentEnter => EventKind::SilentEnter,
        redis::EventKind::SilentLeave => EventKind::SilentLeave,
        redis::EventKind::Publish => EventKind::Publish,
        redis::EventKind::Profile => EventKind::Profile,
    }
}

fn stamp_of(stamp: redis::Stamp) -> Stamp {
    let redis::Stamp { epoch, event, seq, num } = stamp;
    Stamp { epoch: Epoch(epoch.as_u64()), event, seq, num }
}

fn id_of(EntryId { member, number }: EntryId) -> String {
    format!("{member}.{number}")
}

fn entry_of(id: &str) -> Option<EntryId> {
    let (member, number) = id.split_once('.')?;
    Some(EntryId { member: member.parse().ok()?, number: number.parse().ok()? })
}

fn profile_of(name: &Name, profile: &Profile) -> redis::Profile {
    let bytes = |text: &Option<Arc<str>>| text.as_deref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
    redis::Profile {
        name: name.as_str().to_owned(),
        user: profile.user.as_deref().map(str::to_owned),
        info: bytes(&profile.info),
        state: bytes(&profile.state),
    }
}

fn member_of(entry: redis::RosterEntry) -> Option<RemoteMember> {
    let text =
        |bytes: Option<Bytes>| bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(Into::into));
    let redis::Profile { name, user, info, state } = entry.profile;
    let (user, info, state) = (user.map(Into::into), text(info), text(state));
    Some(RemoteMember {
        entry: entry_of(&entry.member)?,
        name: Name::parse(&name, MaxLen::ANY).ok()?,
        profile: Profile { user, info, state, ..Profile::default() },
        entered: (Epoch(entry.epoch.as_u64()), entry.event),
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

    #[tokio::test]
    async fn calls_for_a_member_come_one_after_the_other() {
        let (turns, id) = (Turns::default(), ConnectionId(1));
        let (mut first, mut second, mut other) =
            (turns.next(id), turns.next(id), turns.next(ConnectionId(2)));
        first.begin().await;
        other.begin().await;
        let waiting = tokio::spawn(async move { second.begin().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(other);
        assert!(lock(&turns.0).is_empty());
    }
}
