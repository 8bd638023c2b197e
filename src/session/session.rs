//! One session, and every change of its state.
//!
//! A connection attaches and gets a generation. All its later calls carry that generation, and are
//! refused once a newer connection has attached. Resuming is one attach under one lock. Lock order:
//! state, registry shard, room, slot; the locks of the table and of the users follow the state's as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::admission::AbsencePermit;
use crate::broker::KeptSession;
use crate::delivery::{Batch, Calling, LiveRoom, PresenceBatch, Recipient, RoomKey, SentIds, TransientBatch};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::position::Position;
use crate::protocol::receipt::Receipt;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::callbacks::Callbacks;
use crate::session::direct::DirectMessages;
use crate::session::membership_list::MembershipList;
use crate::socket::Socket;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) struct Session {
    id: ConnectionId,
    subprotocol: Subprotocol,
    /// When it began, in seconds of the engine's clock.
    began: u32,
    state: Mutex<State>,
    slot: Mutex<Slot>,
}

/// Counts the connections that have attached to a session.
pub(super) type Generation = u32;

/// A newer connection has attached, or the session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superseded;

/// A member's presence in a room.
pub(crate) struct Membership {
    pub(crate) room: Arc<LiveRoom>,
    pub(crate) name: Name,
    /// The tail that is appended to each of the member's frames.
    pub(crate) tail: Box<str>,
    /// The room's position before the member's first enter. The member may receive all frames since then.
    pub(crate) start: Position,
    pub(crate) is_hidden: bool,
    is_read_only: AtomicBool,
}

impl Membership {
    pub(super) fn new(
        room: Arc<LiveRoom>,
        name: Name,
        tail: Box<str>,
        start: Position,
        access: &Access,
    ) -> Membership {
        let is_read_only = AtomicBool::new(access.is_read_only());
        Membership { room, name, tail, start, is_hidden: access.is_hidden(), is_read_only }
    }

    /// What the host is told of it when it has ended: its room, its name, and whether it was hidden.
    pub(super) fn left(&self) -> (&RoomId, &Name, bool) {
        (self.room.id(), &self.name, self.is_hidden)
    }

    /// Whether the member may not send messages.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// Returns whether this is a change.
    pub(super) fn set_read_only(&self, is_read_only: bool) -> bool {
        self.is_read_only.swap(is_read_only, Ordering::Relaxed) != is_read_only
    }
}

/// A message that has its place in the room's order.
pub(crate) struct Published {
    pub(crate) receipt: Receipt,
    /// It was published before, under the same id.
    pub(crate) is_repeated: bool,
    /// The callback for the message, if it was published now and the host wants to be told.
    pub(crate) calling: Option<Calling>,
}

/// What is known about a session when it begins.
pub(crate) struct Opening {
    pub(crate) id: ConnectionId,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) socket: Box<Socket>,
    pub(crate) token: Option<ResumeToken>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<Arc<User>>,
}

/// What the state's lock guards.
pub(super) struct State {
    pub(super) generation: Generation,
    pub(super) phase: Phase,
    /// The reason why the session ends with its connection, no matter why the connection ends.
    pub(super) verdict: Option<LeaveReason>,
    pub(super) token: Option<ResumeToken>,
    /// Present if a broker keeps the session for other nodes.
    pub(super) record: Option<Box<KeptSession>>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user: Option<Arc<User>>,
    /// Whether the session counts as one of its user: not while the user's authentication has expired.
    pub(super) is_of_user: bool,
    pub(super) resume: Resume,
    pub(super) memberships: MembershipList,
    pub(super) message_ids: Option<Arc<SentIds>>,
    pub(super) direct: Option<Box<DirectMessages>>,
    pub(super) callbacks: Option<Box<Callbacks>>,
}

/// Whether the current connection has resumed.
pub(super) enum Resume {
    NotDone,
    /// The connection has attached to the session, but its client has not got the answer to its resume yet. Until then,
    /// direct frames are only kept.
    Unanswered,
    /// A resume was answered, whether it has found this session or none.
    Answered,
}

pub(super) enum Phase {
    /// A connection is attached.
    Attached,
    /// The connection is lost, and the session is kept for it to be resumed.
    Detached(Box<Absence>),
    Ended {
        /// The session that the client continues instead.
        successor: Option<Arc<Session>>,
    },
}

/// How long a session without a connection is kept.
pub(super) struct Absence {
    pub(super) deadline: Duration,
    /// Why it ends at the deadline.
    pub(super) reason: LeaveReason,
    pub(super) _permit: AbsencePermit,
}

