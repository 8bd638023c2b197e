//! A node that tells when it is called, for tests that have to wait for a broker outside of the process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::broker::{
    BatchId, BatchOutcome, BatchStart, BoxFuture, BrokerNode, EntryId, KeptSession, LoggedEvent, NewMember,
    NewSession, NotEntered, NotTaken, RemoteBroker, RemoteMember, RemoteSession, RoomPlace, Stamp, Submitted,
    TokenHash, Unavailable,
};
use crate::config::{History, Recovery};
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::resume::ResumeToken;
use crate::room::Profile;
use crate::stats::BrokerStats;

type OnCall = Arc<dyn Fn() + Send + Sync>;

struct WatchedBroker {
    broker: Arc<dyn RemoteBroker>,
    on_call: OnCall,
}

/// A call that goes on whenever it is polled.
struct WatchedCall<T> {
    call: BoxFuture<'static, T>,
    on_call: OnCall,
}

impl BrokerNode {
    /// The same node. `on_call` is called after each call of the broker, and each time that the task which waits for the
    /// answer has been polled: the broker may have something to do from then on.
    #[doc(hidden)]
    pub fn watched(self, on_call: impl Fn() + Send + Sync + 'static) -> BrokerNode {
        let broker = WatchedBroker { broker: self.broker, on_call: Arc::new(on_call) };
        BrokerNode { broker: Arc::new(broker), ..self }
    }
}

impl WatchedBroker {
    /// Makes a call that nobody waits for.
    fn call(&self, call: impl FnOnce(&dyn RemoteBroker)) {
        call(&*self.broker);
        (self.on_call)();
    }

    fn ask<T: 'static>(
        &self,
        call: impl FnOnce(&dyn RemoteBroker) -> BoxFuture<'static, T>,
    ) -> BoxFuture<'static, T> {
        let call = call(&*self.broker);
        (self.on_call)();
        Box::pin(WatchedCall { call, on_call: self.on_call.clone() })
    }
}

impl<T> Future for WatchedCall<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let answer = self.call.as_mut().poll(cx);
        (self.on_call)();
        answer
    }
}

impl RemoteBroker for WatchedBroker {
    fn node(&self) -> u32 {
        self.broker.node()
    }

    fn enter(
        &self,
        room: &RoomId,
        member: NewMember,
        max_members: u64,
    ) -> BoxFuture<'static, Result<(), NotEntered>> {
        self.ask(|broker| broker.enter(room, member, max_members))
    }

    fn leave(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        self.call(|broker| broker.leave(room, entry, generation, body));
    }

    fn undo_enter(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>) {
        self.call(|broker| broker.undo_enter(room, entry, generation, body));
    }

    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        id: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        self.ask(|broker| broker.publish(room, entry, id, body))
    }

    fn begin_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> BoxFuture<'static, Result<BatchStart, Unavailable>> {
        self.ask(|broker| broker.begin_batch(room, batch, len, floor))
    }

    fn finish_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        outcome: BatchOutcome,
    ) -> BoxFuture<'static, Result<Vec<Submitted>, Unavailable>> {
        self.ask(|broker| broker.finish_batch(room, batch, outcome))
    }

    fn place(&self, room: &RoomId, after: Option<MessageId>) -> BoxFuture<'static, Option<RoomPlace>> {
        self.ask(|broker| broker.place(room, after))
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        self.call(|broker| broker.send_transient(room, body));
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, name: &Name, profile: &Profile) {
        self.call(|broker| broker.set_profile(room, entry, name, profile));
    }

    fn set_owner(&self, room: &RoomId, entry: EntryId, owner: &str) {
        self.call(|broker| broker.set_owner(room, entry, owner));
    }

    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>> {
        self.ask(|broker| broker.members(room))
    }

    fn log(
        &self,
        room: &RoomId,
        until: Stamp,
        history: History,
    ) -> BoxFuture<'static, Option<Vec<LoggedEvent>>> {
        self.ask(|broker| broker.log(room, until, history))
    }

    fn keep_logs(&self, recovery: &Recovery) {
        self.call(|broker| broker.keep_logs(recovery));
    }

    fn rooms(&self) -> BoxFuture<'static, Result<Vec<(RoomId, u64)>, Unavailable>> {
        self.ask(|broker| broker.rooms())
    }

    fn begin_user(
        &self,
        user: &str,
        session: ConnectionId,
        window: Duration,
    ) -> BoxFuture<'static, Result<bool, Unavailable>> {
        self.ask(|broker| broker.begin_user(user, session, window))
    }

    fn end_user(&self, user: &str, session: ConnectionId) -> BoxFuture<'static, Result<bool, Unavailable>> {
        self.ask(|broker| broker.end_user(user, session))
    }

    fn user_sessions(&self, user: &str) -> BoxFuture<'static, Result<Vec<RemoteSession>, Unavailable>> {
        self.ask(|broker| broker.user_sessions(user))
    }

    fn nodes(&self) -> BoxFuture<'static, Result<Vec<u32>, Unavailable>> {
        self.ask(|broker| broker.nodes())
    }

    fn send_to_all(&self, body: Bytes) {
        self.call(|broker| broker.send_to_all(body));
    }

    fn send_to_node(&self, node: u32, body: Bytes) {
        self.call(|broker| broker.send_to_node(node, body));
    }

    fn send_to_user(&self, user: &str, body: Bytes) {
        self.call(|broker| broker.send_to_user(user, body));
    }

    fn health(&self) -> Health {
        self.broker.health()
    }

    fn stats(&self) -> BrokerStats {
        self.broker.stats()
    }

    fn hash(&self, token: &ResumeToken) -> TokenHash {
        self.broker.hash(token)
    }

    fn open_session(&self, session: NewSession) {
        self.call(|broker| broker.open_session(session));
    }

    fn set_user(&self, session: &KeptSession, user: Option<&str>) {
        self.call(|broker| broker.set_user(session, user));
    }

    fn rename_session(
        &self,
        session: &KeptSession,
        new: &TokenHash,
    ) -> BoxFuture<'static, Result<(), Unavailable>> {
        self.ask(|broker| broker.rename_session(session, new))
    }

    fn close_session(&self, session: &KeptSession) -> BoxFuture<'static, bool> {
        self.ask(|broker| broker.close_session(session))
    }

    fn take_over(
        &self,
        token: &TokenHash,
        new: &TokenHash,
        user: Option<&str>,
    ) -> BoxFuture<'static, Result<(), NotTaken>> {
        self.ask(|broker| broker.take_over(token, new, user))
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.ask(|broker| broker.close())
    }
}
