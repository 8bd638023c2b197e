//! The broker in Redis or Valkey.

mod convert;
mod turns;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tower_chat_rooms_redis as redis;
pub use tower_chat_rooms_redis::{ConnectError as RedisConnectError, Settings as RedisSettings};

use crate::broker::{
    BoxFuture, BrokerNode, EntryId, NewMember, NotEntered, RemoteBroker, RemoteEvent, RemoteEvents,
    RemoteMember, RemoteSession, Submitted, Unavailable,
};
use crate::ids::{ConnectionId, Name, RoomId};
use crate::room::Profile;
use convert::{event_of, id_of, member_of, profile_of, session_of};
use turns::Turns;

/// Members that are read at a time.
const PAGE: usize = 500;

/// Jobs nobody waits for are spread over this many queues, by their rooms.
const QUEUES: usize = 16;

/// Jobs that may wait in a queue.
const QUEUE_LENGTH: usize = 256;

/// The same for calls to other nodes.
const CALLS_LENGTH: usize = 1024;

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
        let (node, runtime) = (Arc::new(node), Handle::current());
        let queues = |length| {
            std::array::from_fn(|_| {
                let (queue, jobs) = mpsc::channel(length);
                runtime.spawn(work(node.clone(), jobs));
                queue
            })
        };
        let (queues, calls) = (queues(QUEUE_LENGTH), queues(CALLS_LENGTH));
        let hasher = RandomState::new();
        let (turns, user_turns) = (Turns::default(), Turns::default());
        let broker = RedisBroker { node, runtime, turns, user_turns, hasher, queues, calls };
        Ok(BrokerNode { broker: Arc::new(broker), events: Box::new(Events(events)) })
    }
}

struct RedisBroker {
    node: Arc<redis::Node>,
    runtime: Handle,
    turns: Turns,
    /// The same for the sessions of users.
    user_turns: Turns,
    hasher: RandomState,
    queues: [mpsc::Sender<Job>; QUEUES],
    calls: [mpsc::Sender<Job>; QUEUES],
}

struct Events(redis::Events);

/// A call that nobody waits for, and that may get lost.
enum Job {
    Transient {
        room: RoomId,
        body: Bytes,
    },
    Profile {
        room: RoomId,
        entry: EntryId,
        profile: redis::Profile,
        body: Bytes,
    },
    ToAll {
        body: Bytes,
    },
    ToNode {
        node: u32,
        body: Bytes,
    },
    /// To the other nodes on which the user has sessions.
    ToUser {
        user: Box<str>,
        body: Bytes,
    },
}

impl RedisBroker {
    /// Jobs with the same key are done in order.
    fn enqueue(&self, job: Job, key: impl Hash) {
        let queues = match job {
            Job::Transient { .. } | Job::Profile { .. } => &self.queues,
            Job::ToAll { .. } | Job::ToNode { .. } | Job::ToUser { .. } => &self.calls,
        };
        let queue = &queues[self.hasher.hash_one(key) as usize % QUEUES];
        if let Err(error) = queue.try_send(job) {
            let job = error.into_inner().name();
            tracing::warn!(job, "too much waits for Redis; something that may get lost is dropped");
        }
    }

    /// Calls the node about a session of a user, after the earlier calls about that session.
    fn call_for_user<F>(
        &self,
        session: ConnectionId,
        call: impl FnOnce(Arc<redis::Node>, String) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<bool, Unavailable>>
    where
        F: Future<Output = Result<bool, redis::Unavailable>> + Send,
    {
        let (node, mut turn) = (self.node.clone(), self.user_turns.next(session));
        let called = self.runtime.spawn(async move {
            turn.begin().await;
            call(node, session.to_string()).await
        });
        Box::pin(async { called.await.ok().and_then(Result::ok).ok_or(Unavailable) })
    }
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Job::Transient { .. } => "transient frame",
            Job::Profile { .. } => "profile",
            Job::ToAll { .. } => "call for all nodes",
            Job::ToNode { .. } => "call for a node",
            Job::ToUser { .. } => "call for a user's nodes",
        }
    }
}

impl RemoteBroker for RedisBroker {
    fn node(&self) -> u32 {
        self.node.number()
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

    fn rooms(&self) -> BoxFuture<'static, Result<Vec<(RoomId, u64)>, Unavailable>> {
        let node = self.node.clone();
        Box::pin(async move {
            let rooms = node.rooms().await.map_err(|_| Unavailable)?;
            Ok(rooms.into_iter().map(|room| (RoomId::from(room.room), room.num)).collect())
        })
    }

    fn begin_user(
        &self,
        user: &str,
        session: ConnectionId,
        window: Duration,
    ) -> BoxFuture<'static, Result<bool, Unavailable>> {
        let user = user.to_owned();
        self.call_for_user(session, move |node, session| async move {
            node.begin_user(&user, &session, window).await
        })
    }

    fn end_user(&self, user: &str, session: ConnectionId) -> BoxFuture<'static, Result<bool, Unavailable>> {
        let user = user.to_owned();
        self.call_for_user(session, move |node, session| async move { node.end_user(&user, &session).await })
    }

    fn user_sessions(&self, user: &str) -> BoxFuture<'static, Result<Vec<RemoteSession>, Unavailable>> {
        let (node, user) = (self.node.clone(), user.to_owned());
        Box::pin(async move {
            let sessions = node.user_sessions(&user).await.map_err(|_| Unavailable)?;
            Ok(sessions.into_iter().filter_map(session_of).collect())
        })
    }

    fn nodes(&self) -> BoxFuture<'static, Result<Vec<u32>, Unavailable>> {
        let node = self.node.clone();
        Box::pin(async move { node.nodes().await.map_err(|_| Unavailable) })
    }

    fn send_to_all(&self, body: Bytes) {
        self.enqueue(Job::ToAll { body }, "all");
    }

    fn send_to_node(&self, node: u32, body: Bytes) {
        self.enqueue(Job::ToNode { node, body }, node);
    }

    fn send_to_user(&self, user: &str, body: Bytes) {
        self.enqueue(Job::ToUser { user: user.into(), body }, user);
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
            Job::ToAll { body } => warn_if_lost(node.send_to_all(&body).await),
            Job::ToNode { node: number, body } => warn_if_lost(node.send_to_number(number, &body).await),
            Job::ToUser { user, body } => warn_if_lost(send_to_user(&node, &user, &body).await),
        }
    }
}

async fn send_to_user(node: &redis::Node, user: &str, body: &[u8]) -> Result<(), redis::Unavailable> {
    let sessions = node.user_sessions(user).await?;
    let others = sessions.iter().filter(|session| session.is_live && session.node != node.number());
    for other in others.map(|session| session.node).collect::<BTreeSet<u32>>() {
        node.send_to_number(other, body).await?;
    }
    Ok(())
}

fn warn_if_lost(sent: Result<(), redis::Unavailable>) {
    if sent.is_err() {
        tracing::warn!("Redis cannot be reached; other nodes miss a call of this one");
    }
}
