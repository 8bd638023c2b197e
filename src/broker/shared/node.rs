//! A node of a broker within one process.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::SharedBroker;
use super::order::Shared;
use super::users::Registration;
use crate::broker::{
    BatchId, BatchOutcome, BatchStart, BoxFuture, EntryId, KeptSession, LoggedEvent, NewMember, NewSession,
    NotEntered, NotTaken, RemoteBroker, RemoteEvent, RemoteEvents, RemoteMember, RemoteSession, RoomPlace,
    Stamp, Submitted, TokenHash, Unavailable,
};
use crate::config::{History, Recovery};
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::progress::Progress;
use crate::protocol::resume::ResumeToken;
use crate::room::Profile;
use crate::stats::BrokerStats;
use crate::sync::{Mutex, lock};

pub(super) struct SharedNode {
    pub(super) number: u32,
    pub(super) shared: SharedBroker,
}

impl SharedNode {
    /// Calls the broker: now, or when it can be reached again.
    fn call(&self, call: impl FnOnce(&mut Shared) + Send + 'static) {
        let mut shared = self.shared.lock();
        match shared.outage.is_some() {
            true => shared.waiting.push(Box::new(call)),
            false => call(&mut shared),
        }
    }

    /// As [`SharedNode::call`]. The future is ready when the broker has answered.
    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Shared) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let reply: Arc<Mutex<(Option<T>, Option<Waker>)>> = Arc::new(Mutex::new((None, None)));
        let answered = reply.clone();
        self.call(move |shared| {
            let answer = call(shared);
            let mut reply = lock(&answered);
            reply.0 = Some(answer);
            if let Some(waker) = reply.1.take() {
                waker.wake();
            }
        });
        Box::pin(poll_fn(move |cx| {
            let mut reply = lock(&reply);
            match reply.0.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    reply.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl RemoteBroker for SharedNode {
    fn node(&self) -> u32 {
        self.number
    }

    fn enter(
        &self,
        room: &RoomId,
        member: NewMember,
        max_members: u64,
    ) -> BoxFuture<'static, Result<(), NotEntered>> {
        let (node, room) = (self.number, room.clone());
        let entered = self.ask(move |shared| shared.enter(node, &room, member, max_members));
        Box::pin(async { Progress::new().wait(entered).await.unwrap_or(Err(NotEntered::Unavailable)) })
    }

    fn leave(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        let (node, room) = (self.number, room.clone());
        self.call(move |shared| shared.leave(node, &room, entry, generation, body));
    }

    fn undo_enter(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        let (node, room) = (self.number, room.clone());
        self.call(move |shared| {
            shared.leave(node, &room, entry, generation, body);
            shared.tell_new_node(&room, entry);
        });
    }

    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        key: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let (node, room, key) = (self.number, room.clone(), key.map(str::to_owned));
        self.ask(move |shared| shared.publish(node, &room, entry, key, body))
    }

    fn begin_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> BoxFuture<'static, Result<BatchStart, Unavailable>> {
        let room = room.clone();
        self.ask(move |shared| shared.begin_batch(&room, batch, len, floor))
    }

    fn finish_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        outcome: BatchOutcome,
    ) -> BoxFuture<'static, Result<Vec<Submitted>, Unavailable>> {
        let room = room.clone();
        self.ask(move |shared| shared.finish_batch(&room, batch, outcome))
    }

    fn place(&self, room: &RoomId, after: Option<MessageId>) -> BoxFuture<'static, Option<RoomPlace>> {
        let room = room.clone();
        self.ask(move |shared| Some(shared.place(&room, after)))
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        let room = room.clone();
        self.call(move |shared| {
            shared.tell(&room, |room| RemoteEvent::Transient { room, body: body.clone() });
        });
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, _: &Name, profile: &Profile) {
        let (node, room, profile) = (self.number, room.clone(), profile.clone());
        self.call(move |shared| shared.set_profile(node, &room, entry, profile));
    }

    fn set_owner(&self, room: &RoomId, entry: EntryId, owner: &str) {
        let (node, room, owner) = (self.number, room.clone(), owner.into());
        self.call(move |shared| shared.set_owner(node, &room, entry, owner));
    }

    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>> {
        let room = room.clone();
        self.ask(move |shared| {
            let members = shared.rooms.get(&room).map(|room| &room.members[..]).unwrap_or_default();
            Some(members.iter().map(|member| member.member.clone()).collect())
        })
    }

    fn log(
        &self,
        room: &RoomId,
        until: Stamp,
        history: History,
    ) -> BoxFuture<'static, Option<Vec<LoggedEvent>>> {
        let room = room.clone();
        self.ask(move |shared| Some(shared.log(&room, until, history)))
    }

    fn keep_logs(&self, recovery: &Recovery) {
        let recovery = recovery.clone();
        self.call(move |shared| shared.keep_logs(&recovery));
    }

    fn rooms(&self) -> BoxFuture<'static, Result<Vec<(RoomId, u64)>, Unavailable>> {
        self.ask(|shared| Ok(shared.rooms.iter().map(|(id, room)| (id.clone(), room.latest.num)).collect()))
    }

    fn begin_user(
        &self,
        user: &str,
        session: ConnectionId,
        window: Duration,
    ) -> BoxFuture<'static, Result<bool, Unavailable>> {
        let (user, registration) = (user.to_owned(), Registration { node: self.number, window });
        self.ask(move |shared| Ok(shared.users.begin(&user, session, registration)))
    }

    fn end_user(&self, user: &str, session: ConnectionId) -> BoxFuture<'static, Result<bool, Unavailable>> {
        let (user, node) = (user.to_owned(), self.number);
        self.ask(move |shared| Ok(shared.users.end(&user, session, node)))
    }

    fn user_sessions(&self, user: &str) -> BoxFuture<'static, Result<Vec<RemoteSession>, Unavailable>> {
        let user = user.to_owned();
        self.ask(move |shared| Ok(shared.user_sessions(&user)))
    }

    fn nodes(&self) -> BoxFuture<'static, Result<Vec<u32>, Unavailable>> {
        self.ask(|shared| Ok(shared.nodes.keys().copied().collect()))
    }

    fn send_to_node(&self, node: u32, body: Bytes) {
        self.call(move |shared| shared.send_to(node, body));
    }

    fn send_to_user(&self, user: &str, body: Bytes) {
        let (user, own) = (user.to_owned(), self.number);
        self.call(move |shared| {
            let nodes: BTreeSet<u32> =
                shared.user_sessions(&user).iter().map(|session| session.node).collect();
            for node in nodes.into_iter().filter(|node| *node != own) {
                shared.send_to(node, body.clone());
            }
        });
    }

    fn send_to_all(&self, body: Bytes) {
        self.call(move |shared| {
            for hearer in shared.nodes.values_mut() {
                hearer.push(RemoteEvent::Command { body: body.clone() });
            }
        });
    }

    fn health(&self) -> Health {
        self.shared.lock().outage.clone().unwrap_or(Health::Healthy)
    }

    fn stats(&self) -> BrokerStats {
        let shared = self.shared.lock();
        BrokerStats {
            is_available: shared.outage.is_none(),
            waiting: shared.waiting.len(),
            ..BrokerStats::default()
        }
    }

    /// Nobody outside of this process hears it.
    fn hash(&self, token: &ResumeToken) -> TokenHash {
        TokenHash::new(token.reveal())
    }

    fn open_session(&self, session: NewSession) {
        let node = self.number;
        self.call(move |shared| shared.open_session(node, session));
    }

    fn set_user(&self, session: &KeptSession, user: Option<&str>) {
        let (node, session, user) = (self.number, session.clone(), user.map(Box::from));
        self.call(move |shared| shared.set_user(node, &session, user));
    }

    fn rename_session(
        &self,
        session: &KeptSession,
        new: &TokenHash,
    ) -> BoxFuture<'static, Result<(), Unavailable>> {
        let (node, session, new) = (self.number, session.clone(), new.clone());
        self.ask(move |shared| shared.rename_session(node, &session, new))
    }

    fn close_session(&self, session: &KeptSession) -> BoxFuture<'static, bool> {
        let (node, session) = (self.number, session.clone());
        self.ask(move |shared| shared.close_session(node, &session))
    }

    fn take_over(
        &self,
        token: &TokenHash,
        new: &TokenHash,
        user: Option<&str>,
    ) -> BoxFuture<'static, Result<(), NotTaken>> {
        let (node, token, new, user) = (self.number, token.clone(), new.clone(), user.map(Box::from));
        self.ask(move |shared| shared.take_over(node, &token, new, user))
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let number = self.number;
        self.ask(move |shared| {
            shared.close_node(number);
        })
    }
}

impl RemoteEvents for SharedNode {
    fn next(&mut self) -> BoxFuture<'_, Option<RemoteEvent>> {
        Box::pin(poll_fn(|cx| {
            let mut shared = self.shared.lock();
            let Some(hearer) = shared.nodes.get_mut(&self.number) else { return Poll::Ready(None) };
            let event = if hearer.is_deaf { None } else { hearer.events.pop_front() };
            match event {
                Some(event) => Poll::Ready(Some(event)),
                None => {
                    hearer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}
