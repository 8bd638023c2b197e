//! All sessions of the engine: they begin, enter and leave rooms, are resumed, and end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::admission::Admission;
use crate::context::Context;
use crate::delivery::Rooms;
use crate::hooks::events::{RoomEvents, UserOffline, UserOnline};
use crate::hooks::guard::Panicked;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::resume::ResumeToken;
use crate::session::callback_runs::Run;
use crate::session::callbacks::{self, Callback};
use crate::session::memberships::Memberships;
use crate::session::moving::Arrivals;
use crate::session::records::{self, Closing};
use crate::session::remote_users::{Change, RemoteUsers};
use crate::session::session::{
    self, Absence, Generation, Opening, Phase, Resume, Session, State, Superseded,
};
use crate::session::table::Table;
use crate::session::users::Users;
use crate::socket::Socket;
use crate::sync::MutexGuard;
use crate::tasks::Tasks;

pub(crate) struct Sessions {
    context: Arc<Context>,
    rooms: Arc<Rooms>,
    memberships: Memberships,
    admission: Arc<Admission>,
    events: Option<Arc<dyn RoomEvents>>,
    table: Table,
    users: Users,
    /// Notified when there is an earlier deadline, or no session is left.
    deadlines_changed: Notify,
    tasks: Arc<Tasks>,
    arrivals: Arrivals,
    /// For tasks that outlive a call.
    this: Weak<Sessions>,
}

/// What is left to do after a session has ended, without its lock.
#[derive(Default)]
pub(super) struct Ended {
    /// A shutdown waits until it is dropped.
    absence: Option<Box<Absence>>,
    closing: Option<Box<Closing>>,
}

impl Sessions {
    pub(crate) fn new(
        context: Arc<Context>,
        rooms: Arc<Rooms>,
        admission: Arc<Admission>,
        events: Option<Arc<dyn RoomEvents>>,
        first_id: ConnectionId,
        tasks: Arc<Tasks>,
    ) -> Arc<Sessions> {
        let memberships = Memberships::new(context.clone(), rooms.clone(), events.is_some());
        let remote_users = rooms.broker().map(|broker| {
            let (broker, context, tasks) = (broker.clone(), context.clone(), tasks.clone());
            move |this: &Weak<Sessions>| RemoteUsers::new(broker, context, tasks, this.clone())
        });
        Arc::new_cyclic(|this| Sessions {
            users: Users::new(remote_users.map(|new| new(this))),
            context,
            rooms,
            memberships,
            admission,
            events,
            table: Table::new(first_id),
            deadlines_changed: Notify::new(),
            tasks,
            arrivals: Arrivals::default(),
            this: this.clone(),
        })
    }

