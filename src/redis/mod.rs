//! The broker in Redis or Valkey.

mod calls;
#[cfg(test)]
mod conformance;
mod convert;
mod publisher;
mod turns;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tower_chat_rooms_redis as redis;
pub use tower_chat_rooms_redis::{ConnectError as RedisConnectError, Settings as RedisSettings};

use crate::broker::{
    BatchId, BatchOutcome, BatchStart, BoxFuture, BrokerNode, EntryId, KeptSession, LoggedEvent, NewMember,
    NewSession, NotEntered, NotTaken, RemoteBroker, RemoteEvent, RemoteEvents, RemoteMember, RemoteSession,
    RoomPlace, Stamp, Submitted, TokenHash, Unavailable,
};
use crate::config::{History, Recovery};
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::resume::ResumeToken;
use crate::room::Profile;
use crate::stats::BrokerStats;
use calls::Calls;
use convert::{
    entry_of, event_of, id_of, log_needs, logged_of, member_of, new_member_of, outcome_of, place_of,
    profile_of, session_of, submitted_of, to_stamp, user_session_of, user_text,
};
pub use publisher::{RedisPublisher, RedisSent};
use turns::{Turn, Turns};

/// Members that are read at a time.
const PAGE: usize = 500;

/// Transient frames are spread over this many queues, by their rooms.
const QUEUES: usize = 16;

/// Transient frames that may wait in a queue.
const QUEUE_LENGTH: usize = 256;

/// The same for calls to other nodes.
const NODE_QUEUE_LENGTH: usize = 1024;

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
    /// [lease](RedisSettings::lease) has expired.
    ///
    /// # Errors
    ///
    /// If the settings cannot work, or if Redis refuses the connection. If Redis cannot be reached,
    /// [`RedisSettings::wait_for_redis`] decides whether the call waits or fails.
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
        let (queues, node_queues) = (queues(QUEUE_LENGTH), queues(NODE_QUEUE_LENGTH));
        let calls = Calls::new();
        let hasher = RandomState::new();
        let (turns, user_turns, host_turns) = (Turns::default(), Turns::default(), Turns::default());
        let dropped = AtomicU64::new(0);
        let broker = RedisBroker {
            node,
            runtime,
            calls,
            turns,
            user_turns,
            host_turns,
            hasher,
            queues,
            node_queues,
            dropped,
        };
        Ok(BrokerNode { broker: Arc::new(broker), events: Box::new(Events(events)) })
    }
}

struct RedisBroker {
    node: Arc<redis::Node>,
    runtime: Handle,
    calls: Calls,
    /// The calls for members and sessions.
    turns: Turns<ConnectionId>,
    /// Those for the sessions of users.
    user_turns: Turns<ConnectionId>,
    /// What the host publishes.
    host_turns: Turns<RoomId>,
    hasher: RandomState,
    queues: [mpsc::Sender<Job>; QUEUES],
    /// The same for calls to other nodes.
    node_queues: [mpsc::Sender<Job>; QUEUES],
    /// Jobs that were dropped because a queue was full.
    dropped: AtomicU64,
}

struct Events(redis::Events);

/// A call that nobody waits for, and that may get lost.
enum Job {
    Transient {
        room: RoomId,
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
            Job::Transient { .. } => &self.queues,
            Job::ToAll { .. } | Job::ToNode { .. } | Job::ToUser { .. } => &self.node_queues,
        };
        let queue = &queues[self.hasher.hash_one(key) as usize % QUEUES];
        if let Err(error) = queue.try_send(job) {
            let job = error.into_inner().name();
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // The first, the second, the fourth and so on.
            if dropped.is_power_of_two() {
                tracing::warn!(
                    job,
                    dropped,
                    "too much is waiting for Redis; dropping a job that may get lost"
                );
            }
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
        let turn = self.user_turns.next(session);
        let called = self.call_in(turn, move |node| call(node, session.to_string()));
        Box::pin(async { called.await.ok().and_then(Result::ok).ok_or(Unavailable) })
    }

