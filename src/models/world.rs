//! An engine, its clients, and what its host is told.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;
use tokio::io::duplex;

use super::recorder::{Callback, Recorder, Told};
use super::wire::Wire;
use crate::admission::Permit;
use crate::config::{Config, History, Keep, Recovery, SlowConsumer, UniqueNames};
use crate::delivery::{LiveRoom, ReplayRequest};
use crate::engine::{Engine, Hooks};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::{DirectFrame, LastDirect};
use crate::protocol::frame;
use crate::protocol::inbound::{Body, Inbound};
use crate::protocol::outbound;
use crate::protocol::position::Position;
use crate::protocol::presence::ProfileKeys;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::{
    Attachment, EnterCommand, FromStore, MessageCommand, Opening, Published, Superseded, removal,
};
use crate::socket::{Inbox, Socket, Transport, Turn};

const BUFFER: usize = 64 * 1024;

/// An engine that keeps sessions, and its host.
#[derive(Clone)]
pub(super) struct World {
    engine: Arc<Engine>,
    recorder: Recorder,
}

impl World {
    pub(super) fn new() -> World {
        World::with_history(None)
    }

    pub(super) fn with_history(history: Option<History>) -> World {
        let recorder = Recorder::default();
        let recovery = Recovery::default().resume_window(Duration::from_secs(60)).history(history);
        let config = Config { recovery, unique_names: UniqueNames::Exact, ..Config::default() };
        let hooks = Hooks { events: Some(Arc::new(recorder.clone())), ..Hooks::default() };
        World { engine: Arc::new(Engine::new(config, hooks, None)), recorder }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A client of `chat-rooms.v1` connects.
    pub(super) fn connect(&self) -> Client {
        self.connect_by(Subprotocol::V1)
    }

    pub(super) fn connect_by(&self, subprotocol: Subprotocol) -> Client {
        self.connect_as(subprotocol, None)
    }

    /// Connects a client that is authenticated at the upgrade. Its `online` callback is called when it does something.
    pub(super) fn connect_user(&self, user: &str) -> Client {
        self.connect_as(Subprotocol::V1, Some(Arc::new(User::new(user))))
    }

    fn connect_as(&self, subprotocol: Subprotocol, user: Option<Arc<User>>) -> Client {
        let permit = self.engine.admission.admit(None).ok().unwrap();
        let (io, wire) = duplex(BUFFER);
        let (context, id) = (self.engine.context.clone(), self.engine.sessions.table().new_id());
        let socket = Box::new(Socket::new(
            Transport::Other(Box::new(io)),
            usize::MAX,
            context,
            subprotocol,
            Bytes::new(),
        ));
        let token = (subprotocol == Subprotocol::V1).then(|| ResumeToken::new().unwrap());
        let opening = Opening { id, subprotocol, socket, token, peer: None, user };
        let attachment = Attachment::begin(self.engine.sessions.clone(), opening);
        Client { attachment, token, wire: Wire::new(wire), _permit: permit }
    }

    /// As `ChatRooms::kick` does.
    pub(super) fn kick(&self, id: ConnectionId) -> bool {
        let session = self.engine.sessions.table().get(id);
        session.is_some_and(|session| self.engine.sessions.close(&session, LeaveReason::Kicked))
    }

    /// As `ChatRooms::kick_user` does.
    pub(super) fn kick_user(&self, user: &str) {
        for session in self.engine.sessions.users().sessions_of(user) {
            self.engine.sessions.close(&session, LeaveReason::Kicked);
        }
    }

    /// As when a user enters whose own name is the one that the member first had.
    pub(super) fn remove_anonymous(&self, id: ConnectionId, room: &str) {
        let (room, name) = (RoomId::from(room), name_of(id));
        let frames = frame::text(br#"{"event":"error"}"#);
        if let Some(session) = self.engine.sessions.table().get(id) {
            removal::remove_anonymous(&self.engine.sessions, &session, room.as_str(), &name, &frames);
        }
    }

    /// The resume window of all sessions is over.
    pub(super) fn expire(&self) {
        while self.engine.sessions.expire_next(Duration::MAX) {}
    }

    pub(super) fn shut_down(&self) {
        block_on(self.engine.shutdown());
    }

    pub(super) fn room(&self, id: &str) -> Option<Arc<LiveRoom>> {
        self.engine.rooms.get(id)
    }

    /// What the host was told of one connection, in order.
    pub(super) fn told_of(&self, connection: ConnectionId) -> Vec<Callback> {
        let is_of = |callback: &&Callback| match callback {
            Callback::Entered(id, _) | Callback::Left(id, ..) => *id == connection,
            Callback::Online | Callback::Offline | Callback::Ended => false,
        };
        self.recorder.told().iter().map(|(_, callback)| callback).filter(is_of).cloned().collect()
    }

    /// How often the host was told that a user is online.
    pub(super) fn times_online(&self, user: &str) -> usize {
        let is_online = |told: &&Told| (told.0.as_deref(), &told.1) == (Some(user), &Callback::Online);
        self.recorder.told().iter().filter(is_online).count()
    }

    /// Why a connection's last membership ended, if it has.
    pub(super) fn end_of(&self, connection: ConnectionId) -> Option<LeaveReason> {
        match self.told_of(connection).last() {
            Some(Callback::Left(_, _, reason)) => Some(*reason),
            _ => None,
        }
    }

    /// Checks that nothing contradicts itself, and that each membership that the host was told of has ended once or
    /// continues.
    pub(super) fn assert_consistent(&self) {
        let report = self.engine.check_consistency();
        assert!(report.faults.is_empty(), "{report:?}");
        let (mut open, mut online) = (HashSet::new(), HashSet::new());
        let told = self.recorder.told().clone();
        for (at, (user, callback)) in told.iter().enumerate() {
            let is_there = user.as_ref().is_none_or(|user| online.contains(user));
            let is_paired = match callback {
                Callback::Entered(id, room) => is_there && open.insert((*id, room.clone())),
                Callback::Left(id, room, _) => is_there && open.remove(&(*id, room.clone())),
                Callback::Online => online.insert(user.clone().unwrap()),
                Callback::Offline => online.remove(user.as_ref().unwrap()),
                Callback::Ended => at + 1 == told.len(),
            };
            assert!(is_paired, "{callback:?} does not follow from what the host was told before: {told:?}");
        }
        for (id, room) in &open {
            let session = self.engine.sessions.table().get(*id);
            let memberships = session.map(|session| session.memberships()).unwrap_or_default();
            let is_in = memberships.iter().any(|membership| membership.room.id() == room);
            assert!(is_in, "the host was not told of the end: {told:?}");
        }
        assert_eq!(open.len(), report.members, "the host was not told of a member: {told:?}");
        assert_eq!(online.len(), self.engine.sessions.users().len(), "{online:?}: {told:?}");
        for user in &online {
            assert!(self.engine.sessions.users().has_sessions(user), "{user} is not offline: {told:?}");
        }
    }

    /// Checks that nothing is left once there is no task and no connection.
    pub(super) fn assert_empty(&self) {
        self.engine.tasks.close();
        block_on(self.engine.tasks.wait());
        self.assert_consistent();
        let Engine { sessions, rooms, admission, .. } = &*self.engine;
        assert_eq!((sessions.table().len(), sessions.table().with_tokens().len()), (0, 0));
        assert_eq!((rooms.len(), rooms.all().len()), (0, 0));
        assert_eq!(sessions.next_deadline(), None);
        assert_eq!((admission.connections(), admission.pending(), admission.absent()), (0, 0, 0));
    }
}

/// A client and the connection that serves it, without the task: its steps are called directly.
pub(super) struct Client {
    attachment: Attachment,
    pub(super) token: Option<ResumeToken>,
    pub(super) wire: Wire,
    _permit: Permit,
}

impl Client {
    /// That of the session that the connection is attached to.
    pub(super) fn id(&self) -> ConnectionId {
        self.attachment.id()
    }

    /// Enters a room; false if it can't.
    pub(super) fn enter(&self, room: &str) -> bool {
        self.enter_since(room, None)
    }

    pub(super) fn enter_since(&self, room: &str, since: Option<Position>) -> bool {
        self.enter_as(room, name_of(self.id()).as_str(), since)
    }

    /// Enters a room under a name.
    pub(super) fn enter_as(&self, room: &str, name: &str, since: Option<Position>) -> bool {
        let name = Name::parse(name, MaxLen::ANY).unwrap();
        let (room, body) = (RoomId::from(room), body(r#"{"event":"enter"}"#));
        let command = EnterCommand {
            name: &name,
            room: &room,
            body: &body,
            replay_request: since.map(ReplayRequest::Since),
            from_store: FromStore::default(),
            slow: SlowConsumer::default(),
            presence: None,
            access: Access::member(),
            profile: ProfileKeys::default(),
        };
        let has_entered = matches!(self.attachment.enter(&command), Ok(Ok(())));
        self.run_callbacks();
        has_entered
    }

    /// Resumes the session that this token belongs to, and continues in its room.
    pub(super) fn resume(&mut self, token: Option<ResumeToken>, since: Option<Position>) -> bool {
        self.resume_any(&[token], since)
    }

    pub(super) fn resume_any(&mut self, tokens: &[Option<ResumeToken>], since: Option<Position>) -> bool {
        let tokens: Vec<_> = tokens.iter().flatten().copied().collect();
        let has_resumed = self.attachment.resume(&tokens) == Ok(true);
        if has_resumed {
            self.enter_again(since);
        }
        has_resumed
    }

    /// Resumes the session that this token belongs to, and gets the answer and the direct frames.
    pub(super) fn resume_with_answer(&mut self, token: Option<ResumeToken>) -> bool {
        let Ok(has_resumed) = self.attachment.resume(&[token.unwrap()]) else { return false };
        self.run_callbacks();
        self.attachment.answer_resume(has_resumed, LastDirect::default()).is_ok() && has_resumed
    }

    /// Sends a direct message; false if the connection was replaced.
    pub(super) fn send_direct(&self, to: &str, frame: &Arc<DirectFrame>, cid: &str) -> bool {
        self.attachment.send_direct(to, Some(frame), Some(cid)).is_ok()
    }

    /// Enters all rooms again that it is in.
    pub(super) fn enter_again(&self, since: Option<Position>) {
        for membership in self.attachment.memberships() {
            let _ = self.attachment.enter_again(
                membership.room.id(),
                since.map(ReplayRequest::Since),
                FromStore::default(),
                SlowConsumer::default(),
            );
        }
    }

    /// Leaves all rooms; the connection stays.
    pub(super) fn leave(&self) {
        for membership in self.attachment.memberships() {
            let left = frame::text(outbound::left(membership.room.id().as_str(), None).as_bytes());
            let _ = self.attachment.leave_room(membership.room.id(), LeaveReason::Left, &left);
        }
        self.run_callbacks();
    }

    /// Authenticates with a token; false if the connection was replaced.
    pub(super) fn authenticate(&self, user: &str) -> bool {
        let is_set = self.attachment.set_user(User::new(user)).is_ok();
        self.run_callbacks();
        is_set
    }

    /// Publishes a message, if the client is in a room that accepts it.
    pub(super) fn publish(&self, text: &str, cid: Option<&str>) -> Option<Published> {
        let text = format!(r#"{{"event":"message","message":"{text}"}}"#);
        let body = body(&text);
        let message = MessageCommand {
            room: None,
            event: "message",
            body: &body,
            cid,
            text: &text,
            replaced: None,
            keep: Keep::First,
            received: None,
        };
        match self.attachment.publish(&message) {
            Ok(published) => published?.ok(),
            Err(Superseded) => None,
        }
    }

    /// Sends a transient frame, if the client is in a room.
    pub(super) fn send_transient(&self) -> bool {
        let sent = self.attachment.send_transient(None, "typing", &body(r#"{"event":"typing"}"#));
        sent == Ok(Some(Ok(())))
    }

    pub(super) fn room(&self) -> Option<Arc<LiveRoom>> {
        Some(self.attachment.active_membership(None)?.room.clone())
    }

    /// Why the connection has to end, if it has to.
    pub(super) fn order(&self) -> Option<LeaveReason> {
        match self.poll_turn(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Turn::End(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Waits until the connection has to end, and ends it.
    pub(super) fn serve(self) -> LeaveReason {
        let end = block_on(poll_fn(|cx| match self.poll_turn(cx) {
            Poll::Ready(Turn::End(reason)) => Poll::Ready(reason),
            _ => Poll::Pending,
        }));
        self.end(end);
        end
    }

    /// The connection is lost.
    pub(super) fn lose(self) {
        self.end(LeaveReason::Lost);
    }

    /// Ends the connection of a client that does not wait for a closing handshake.
    pub(super) fn end(self, reason: LeaveReason) {
        let Client { attachment, wire, _permit, .. } = self;
        drop(wire);
        block_on(attachment.finish(reason, Duration::ZERO, Duration::MAX));
    }

    fn run_callbacks(&self) {
        self.attachment.run_callbacks().unwrap();
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.attachment.poll_turn(cx, &mut Inbox::default())
    }
}

/// The name under which a client enters.
fn name_of(id: ConnectionId) -> Name {
    Name::parse(&format!("n{id}"), MaxLen::ANY).unwrap()
}

fn body(text: &str) -> Body<'_> {
    match Inbound::parse(text, Subprotocol::V1, 8).unwrap() {
        Inbound::Enter(enter) => enter.body,
        Inbound::Publish(publish) => publish.body,
        other => panic!("{other:?}"),
    }
}

/// Runs these at the same time, and waits for all.
pub(super) fn at_once(parts: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