    pub(crate) fn events(&self) -> Option<&dyn RoomEvents> {
        self.events.as_deref()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// Begins a session with its first connection attached.
    pub(super) fn begin(&self, opening: Opening) -> Arc<Session> {
        let Opening { id, subprotocol, socket, token, peer, user } = opening;
        let session = Session::new(id, subprotocol, Some(socket), token, peer, user.clone());
        let session = Arc::new(session.beginning(self.context.clock.now()));
        self.table.insert(&session);
        if let Some(user) = user {
            self.begin_of_user(&session, &mut session.state(), &user);
        }
        if let Some(token) = token {
            self.table.add_token(token, &session);
        }
        session
    }

    /// Ends a connection. An attached connection is told to end; a session without one ends here, unless the
    /// reason allows it to be resumed. Returns whether there was one of the two.
    pub(crate) fn close(&self, session: &Arc<Session>, reason: LeaveReason) -> bool {
        let state = session.state();
        let keeps_session = state.is_kept_after(reason);
        self.close_locked(session, state, reason, keeps_session)
    }

    /// Tells the connection of a session to end, because the node is drained. Returns whether other nodes can resume the
    /// session; `None` if it has no connection, or if that ends already.
    pub(crate) fn drain(&self, session: &Arc<Session>) -> Option<bool> {
        let state = session.state();
        let is_ending = session.with_socket(|socket| socket.is_told_to_end()).unwrap_or(true);
        if is_ending || !matches!(state.phase, Phase::Attached) {
            return None;
        }
        let is_kept = state.may_move();
        self.close_locked(session, state, LeaveReason::Shutdown, is_kept);
        Some(is_kept)
    }

    /// A client that names the token of a session has another connection: the one of the session ends, if it
    /// is the same user's. So does the session, if the client goes on with another one. Returns false if the
    /// token does not stand for the session any more.
    pub(super) fn replace(
        &self,
        session: &Arc<Session>,
        token: ResumeToken,
        user: Option<&User>,
        has_resumed: bool,
    ) -> bool {
        let state = session.state();
        if state.token != Some(token) {
            return false;
        }
        if state.user.as_ref().map(|user| user.id()) == user.map(User::id) {
            self.close_locked(session, state, LeaveReason::Replaced, !has_resumed);
        }
        true
    }

    fn close_locked(
        &self,
        session: &Arc<Session>,
        mut state: MutexGuard<'_, State>,
        reason: LeaveReason,
        keeps_session: bool,
    ) -> bool {
        match &state.phase {
            Phase::Ended { .. } => false,
            Phase::Attached => {
                session.with_socket(|socket| socket.close(reason));
                if !keeps_session {
                    state.verdict.get_or_insert(reason);
                }
                true
            }
            Phase::Detached(_) if keeps_session && !self.admission.is_closing() => true,
            Phase::Detached(_) => {
                let ended = match keeps_session && state.may_move() {
                    true => self.leave_behind(session, &mut state),
                    false => self.end(session, &mut state, reason),
                };
                drop(state);
                self.after_end(session, ended);
                true
            }
        }
    }

    /// Sets the client's user. If there was one before, it must be the same. From now on, only that user can resume the
    /// session.
    pub(super) fn set_user(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        user: User,
    ) -> Result<(), Superseded> {
        let mut state = session.state_of(generation)?;
        for membership in state.memberships.all() {
            self.rooms.set_user(&membership.room, session.id(), &membership.name, &user);
        }
        let user = Arc::new(user);
        let previous = state.set_user(user.clone());
        records::set_user(&self.rooms, &state);
        self.begin_of_user(session, &mut state, &user);
        drop(state);
        drop(previous);
        Ok(())
    }

    /// The user's authentication has expired: until the client authenticates again, the session does not count as one of
    /// the user.
    pub(super) fn expire_user(
        &self,
        session: &Arc<Session>,
        generation: Generation,
    ) -> Result<(), Superseded> {
        self.end_of_user(session, &mut *session.state_of(generation)?);
        Ok(())
    }

    /// Adds the session to its user's sessions, unless it is one already.
    pub(super) fn begin_of_user(&self, session: &Arc<Session>, state: &mut State, user: &Arc<User>) {
        if std::mem::replace(&mut state.is_of_user, true) {
            return;
        }
        self.users.add(user.id(), session);
        if self.events.is_some() {
            let online = Callback::Online(UserOnline { user: user.clone() });
            state.callbacks.get_or_insert_default().push(online);
        } else {
            self.users.tell_broker(user.id(), session, Change::Begin);
        }
    }

    /// A session of this node is no longer one of its user, because it goes on here as another object, which
    /// [`Sessions::add_to_user`] adds. Nobody is told of either. Returns whether it was one of its user.
    pub(super) fn take_from_user(&self, session: &Arc<Session>) -> bool {
        let mut state = session.state();
        let Some(user) = state.user.clone().filter(|_| state.is_of_user) else { return false };
        state.is_of_user = false;
        self.users.remove(user.id(), session.id());
        true
    }

    /// Adds a session that was one of its user before.
    pub(super) fn add_to_user(&self, session: &Arc<Session>, state: &mut State, user: &User) {
        state.is_of_user = true;
        self.users.add(user.id(), session);
    }

    /// The session is no longer one of its user, if it was.
    pub(super) fn end_of_user(&self, session: &Arc<Session>, state: &mut State) {
        let Some(user) = state.user.clone().filter(|_| std::mem::take(&mut state.is_of_user)) else { return };
        self.users.remove(user.id(), session.id());
        if self.events.is_some() {
            state.callbacks.get_or_insert_default().push(Callback::Offline(UserOffline { user }));
        } else {
            self.users.tell_broker(user.id(), session, Change::End);
        }
    }

    /// Ends one session whose client did not come back in time. Returns false if there is none.
    pub(crate) fn expire_next(&self, now: Duration) -> bool {
        let Some(id) = self.table.pop_due(now) else { return false };
        let Some(session) = self.table.get(id) else { return true };
        let mut state = session.state();
        // Its client may have come back since.
        if let Phase::Detached(absence) = &state.phase
            && absence.deadline <= now
        {
            let reason = absence.reason;
            let ended = self.end(&session, &mut state, reason);
            drop(state);
            self.after_end(&session, ended);
        }
        true
    }

    /// When the next session without a connection ends.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.table.next_deadline()
    }

    /// Completes when there is an earlier deadline, or no session is left.
    pub(crate) async fn until_deadlines_change(&self) {
        self.deadlines_changed.notified().await;
    }

    /// Wakes the task that waits for the next deadline.
    pub(crate) fn recheck_deadlines(&self) {
        self.deadlines_changed.notify_one();
    }

