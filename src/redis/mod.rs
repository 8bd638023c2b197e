//! The broker in Redis or Valkey.

mod convert;
mod turns;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tower_chat_rooms_redis as redis;
pub use tower_chat_rooms_redis::{ConnectError as RedisConnectError, Settings as RedisSettings};

use crate::broker::{
    BoxFuture, BrokerNode, EntryId, LoggedEvent, NewMember, NotEntered, RemoteBroker, RemoteEvent,
    RemoteEvents, RemoteMember, Stamp, Submitted, Unavailable,
};
use crate::config::{History, Recovery};
use crate::ids::{Name, RoomId};
use crate::room::Profile;
use convert::{
    entry_of, event_of, id_of, log_needs, logged_of, member_of, new_member_of, profile_of, stamp_of, to_stamp,
};
use turns::Turns;

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
        let new = new_member_of(&member);
        let turn = self.turns.next(member.entry.member);
        let (node, room, mut turn) = (self.node.clone(), room.clone(), turn);
        // Its turn is over when the member is in the room, even if nobody waits for it.
        let entered = self.runtime.spawn(async move {
            turn.begin().await;
            node.enter(room.as_str(), new, Some(max_members)).await
        });
        Box::pin(async {
            match entered.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(redis::EnterError::RoomFull)) => Err(NotEntered::RoomFull),
                Ok(Err(redis::EnterError::NameTaken { without_owner })) => {
                    let anonymous = without_owner.and_then(|id| Some(entry_of(&id)?.member));
                    Err(NotEntered::NameTaken { anonymous })
                }
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
            Ok(Submitted { position: stamp_of(stamp).position(), is_repeat })
        })
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        self.enqueue(Job::Transient { room: room.clone(), body }, room);
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, name: &Name, profile: &Profile, body: Bytes) {
        let profile = profile_of(name, profile);
        self.enqueue(Job::Profile { room: room.clone(), entry, profile, body }, room);
    }

    fn set_owner(&self, room: &RoomId, entry: EntryId, owner: &str) {
        let (node, room, owner) = (self.node.clone(), room.clone(), owner.to_owned());
        let mut turn = self.turns.next(entry.member);
        self.runtime.spawn(async move {
            turn.begin().await;
            node.set_owner(room.as_str(), &id_of(entry), &owner).await;
        });
    }

    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>> {
        let (node, room) = (self.node.clone(), room.clone());
        Box::pin(async move {
            let (mut after, mut members) = (0, Vec::new());
            loop {
                let page = node.roster(room.as_str(), after, PAGE).await.ok()?.members;
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |last| last.place);
                members.extend(page.into_iter().filter_map(member_of));
                if is_last {
                    return Some(members);
                }
            }
        })
    }

    fn log(
        &self,
        room: &RoomId,
        until: Stamp,
        history: History,
    ) -> BoxFuture<'static, Option<Vec<LoggedEvent>>> {
        let (node, room) = (self.node.clone(), room.clone());
        Box::pin(async move {
            let log = node.history(room.as_str(), to_stamp(until), log_needs(history)).await.ok()?;
            // After one that something else has written, the rest is still complete.
            let mut log: Vec<_> = log.into_iter().rev().map_while(logged_of).collect();
            log.reverse();
            Some(log)
        })
    }

    fn keep_logs(&self, recovery: &Recovery) {
        let needs = recovery.history.map_or(redis::LogNeeds::default(), log_needs);
        let window = recovery.resume_window;
        let age = needs.age.max(window);
        self.node.keep_logs(redis::LogNeeds { age, message_id_window: window, ..needs });
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
