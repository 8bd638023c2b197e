//! All sessions of the engine: they begin, enter and leave rooms, are resumed, and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::admission::Admission;
use crate::config::SlowConsumer;
use crate::context::Context;
use crate::delivery::{
    Departure, Entrant, Handle, LiveRoom, NotPublished, Recipient, Refused, Rooms, Standpoint,
};
use crate::hooks::events::{Entered, Left, RoomEvents};
use crate::hooks::guard::Panicked;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::frame;
use crate::protocol::inbound::Body;
use crate::protocol::outbound::{self, EnteredFrame};
use crate::protocol::position::Position;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::callbacks::Callback;
use crate::session::session::{
    Absence, Generation, Membership, Phase, Published, Session, State, Superseded,
};
use crate::session::table::Table;
use crate::socket::Socket;

pub(crate) struct Sessions {
    context: Arc<Context>,
    rooms: Arc<Rooms>,
    admission: Arc<Admission>,
    events: Option<Box<dyn RoomEvents>>,
    table: Table,
    /// Told when the next deadline has become an earlier one, or no session is left.
    deadlines_changed: Notify,
}

/// What is known of a session when it begins.
pub(crate) struct Opening {
    pub(crate) id: ConnectionId,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) socket: Box<Socket>,
    pub(crate) token: Option<ResumeToken>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<Arc<User>>,
}

/// A client enters a room.
pub(crate) struct EnterCommand<'a> {
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) body: &'a Body<'a>,
    /// Up to where it has had the room's frames.
    pub(crate) since: Option<Position>,
    /// What happens if it reads the room too slowly.
    pub(crate) slow: SlowConsumer,
}

/// A membership has ended: what is left to do without a lock.
struct Ended {
    room: Arc<LiveRoom>,
    departure: Departure,
}

impl Sessions {
    pub(crate) fn new(
        context: Arc<Context>,
        rooms: Arc<Rooms>,
        admission: Arc<Admission>,
        events: Option<Box<dyn RoomEvents>>,
    ) -> Sessions {
        Sessions {
            context,
            rooms,
            admission,
            events,
            table: Table::default(),
            deadlines_changed: Notify::new(),
        }
    }

    pub(crate) fn events(&self) -> Option<&dyn RoomEvents> {
        self.events.as_deref()
    }

    /// An id that no connection has had.
    pub(crate) fn new_id(&self) -> ConnectionId {
        self.table.new_id()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<Session>> {
        self.table.get(id)
    }

    /// All sessions, each slot at its own moment.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.table.all()
    }

    /// The sessions of one slot of the heartbeat's interval.
    pub(crate) fn in_slot(&self, subprotocol: Subprotocol, at: usize, into: &mut Vec<Arc<Session>>) {
        self.table.in_slot(subprotocol, at, into);
    }

    /// Whether there is no session that speaks this subprotocol.
    pub(crate) fn is_empty(&self, subprotocol: Subprotocol) -> bool {
        self.table.is_empty(subprotocol)
    }

    /// The sessions that a resume token stands for.
    pub(crate) fn with_tokens(&self) -> Vec<Arc<Session>> {
        self.table.with_tokens()
    }

    /// Begins a session with its first connection attached.
    pub(super) fn begin(&self, opening: Opening) -> Arc<Session> {
        let Opening { id, subprotocol, socket, token, peer, user } = opening;
        let session = Arc::new(Session::new(id, subprotocol, socket, token, peer, user));
        self.table.insert(&session);
        if let Some(token) = token {
            self.table.add_token(token, &session);
        }
        session
    }

    /// Ends a connection. An attached one is told to; a session without a connection ends here, unless the
    /// reason lets it be resumed. Returns whether there was one.
    pub(crate) fn close(&self, session: &Arc<Session>, reason: LeaveReason) -> bool {
        let mut state = session.state();
        match &state.phase {
            Phase::Ended => false,
            Phase::Attached => {
                if !reason.keeps_session() {
                    state.verdict.get_or_insert(reason);
                }
                session.with_socket(|socket| socket.close(reason));
                true
            }
            Phase::Detached(_) if reason.keeps_session() => true,
            Phase::Detached(_) => {
                let ended = self.end(session, &mut state, reason);
                drop(state);
                self.after_end(session, ended);
                true
            }
        }
    }

    /// Ends the sessions whose clients did not come back in time.
    pub(crate) fn expire(&self, now: Duration) {
        while let Some(id) = self.table.pop_due(now) {
            let Some(session) = self.table.get(id) else { continue };
            let mut state = session.state();
            let reason = match &state.phase {
                Phase::Detached(absence) if absence.deadline <= now => absence.reason,
                _ => continue,
            };
            let ended = self.end(&session, &mut state, reason);
            drop(state);
            self.after_end(&session, ended);
        }
    }