    /// Calls the node about a member or a session, when it is the call's turn and not too many calls are under way.
    fn call_in<F>(
        &self,
        mut turn: Turn<ConnectionId>,
        call: impl FnOnce(Arc<redis::Node>) -> F + Send + 'static,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send,
    {
        let (node, calls) = (self.node.clone(), self.calls.clone());
        self.runtime.spawn(async move {
            turn.begin().await;
            let under_way = calls.begin().await;
            let answer = call(node).await;
            under_way.note_answer();
            answer
        })
    }
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Job::Transient { .. } => "transient frame",
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
        let new = new_member_of(&member);
        let entry = member.entry;
        let (node, room, mut turn) = (self.node.clone(), room.clone(), self.turns.next(entry.member));
        let ((mut reply, entered), calls) = (oneshot::channel(), self.calls.clone());
        self.runtime.spawn(async move {
            turn.begin().await;
            let under_way = select! {
                biased;
                // Nobody waits for it any more.
                () = reply.closed() => return,
                under_way = calls.begin_soon() => under_way,
            };
            let Some(under_way) = under_way else {
                let _ = reply.send(Err(redis::EnterError::Unavailable));
                return;
            };
            let id = id_of(entry);
            let entered = node.enter(room.as_str(), new, Some(max_members)).await;
            let is_unknown = matches!(entered, Err(redis::EnterError::Unavailable));
            let _ = reply.send(entered);
            // The turn ends when it is certain whether the member is in the room. Otherwise, the member could enter again
            // before it has left.
            if is_unknown {
                node.leave(room.as_str(), &id, None).await;
            }
            under_way.note_answer();
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

    fn leave(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        let room = room.clone();
        self.call_in(self.turns.next(entry.member), async move |node| {
            node.leave_in_session(room.as_str(), &id_of(entry), generation, body).await
        });
    }

    fn undo_enter(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        let room = room.clone();
        // Members without a session have the generation 0.
        let session = if generation == 0 { String::new() } else { entry.member.to_string() };
        self.call_in(self.turns.next(entry.member), async move |node| {
            node.undo_enter(room.as_str(), &id_of(entry), &session, generation, body).await
        });
    }

    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        key: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let (node, room, key) = (self.node.clone(), room.clone(), key.map(str::to_owned));
        // A member waits for the answer before it publishes again. The host does not.
        let mut turn = entry.is_none().then(|| self.host_turns.next(room.clone()));
        Box::pin(async move {
            if let Some(turn) = &mut turn {
                turn.begin().await;
            }
            let entry = entry.map(id_of);
            let published = node.publish(room.as_str(), entry.as_deref(), key.as_deref(), &body).await;
            submitted_of(published.map_err(|_| Unavailable)?)
        })
    }

    fn begin_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> BoxFuture<'static, Result<BatchStart, Unavailable>> {
        let (node, room) = (self.node.clone(), room.clone());
        Box::pin(async move {
            let floor = floor.map(MessageId::as_u64);
            let start = node.begin_batch(room.as_str(), &batch.to_string(), len, floor).await;
            match start.map_err(|_| Unavailable)? {
                redis::BatchStart::Begun(first) => {
                    Ok(BatchStart::Begun(MessageId::from_u64(first).ok_or(Unavailable)?))
                }
                redis::BatchStart::NeedsFloor => Ok(BatchStart::NeedsFloor),
                _ => Ok(BatchStart::Busy),
            }
        })
    }

    fn finish_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        outcome: BatchOutcome,
    ) -> BoxFuture<'static, Result<Vec<Submitted>, Unavailable>> {
        let (node, room, outcome) = (self.node.clone(), room.clone(), outcome_of(outcome));
        Box::pin(async move {
            let published = node.finish_batch(room.as_str(), &batch.to_string(), &outcome).await;
            published.map_err(|_| Unavailable)?.into_iter().map(submitted_of).collect()
        })
    }

    fn place(&self, room: &RoomId, after: Option<MessageId>) -> BoxFuture<'static, Option<RoomPlace>> {
        let (node, room) = (self.node.clone(), room.clone());
        Box::pin(async move {
            let after = after.map(MessageId::as_u64);
            node.place(room.as_str(), after).await.ok().map(place_of)
        })
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        self.enqueue(Job::Transient { room: room.clone(), body }, room);
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, name: &Name, profile: &Profile) {
        // The host may call this outside of the runtime.
        let _in_runtime = self.runtime.enter();
        self.node.set_profile(room.as_str(), &id_of(entry), profile_of(name, profile));
    }

    fn set_owner(&self, room: &RoomId, entry: EntryId, owner: &str) {
        let (room, owner) = (room.clone(), owner.to_owned());
        self.call_in(self.turns.next(entry.member), async move |node| {
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
            // If another program has written an event, only the events after it are returned, without gaps.
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
            Ok(sessions.into_iter().filter_map(user_session_of).collect())
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

    fn health(&self) -> Health {
        match self.node.outage() {
            Some(redis::Outage { since, reason, .. }) => Health::Degraded { since, reason },
            None => Health::Healthy,
        }
    }

    fn stats(&self) -> BrokerStats {
        let redis::NodeStats { reconnects, events, dropped_messages, lost_members, waiting_calls, .. } =
            self.node.stats();
        BrokerStats {
            is_available: self.node.outage().is_none(),
            reconnects,
            events,
            dropped_messages,
            lost_members,
            waiting: waiting_calls,
        }
    }

    fn hash(&self, token: &ResumeToken) -> TokenHash {
        let hash = Sha256::digest(token.bytes());
        TokenHash::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn open_session(&self, session: NewSession) {
        self.call_in(self.turns.next(session.id), async move |node| {
            let NewSession { id, token, user, window } = session;
            // An error says that this node is closed.
            let _ = node.open_session(session_of(id, &token, window).user(user_text(user.as_deref()))).await;
        });
    }

    fn set_user(&self, session: &KeptSession, user: Option<&str>) {
        let (turn, session, user) = (self.turns.next(session.id), session.clone(), user_text(user));
        self.call_in(turn, async move |node| {
            let _ = node.set_user(&session.id.to_string(), session.generation, &user).await;
        });
    }

    fn rename_session(
        &self,
        session: &KeptSession,
        new: &TokenHash,
    ) -> BoxFuture<'static, Result<(), Unavailable>> {
        let (id, generation, new) = (session.id.to_string(), session.generation, new.clone());
        let renamed = self.call_in(self.turns.next(session.id), async move |node| {
            node.rename_session(&id, generation, new.as_str()).await
        });
        Box::pin(async { renamed.await.ok().and_then(Result::ok).ok_or(Unavailable) })
    }

    fn close_session(&self, session: &KeptSession) -> BoxFuture<'static, bool> {
        let (id, generation) = (session.id.to_string(), session.generation);
        let closed = self.call_in(self.turns.next(session.id), async move |node| {
            node.close_session(&id, generation).await
        });
        // An error says that this node is closed.
        Box::pin(async { closed.await.ok().and_then(Result::ok).unwrap_or(true) })
    }

    fn take_over(
        &self,
        token: &TokenHash,
        new: &TokenHash,
        user: Option<&str>,
    ) -> BoxFuture<'static, Result<(), NotTaken>> {
        let (node, token, new, user) = (self.node.clone(), token.clone(), new.clone(), user_text(user));
        let calls = self.calls.clone();
        let resumed = self.runtime.spawn(async move {
            let under_way = calls.begin_soon().await.ok_or(redis::ResumeError::Unavailable)?;
            let resumed = node.resume(token.as_str(), new.as_str(), &user).await;
            if resumed != Err(redis::ResumeError::Unavailable) {
                under_way.note_answer();
            }
            resumed
        });
        Box::pin(async {
            match resumed.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(redis::ResumeError::Unknown)) => Err(NotTaken::Unknown),
                Ok(Err(redis::ResumeError::OtherUser)) => Err(NotTaken::OtherUser),
                Ok(Err(_)) | Err(_) => Err(NotTaken::Unavailable),
            }
        })
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
            Job::ToAll { body } => warn_if_lost(&node, node.send_to_all(&body).await),
            Job::ToNode { node: number, body } => {
                warn_if_lost(&node, node.send_to_number(number, &body).await)
            }
            Job::ToUser { user, body } => warn_if_lost(&node, send_to_user(&node, &user, &body).await),
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

fn warn_if_lost(node: &redis::Node, sent: Result<(), redis::Unavailable>) {
    match sent {
        Ok(()) => {}
        // The log has a line about the outage.
        Err(_) if node.outage().is_some() => tracing::debug!("other nodes miss a call of this node"),
        Err(_) => tracing::warn!("Redis cannot be reached; other nodes miss a call of this node"),
    }
}
