//! The engine's calls, which a node in Redis carries out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_chat_rooms_redis as redis;

use super::calls::Calls;
use super::convert::{
    batch_start_of, health_of, id_of, log_needs, logged_of, member_of, new_member_of, not_entered_of,
    not_taken_of, outcome_of, place_of, profile_of, session_of, stats_of, submitted_of, to_stamp,
    user_session_of, user_text,
};
use super::jobs::{Job, Jobs};
use super::turns::{Turn, Turns};
use crate::broker::{
    BatchId, BatchOutcome, BatchStart, BoxFuture, EntryId, KeptSession, LoggedEvent, NewMember, NewSession,
    NotEntered, NotTaken, RemoteBroker, RemoteMember, RemoteSession, RoomPlace, Stamp, Submitted, TokenHash,
    Unavailable,
};
use crate::config::{History, Recovery};
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::resume::ResumeToken;
use crate::room::Profile;
use crate::stats::BrokerStats;

/// Members that are read at a time.
const PAGE: usize = 500;

/// Calls the node for the engine. The calls that need an order take turns.
pub(super) struct RedisBroker {
    node: Arc<redis::Node>,
    runtime: Handle,
    /// Enters and resumptions. They may wait for subscriptions to rooms, which the other calls must not wait for.
    enters: Calls,
    calls: Calls,
    /// The calls for members and sessions.
    turns: Turns<ConnectionId>,
    /// Those for the sessions of users.
    user_turns: Turns<ConnectionId>,
    /// What the host publishes.
    host_turns: Turns<RoomId>,
    jobs: Jobs,
}

impl RedisBroker {
    pub(super) fn new(node: redis::Node, runtime: Handle) -> RedisBroker {
        let node = Arc::new(node);
        let (jobs, enters, calls) = (Jobs::new(&node, &runtime), Calls::new(), Calls::new());
        let (turns, user_turns, host_turns) = (Turns::default(), Turns::default(), Turns::default());
        RedisBroker { node, runtime, enters, calls, turns, user_turns, host_turns, jobs }
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
        let ((mut reply, entered), enters) = (oneshot::channel(), self.enters.clone());
        self.runtime.spawn(async move {
            turn.begin().await;
            let under_way = select! {
                biased;
                // Nobody waits for it any more.
                () = reply.closed() => return,
                under_way = enters.begin_soon() => under_way,
            };
            let Some(under_way) = under_way else {
                let _ = reply.send(Err(redis::EnterError::Unavailable));
                return;
            };
            let id = id_of(entry);
            let entered = node.enter(room.as_str(), new, Some(max_members)).await;
            let is_unknown = matches!(entered, Err(redis::EnterError::Unavailable));
            if !is_unknown {
                under_way.note_answer();
            }
            let _ = reply.send(entered);
            // The turn ends when it is certain whether the member is in the room. Otherwise, the member could enter again
            // before it has left.
            if is_unknown {
                node.leave(room.as_str(), &id, None).await;
            }
        });
        Box::pin(async {
            match entered.await {
                Ok(entered) => entered.map(|_| ()).map_err(not_entered_of),
                Err(_) => Err(NotEntered::Unavailable),
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
            batch_start_of(start.map_err(|_| Unavailable)?)
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
        self.jobs.enqueue(Job::Transient { room: room.clone(), body }, room);
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
        self.jobs.enqueue(Job::ToAll { body }, "all");
    }

    fn send_to_node(&self, node: u32, body: Bytes) {
        self.jobs.enqueue(Job::ToNode { node, body }, node);
    }

    fn send_to_user(&self, user: &str, body: Bytes) {
        self.jobs.enqueue(Job::ToUser { user: user.into(), body }, user);
    }

    fn health(&self) -> Health {
        health_of(self.node.outage())
    }

    fn stats(&self) -> BrokerStats {
        stats_of(self.node.stats(), self.node.outage().is_none())
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
        let enters = self.enters.clone();
        let resumed = self.runtime.spawn(async move {
            let under_way = enters.begin_soon().await.ok_or(redis::ResumeError::Unavailable)?;
            let resumed = node.resume(token.as_str(), new.as_str(), &user).await;
            if resumed != Err(redis::ResumeError::Unavailable) {
                under_way.note_answer();
            }
            resumed
        });
        Box::pin(async {
            match resumed.await {
                Ok(resumed) => resumed.map(|_| ()).map_err(not_taken_of),
                Err(_) => Err(NotTaken::Unavailable),
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