/// The current connection's socket.
struct Slot {
    generation: Generation,
    /// Not boxed, because each frame of the room is written to it.
    socket: Option<Socket>,
    /// Sockets of connections that were replaced, until their own tasks close them.
    replaced: Option<Box<Replaced>>,
}

/// Sockets that are still open although newer connections have attached.
#[derive(Default)]
struct Replaced(Vec<(Generation, Box<Socket>)>);

impl Session {
    pub(super) fn new(
        id: ConnectionId,
        subprotocol: Subprotocol,
        socket: Option<Box<Socket>>,
        token: Option<ResumeToken>,
        peer: Option<SocketAddr>,
        user: Option<Arc<User>>,
    ) -> Session {
        Session {
            id,
            subprotocol,
            began: 0,
            state: Mutex::new(State {
                generation: 0,
                phase: Phase::Attached,
                verdict: None,
                token,
                record: None,
                peer,
                user,
                is_of_user: false,
                resume: Resume::NotDone,
                memberships: MembershipList::default(),
                message_ids: None,
                direct: None,
                callbacks: None,
            }),
            slot: Mutex::new(Slot { generation: 0, socket: socket.map(|socket| *socket), replaced: None }),
        }
    }

    /// The same session, which begins at this time of the engine's clock.
    pub(super) fn beginning(self, now: Duration) -> Session {
        Session { began: u32::try_from(now.as_secs()).unwrap_or(u32::MAX), ..self }
    }

    /// When it began, to the second.
    pub(super) fn began(&self) -> Duration {
        Duration::from_secs(self.began.into())
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn user(&self) -> Option<Arc<User>> {
        self.state().user.clone()
    }

    /// The user whose session it counts as.
    #[cfg(feature = "test-util")]
    pub(crate) fn online_user(&self) -> Option<Arc<User>> {
        let state = self.state();
        state.user.clone().filter(|_| state.is_of_user)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.state().peer
    }

    pub(crate) fn memberships(&self) -> Vec<Arc<Membership>> {
        self.state().memberships.all().to_vec()
    }

    /// Writes frames that are for this client only. If they concern a room, they are in order with the room's frames.
    /// Returns whether there is a connection.
    pub(crate) fn send(&self, room: Option<RoomKey<'_>>, frames: &Bytes) -> bool {
        self.with_socket(|socket| {
            socket.send(room, frames);
            !socket.is_mute()
        })
        .unwrap_or(false)
    }

    /// Sends a heartbeat and starts to wait for a sign of life.
    pub(crate) fn beat(&self) {
        self.with_socket(Socket::beat);
    }

    /// Checks for a sign of life. The time for it is over.
    pub(crate) fn check_alive(&self) {
        self.with_socket(Socket::check_alive);
    }

    /// Works on the current connection's socket, if there is one.
    pub(super) fn with_socket<R>(&self, work: impl FnOnce(&mut Socket) -> R) -> Option<R> {
        lock(&self.slot).socket.as_mut().map(work)
    }

    /// Works on the socket of one connection, unless another has attached since.
    pub(super) fn with_socket_of<R>(
        &self,
        generation: Generation,
        work: impl FnOnce(&mut Socket) -> R,
    ) -> Result<R, Superseded> {
        let mut slot = lock(&self.slot);
        if slot.generation != generation {
            return Err(Superseded);
        }
        slot.socket.as_mut().map(work).ok_or(Superseded)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state, for one connection, unless another has attached since.
    pub(super) fn state_of(&self, generation: Generation) -> Result<MutexGuard<'_, State>, Superseded> {
        let state = self.state();
        state.check(generation)?;
        Ok(state)
    }

    /// The socket of one connection, for its task to close it, whether it was replaced or not.
    pub(super) fn take_socket(&self, generation: Generation) -> Option<Box<Socket>> {
        let mut slot = lock(&self.slot);
        if slot.generation == generation {
            return slot.socket.take().map(Box::new);
        }
        let Replaced(sockets) = slot.replaced.as_deref_mut()?;
        let at = sockets.iter().position(|(replaced, _)| *replaced == generation)?;
        let (_, socket) = sockets.swap_remove(at);
        if sockets.is_empty() {
            slot.replaced = None;
        }
        Some(socket)
    }

    /// Makes this the current connection's socket. The previous one is closed by its own task.
    pub(super) fn replace_socket(&self, generation: Generation, socket: Box<Socket>) {
        let mut slot = lock(&self.slot);
        let old_generation = std::mem::replace(&mut slot.generation, generation);
        if let Some(mut old) = slot.socket.replace(*socket) {
            old.unsubscribe_all();
            old.close(LeaveReason::Replaced);
            old.wake();
            slot.replaced.get_or_insert_default().0.push((old_generation, Box::new(old)));
        }
    }
}

/// The states of two different sessions. All locks of two states are taken in the order of the sessions' ids.
pub(super) fn states_of<'a>(
    one: &'a Session,
    other: &'a Session,
) -> (MutexGuard<'a, State>, MutexGuard<'a, State>) {
    if one.id < other.id {
        let state = one.state();
        (state, other.state())
    } else {
        let state = other.state();
        (one.state(), state)
    }
}