    /// When the next session without a connection ends.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.table.next_deadline()
    }

    /// Done when the next deadline has become an earlier one, or no session is left.
    pub(crate) async fn until_deadlines_change(&self) {
        self.deadlines_changed.notified().await;
    }

    /// Lets whoever waits for a deadline look again.
    pub(crate) fn recheck_deadlines(&self) {
        self.deadlines_changed.notify_one();
    }

    /// A connection is over: its session is kept, if it may be resumed, or ends. Returns whether it is kept.
    pub(super) fn detach(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        reason: LeaveReason,
        wants_session_kept: bool,
    ) -> Result<bool, Superseded> {
        let mut state = session.state_of(generation)?;
        if matches!(state.phase, Phase::Detached(_)) {
            return Err(Superseded);
        }
        let may_keep = state.verdict.is_none()
            && (reason.keeps_session() || wants_session_kept)
            && state.token.is_some()
            && state.membership.is_some();
        let permit = match may_keep {
            true => self.admission.keep_absent(state.peer.map(|peer| peer.ip())),
            false => None,
        };
        let Some(permit) = permit else {
            let reason = state.verdict.filter(|_| reason.keeps_session()).unwrap_or(reason);
            let ended = self.end(session, &mut state, reason);
            drop(state);
            self.after_end(session, ended);
            return Ok(false);
        };
        let now = self.context.clock.now();
        let window = self.context.config.recovery.resume_window;
        // No session outlives its user's authentication.
        let (window, reason) = match state.user.as_ref().and_then(|user| user.time_left()) {
            Some(left) if left < window => (left, LeaveReason::AuthExpired),
            _ => (window, reason),
        };
        let deadline = now.saturating_add(window);
        state.phase = Phase::Detached(Box::new(Absence { deadline, reason, _permit: permit }));
        session.with_socket(Socket::unsubscribe);
        let is_earliest = self.table.add_deadline(deadline, session.id());
        drop(state);
        if is_earliest {
            self.recheck_deadlines();
        }
        tracing::debug!(connection = %session.id(), "connection lost; its session is kept");
        Ok(true)
    }

    /// Attaches a connection to a session that it may resume: under one lock, so that of two attempts only
    /// one succeeds. Otherwise it gives the socket back.
    pub(super) fn attach(
        &self,
        session: &Arc<Session>,
        token: ResumeToken,
        socket: Box<Socket>,
        new: Opened,
    ) -> Result<Generation, Box<Socket>> {
        let mut state = session.state();
        let user = new.user.as_ref().map(|user| user.id());
        let is_allowed = !matches!(state.phase, Phase::Ended)
            && state.verdict.is_none()
            && state.token == Some(token)
            && state.membership.is_some()
            && state.user.as_ref().map(|user| user.id()) == user;
        if !is_allowed {
            return Err(socket);
        }
        if let Phase::Detached(absence) = std::mem::replace(&mut state.phase, Phase::Attached) {
            self.table.remove_deadline(absence.deadline, session.id());
        }
        state.generation = state.generation.wrapping_add(1);
        state.token = new.token;
        state.peer = new.peer.or(state.peer);
        state.user = new.user.or(state.user.take());
        session.replace_socket(state.generation, socket);
        self.table.remove_token(&token);
        if let Some(token) = new.token {
            self.table.add_token(token, session);
        }
        self.context.counters.resumed.add(1);
        Ok(state.generation)
    }

    /// The session for which a token was given.
    pub(super) fn by_token(&self, token: &ResumeToken) -> Option<Arc<Session>> {
        self.table.by_token(token)
    }

    /// A client enters a room, out of the one that it is in. If it can't, it stays where it is.
    pub(super) fn enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        enter: &EnterCommand<'_>,
    ) -> Result<Result<(), Refused>, Superseded> {
        let mut state = session.state_of(generation)?;
        let handle: Handle = session.clone();
        let entrant = Entrant {
            id: session.id(),
            name: enter.name.clone(),
            owner: state.user.clone(),
            handle,
            since: enter.since,
        };
        let tail = outbound::name_and_num(enter.name.as_str());
        let frame = enter.body.frame(&tail, session.id());
        let entered = match &state.membership {
            None => self.rooms.enter(entrant, enter.room, &frame).map(|at| (at, None)),
            Some(old) => self
                .rooms
                .change(entrant, enter.room, &frame, &old.room, &old.name)
                .map(|(at, left)| (at, Some((old.clone(), left)))),
        };
        let (standpoint, left) = match entered {
            Ok(entered) => entered,
            Err(refused) => return Ok(Err(refused)),
        };
        let membership =
            Arc::new(Membership { room: standpoint.room.clone(), name: enter.name.clone(), tail });
        state.membership = Some(membership.clone());
        if let Some((old, num)) = left {
            let is_same = old.room.id() == enter.room;
            let reason = if is_same { LeaveReason::Renamed } else { LeaveReason::Moved };
            self.context.counters.left.add(1);
            self.queue_left(session, &mut state, &old, reason, num);
        }
        self.context.counters.entered.add(1);
        self.queue_entered(session, &mut state, &membership, standpoint.num);
        drop(state);
        self.answer(session, generation, standpoint, &membership, enter.slow, false);
        if self.rooms.is_closed(&membership.room) {
            // It was closed while the client was about to enter, so nobody else tells it.
            self.close(session, self.closed_reason());
        }
        Ok(Ok(()))
    }

    /// A member asks again for what it has missed, or is back: nobody else notices.
    pub(super) fn come_back(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        since: Option<Position>,
        slow: SlowConsumer,
    ) -> Result<(), Superseded> {
        let state = session.state_of(generation)?;
        let Some(membership) = state.membership.clone() else { return Ok(()) };
        let handle: Handle = session.clone();
        let standpoint = self.rooms.come_back(&membership.room, &handle, since);
        drop(state);
        self.answer(session, generation, standpoint, &membership, slow, true);
        if self.rooms.is_closed(&membership.room) {
            self.close(session, self.closed_reason());
        }
        Ok(())
    }

    /// Repeats its own enter to a plain member, in its place among the room's frames.
    pub(super) fn repeat_enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        body: &Body<'_>,
    ) -> Result<(), Superseded> {
        let Some(membership) = session.state_of(generation)?.membership.clone() else { return Ok(()) };
        let handle: Handle = session.clone();
        let (before, num) = self.rooms.pause(&membership.room, &handle);
        let text = format!("{}{}{num}}}", body.as_str(), membership.tail);
        let enter = frame::text(text.as_bytes());
        session.with_socket_of(generation, |socket| socket.repeat_enter(&before, &enter))
    }

    /// Publishes a member's message, once for each id.
    pub(super) fn publish(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        body: &Body<'_>,
        cid: Option<&str>,
    ) -> Result<Option<Result<Published, NotPublished>>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.membership.clone() else { return Ok(None) };
        if let Some(seq) = cid.and_then(|cid| state.message_ids.as_ref()?.seq_of(cid)) {
            return Ok(Some(Ok(Published { seq, membership, is_repeated: true })));
        }
        let frame = body.frame(&membership.tail, session.id());
        Ok(Some(match self.rooms.publish(&membership.room, &frame) {
            Ok(stamp) => {
                remember(&mut state, cid, stamp.seq);
                Ok(Published { seq: stamp.seq, membership, is_repeated: false })
            }
            Err(error) => Err(error),
        }))
    }

    /// Makes a message look as if it had been published.
    pub(super) fn pretend_published(
        &self,
        session: &Session,
        generation: Generation,
        cid: Option<&str>,
    ) -> Result<u64, Superseded> {
        let mut state = session.state_of(generation)?;
        let seq = state.membership.as_ref().map_or(0, |membership| self.rooms.seq(&membership.room));
        remember(&mut state, cid, seq);
        Ok(seq)
    }

    /// Takes a member out of its room; its connection stays.
    pub(super) fn leave_room(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        reason: LeaveReason,
    ) -> Result<(), Superseded> {
        let mut state = session.state_of(generation)?;
        let ended = self.end_membership(session, &mut state, reason);
        drop(state);
        if let Some(ended) = ended {
            self.rooms.deliver_rest(&ended.room, &ended.departure, &**session);
            session.with_socket(Socket::unsubscribe);
        }
        Ok(())
    }

    /// Calls the host's callbacks that are queued for a session.
    ///
    /// # Errors
    /// If one of them panicked. The session's connection has been told to end then.
    pub(crate) fn run_callbacks(&self, session: &Arc<Session>) -> Result<(), Panicked> {
        let Some(events) = self.events() else { return Ok(()) };
        let mut result = Ok(());
        loop {
            let next = session.state().callbacks.as_mut().and_then(|callbacks| callbacks.begin());
            let Some(callback) = next else { return result };
            let called = callback.call(events);
            let mut state = session.state();
            if let Some(callbacks) = &mut state.callbacks {
                callbacks.finish();
                if callbacks.is_idle() {
                    state.callbacks = None;
                }
            }
            drop(state);
            if called.is_err() {
                self.close(session, LeaveReason::HookFailed);
                result = called;
            }
        }
    }

    /// Compares one session with the table, for the consistency check.
    pub(crate) fn holds(&self, session: &Arc<Session>) -> bool {
        self.table.get(session.id()).is_some_and(|other| Arc::ptr_eq(&other, session))
    }

    /// A session that has moved on to another one has nothing left to end but itself.
    pub(super) fn discard(&self, session: &Arc<Session>) -> Option<LeaveReason> {
        let mut state = session.state();
        let verdict = state.verdict;
        let ended = self.end(session, &mut state, LeaveReason::Replaced);
        drop(state);
        self.after_end(session, ended);
        verdict
    }

    /// The one place in which a session ends. Its membership has left the room afterwards.
    fn end(&self, session: &Arc<Session>, state: &mut State, reason: LeaveReason) -> Option<Ended> {
        if let Phase::Detached(absence) = std::mem::replace(&mut state.phase, Phase::Ended) {
            self.table.remove_deadline(absence.deadline, session.id());
        }
        if let Some(token) = state.token.take() {
            self.table.remove_token(&token);
        }
        state.message_ids = None;
        self.table.remove(session);
        tracing::debug!(connection = %session.id(), %reason, "session ended");
        self.end_membership(session, state, reason)
    }

    fn end_membership(
        &self,
        session: &Arc<Session>,
        state: &mut State,
        reason: LeaveReason,
    ) -> Option<Ended> {
        let membership = state.membership.take()?;
        let handle: Handle = session.clone();
        let departure = self.rooms.leave(&membership.room, session.id(), &membership.name, &handle);
        self.context.counters.left.add(1);
        self.queue_left(session, state, &membership, reason, departure.num);
        Some(Ended { room: membership.room.clone(), departure })
    }

    /// What follows the end of a session, without its lock.
    fn after_end(&self, session: &Arc<Session>, ended: Option<Ended>) {
        if let Some(ended) = ended {
            self.rooms.deliver_rest(&ended.room, &ended.departure, &**session);
        }
        // A panic in a callback would end what is ending anyway.
        let _ = self.run_callbacks(session);
    }

    /// Tells a client where it stands, and what it has missed; then come the room's frames.
    fn answer(
        &self,
        session: &Session,
        generation: Generation,
        standpoint: Standpoint,
        membership: &Membership,
        slow: SlowConsumer,
        is_resumed: bool,
    ) {
        let answer = (session.subprotocol() == Subprotocol::V1).then(|| {
            let replay = standpoint.replay.as_ref();
            let frame = EnteredFrame {
                room: membership.room.id().as_str(),
                name: membership.name.as_str(),
                member: session.id(),
                epoch: standpoint.epoch,
                seq: standpoint.seq,
                num: standpoint.num,
                resumed: is_resumed,
                recovered: replay.is_some_and(|replay| replay.is_complete),
                replayed: replay.map_or(0, |replay| standpoint.seq - replay.start),
            };
            frame::text(frame.encode().as_bytes())
        });
        let _ = session.with_socket_of(generation, |socket| {
            socket.answer_enter(answer, standpoint.replay, slow);
        });
    }

    fn closed_reason(&self) -> LeaveReason {
        if self.admission.is_closing() { LeaveReason::Shutdown } else { LeaveReason::RoomClosed }
    }

    fn queue_entered(&self, session: &Session, state: &mut State, membership: &Membership, num: u64) {
        if self.events.is_none() {
            return;
        }
        let event = Entered {
            connection: session.id(),
            peer: state.peer,
            room: membership.room.id().clone(),
            name: membership.name.clone(),
            user: state.user.clone(),
            online: num as usize,
        };
        state.callbacks.get_or_insert_default().push(Callback::Entered(event));
    }

    fn queue_left(
        &self,
        session: &Session,
        state: &mut State,
        membership: &Membership,
        reason: LeaveReason,
        num: u64,
    ) {
        if self.events.is_none() {
            return;
        }
        let event = Left {
            connection: session.id(),
            peer: state.peer,
            room: membership.room.id().clone(),
            name: membership.name.clone(),
            user: state.user.clone(),
            online: num as usize,
            reason,
        };
        state.callbacks.get_or_insert_default().push(Callback::Left(event));
    }
}

/// What a connection brings to the session that it resumes.
pub(super) struct Opened {
    pub(super) token: Option<ResumeToken>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user: Option<Arc<User>>,
}

/// A message of this id is not published again.
fn remember(state: &mut State, cid: Option<&str>, seq: u64) {
    if let Some(cid) = cid {
        state.message_ids.get_or_insert_default().add(cid, seq);
    }
}