    /// Ends a connection: its session is kept if it may be resumed, or else ends. Returns whether it is kept.
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
            && (state.is_kept_after(reason) || wants_session_kept)
            && state.token.is_some()
            && state.is_worth_resuming();
        if may_keep && reason == LeaveReason::Shutdown {
            self.memberships.deliver_rest(session, &state);
        }
        if may_keep && self.admission.is_closing() && state.may_move() {
            let ended = self.leave_behind(session, &mut state);
            drop(state);
            self.after_end(session, ended);
            return Ok(true);
        }
        if may_keep && let Some(window) = self.keep(session, &mut state, reason) {
            tracing::debug!(connection = %session.id(), %reason, ?window, "connection lost; its session is kept");
            return Ok(true);
        }
        let reason = state.verdict.filter(|_| reason.keeps_session()).unwrap_or(reason);
        let ended = self.end(session, &mut state, reason);
        drop(state);
        self.after_end(session, ended);
        Ok(false)
    }

    /// Keeps a session without a connection. Returns for how long; `None` if as many are kept as may be.
    pub(super) fn keep(&self, session: &Session, state: &mut State, reason: LeaveReason) -> Option<Duration> {
        let permit = self.admission.keep_absent(state.peer.map(|peer| peer.ip()))?;
        let now = self.context.clock.now();
        let window = self.context.config.recovery.resume_window;
        // No session outlives its user's authentication.
        let (window, reason) = match state.user.as_ref().and_then(|user| user.time_left()) {
            Some(left) if left < window => (left, LeaveReason::AuthExpired),
            _ => (window, reason),
        };
        let deadline = now.saturating_add(window);
        state.phase = Phase::Detached(Box::new(Absence { deadline, reason, _permit: permit }));
        session.with_socket(Socket::unsubscribe_all);
        if self.table.add_deadline(deadline, session.id()) {
            self.recheck_deadlines();
        }
        Some(window)
    }

    /// Moves a connection from its own session, which must be in no room, to one that it may resume, and ends its own
    /// session. Returns `None` if it may not resume that session. Holds the locks of both sessions, so that of two
    /// attempts only one succeeds, and no direct frame is lost or overtaken by a later one.
    pub(super) fn attach(
        &self,
        own: &Arc<Session>,
        generation: Generation,
        session: &Arc<Session>,
        token: ResumeToken,
    ) -> Result<Option<Generation>, Superseded> {
        let (mut old, mut state) = session::states_of(own, session);
        old.check(generation)?;
        if !state.may_be_resumed_by(&old, token) {
            return Ok(None);
        }
        let socket = own.take_socket(generation).ok_or(Superseded)?;
        if let Phase::Detached(absence) = std::mem::replace(&mut state.phase, Phase::Attached) {
            self.table.remove_deadline(absence.deadline, session.id());
        }
        state.generation = state.generation.wrapping_add(1);
        state.memberships.set_all_inactive();
        state.resume = Resume::Unanswered;
        state.token = old.token.take();
        state.peer = old.peer.or(state.peer);
        let previous = old.user.clone().and_then(|user| {
            // It may be a session whose user's authentication has expired.
            self.begin_of_user(session, &mut state, &user);
            state.set_user(user)
        });
        session.replace_socket(state.generation, socket);
        self.table.remove_token(&token, session);
        if let Some(token) = state.token {
            self.table.add_token(token, session);
        }
        if let Some(direct) = old.direct.take() {
            self.take_over_direct(session, &mut state, &direct);
        }
        let generation = state.generation;
        drop(state);
        let ended = self.end(own, &mut old, LeaveReason::Replaced);
        old.phase = Phase::Ended { successor: Some(session.clone()) };
        drop(old);
        drop(previous);
        // Before the end of the own session, so that a user that has only these two stays online.
        let _ = self.run_callbacks(session);
        self.after_end(own, ended);
        self.context.counters.resumed.add(1);
        tracing::debug!(connection = %own.id(), resumed = %session.id(), "session resumed");
        Ok(Some(generation))
    }

    /// The session that a token belongs to.
    pub(super) fn by_token(&self, token: &ResumeToken) -> Option<Arc<Session>> {
        self.table.by_token(token)
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(super) fn rooms(&self) -> &Arc<Rooms> {
        &self.rooms
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Itself, for a task that outlives a call.
    pub(super) fn this(&self) -> Option<Arc<Sessions>> {
        self.this.upgrade()
    }

    /// Calls the queued callbacks of a session, and those of other sessions that have waited for them. Within a callback, they
    /// are called after it has returned.
    ///
    /// # Errors
    /// If one of the session's own callbacks panicked. In that case the session's connection has been told to end.
    pub(crate) fn run_callbacks(&self, session: &Arc<Session>) -> Result<(), Panicked> {
        let Some(events) = self.events() else { return Ok(()) };
        // Their own connection's task may have ended meanwhile.
        let _token = self.admission.hold_shutdown();
        let Some(outermost) = Run::begin(&self.users, session) else { return Ok(()) };
        let (mut waiting, times) = (Vec::new(), &self.context.counters.hooks);
        let run = |session: &Arc<Session>, waiting: &mut Vec<_>| {
            let called = callbacks::run(session, events, times, &self.users, waiting);
            if called.is_err() {
                self.close(session, LeaveReason::HookFailed);
            }
            called
        };
        let called = run(session, &mut waiting);
        while let Some(other) = waiting.pop().or_else(|| outermost.next()) {
            let _ = run(&other, &mut waiting);
        }
        called
    }

    /// Tells the host once more that a member has entered.
    pub(crate) fn announce_again(&self, id: ConnectionId, room: &RoomId) {
        let Some(session) = self.table.get(id) else { return };
        self.memberships.queue_entered_again(&session, &mut session.state(), room);
        // A panic has ended the session, and concerns nobody else.
        let _ = self.run_callbacks(&session);
    }

    /// The only place where a session ends. Afterwards its membership has left the room.
    pub(super) fn end(&self, session: &Arc<Session>, state: &mut State, reason: LeaveReason) -> Ended {
        let absence = self.forget(session, state);
        tracing::debug!(connection = %session.id(), %reason, "session ended");
        let Some(record) = state.record.take() else {
            self.memberships.end_all(session, state, reason);
            self.end_of_user(session, state);
            return Ended { absence, closing: None };
        };
        // First, so that no other node can take over a session whose members are leaving.
        let is_own = records::close(&self.rooms, &record);
        let before = state.callbacks.take();
        self.memberships.end_all(session, state, reason);
        self.end_of_user(session, state);
        let callbacks = std::mem::replace(&mut state.callbacks, before);
        Ended { absence, closing: Some(Box::new(Closing { is_own, callbacks, reason })) }
    }

    /// Ends a session that continues on another node. Its members stay in their rooms. If it has a connection, that ends for
    /// this reason.
    pub(super) fn end_here(&self, session: &Arc<Session>, state: &mut State, reason: LeaveReason) -> Ended {
        let absence = self.forget(session, state);
        tracing::debug!(connection = %session.id(), "session continues on another node");
        state.record = None;
        self.memberships.move_all_elsewhere(session, state);
        self.end_of_user(session, state);
        session.with_socket(|socket| {
            socket.unsubscribe_all();
            socket.close(reason);
        });
        Ended { absence, closing: None }
    }

    /// Forgets a session that the broker keeps, because this node shuts down. Another node resumes it, or ends it after the
    /// resume window. The host is told of the end there.
    fn leave_behind(&self, session: &Arc<Session>, state: &mut State) -> Ended {
        let absence = self.forget(session, state);
        tracing::debug!(connection = %session.id(), "session left to the other nodes");
        state.record = None;
        self.memberships.move_all_elsewhere(session, state);
        if let Some(user) = state.user.clone().filter(|_| std::mem::take(&mut state.is_of_user)) {
            match self.events {
                Some(_) => self.users.leave_behind(user.id(), session.id()),
                // Nothing is announced without `RoomEvents`.
                None => self.users.remove(user.id(), session.id()),
            }
        }
        session.with_socket(Socket::unsubscribe_all);
        Ended { absence, closing: None }
    }

    /// Removes what leads to a session.
    fn forget(&self, session: &Arc<Session>, state: &mut State) -> Option<Box<Absence>> {
        let absence = match std::mem::replace(&mut state.phase, Phase::Ended { successor: None }) {
            Phase::Detached(absence) => Some(absence),
            _ => None,
        };
        if let Some(absence) = &absence {
            self.table.remove_deadline(absence.deadline, session.id());
        }
        if let Some(token) = state.token.take() {
            self.table.remove_token(&token, session);
        }
        (state.message_ids, state.direct) = (None, None);
        self.table.remove(session);
        absence
    }

    /// Calls the host's callbacks, without the session's lock. A shutdown waits for the absence's permit, if there is
    /// no connection whose permit it waits for.
    pub(super) fn after_end(&self, session: &Arc<Session>, ended: Ended) {
        let Ended { absence, closing } = ended;
        if let Some(closing) = closing {
            self.conclude(session, closing, absence);
            return;
        }
        // A panic in a callback could only end what is ending anyway.
        let _ = self.run_callbacks(session);
        drop(absence);
    }
}