impl State {
    /// Fails unless this is the current connection.
    pub(super) fn check(&self, generation: Generation) -> Result<(), Superseded> {
        if self.generation != generation || matches!(self.phase, Phase::Ended { .. }) {
            return Err(Superseded);
        }
        Ok(())
    }

    /// Sets the user, and returns the previous one.
    ///
    /// The caller must drop that without the lock: it holds host values, whose `Drop` may call anything, for example
    /// [`ChatRooms::members`](crate::ChatRooms::members). The same is true of queued callbacks, which hold users.
    #[must_use]
    pub(super) fn set_user(&mut self, user: Arc<User>) -> Option<Arc<User>> {
        self.user.replace(user)
    }

    /// Whether the session can be resumed after its connection has ended for this reason, where sessions are kept.
    pub(super) fn is_kept_after(&self, reason: LeaveReason) -> bool {
        reason.keeps_session() || (reason == LeaveReason::Shutdown && self.may_move())
    }

    /// Whether the connection of a session, which must be in no room, may resume this session with this token.
    pub(super) fn may_be_resumed_by(&self, own: &State, token: ResumeToken) -> bool {
        own.memberships.all().is_empty()
            && own.verdict.is_none()
            && !matches!(self.phase, Phase::Ended { .. })
            && self.verdict.is_none()
            && self.token == Some(token)
            && self.is_worth_resuming()
            && self.user.as_ref().map(|user| user.id()) == own.user.as_ref().map(|user| user.id())
    }

    /// Whether another node can resume the session.
    pub(super) fn may_move(&self) -> bool {
        self.record.is_some() && self.verdict.is_none() && self.is_worth_resuming()
    }

    /// Whether the session has something to resume: a room, or a user that stays online meanwhile.
    pub(super) fn is_worth_resuming(&self) -> bool {
        !self.memberships.all().is_empty() || self.user.is_some()
    }
}

impl Recipient for Session {
    fn subprotocol(&self) -> Subprotocol {
        self.subprotocol
    }

    fn user(&self) -> Option<Arc<User>> {
        Session::user(self)
    }

    fn is_connected(&self) -> bool {
        self.with_socket(|socket| !socket.is_mute()).unwrap_or(false)
    }

    fn subscribe(&self, room: &Arc<LiveRoom>, seq: u64) -> bool {
        self.with_socket(|socket| socket.subscribe(room, seq)).unwrap_or(false)
    }

    fn pause(&self, room: &LiveRoom) -> bool {
        self.with_socket(|socket| socket.pause(room)).unwrap_or(false)
    }

    fn unsubscribe(&self, room: &LiveRoom) {
        self.with_socket(|socket| socket.unsubscribe(room));
    }

    fn deliver(&self, room: &LiveRoom, batch: &Batch) {
        self.with_socket(|socket| socket.deliver(room, batch));
    }

    fn deliver_transients(&self, room: &LiveRoom, batch: &TransientBatch) {
        let frames = batch.for_member(self.id, self.subprotocol);
        self.with_socket(|socket| socket.deliver_transients(room, batch.seq(), frames));
    }

    fn deliver_presence(&self, room: &LiveRoom, batch: &PresenceBatch) {
        if self.subprotocol == Subprotocol::V1 {
            let frames = batch.for_member(self.id);
            self.with_socket(|socket| {
                socket.deliver_presence(room, batch.seq(), batch.version(), frames);
            });
        }
    }

    fn send_away(&self) {
        self.with_socket(|socket| socket.close(LeaveReason::EventsLost));
    }

    fn fail(&self) {
        self.with_socket(|socket| socket.close(LeaveReason::Lost));
    }
}
