//! Sessions that move from one node to another: a client whose connection is lost comes back on any node.
//!
//! A node takes a session over with [`Attachment::take_over`]. The broker then tells it what the session consists of, in the
//! order of its events, and the session is built anew, without a connection. From there on it is resumed as one that has
//! been here all the time. The node that it was on hears that it is gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::broker::{BoxFuture, KeptSession, NotTaken, TakenMember, TakenSession, TokenHash};
use crate::config::Presence;
use crate::delivery::{Handle, LiveRoom, MovedHere, TooManyRooms};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::outbound;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::attachment::Attachment;
use crate::session::direct::DirectMessages;
use crate::session::removal;
use crate::session::session::{Membership, Phase, Resume, Session};
use crate::session::sessions::{Ended, Sessions};
use crate::sync::{Mutex, lock};

/// The clients that wait for their sessions, by the new tokens of these.
#[derive(Default)]
pub(super) struct Arrivals {
    waiting: Mutex<HashMap<TokenHash, Arrival>>,
    /// Notified when one of them does not wait any more.
    removed: Notify,
}

/// A client that waits for its session.
struct Arrival {
    /// The token that the client has named.
    token: ResumeToken,
    user: Option<Arc<User>>,
    peer: Option<SocketAddr>,
    arrived: oneshot::Sender<()>,
}

/// Removes a client from those that wait when it is dropped.
struct Waiting {
    sessions: Arc<Sessions>,
    token: TokenHash,
}

impl Arrivals {
    fn user_and_peer(&self, token: &TokenHash) -> Option<(Option<Arc<User>>, Option<SocketAddr>)> {
        lock(&self.waiting).get(token).map(|arrival| (arrival.user.clone(), arrival.peer))
    }

    fn has(&self, token: &TokenHash) -> bool {
        lock(&self.waiting).contains_key(token)
    }

    fn insert(&self, token: TokenHash, arrival: Arrival) {
        lock(&self.waiting).insert(token, arrival);
    }

    fn remove(&self, token: &TokenHash) -> Option<Arrival> {
        let arrival = lock(&self.waiting).remove(token);
        self.removed.notify_waiters();
        arrival
    }

    /// Waits until those have their sessions that wait for them now, or get none.
    async fn until_over(&self) {
        let waiting: Vec<TokenHash> = lock(&self.waiting).keys().cloned().collect();
        loop {
            let removed = self.removed.notified();
            if !waiting.iter().any(|token| self.has(token)) {
                return;
            }
            removed.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.sessions.arrivals().remove(&self.token));
    }
}

impl Attachment {
    /// Whether a session of this node has this token, and no other session is about to arrive under it.
    pub(crate) fn knows(&self, token: &ResumeToken) -> bool {
        let (sessions, broker) = (self.sessions(), self.sessions().rooms().broker());
        let is_awaited = || broker.is_some_and(|broker| sessions.arrivals().has(&broker.hash(token)));
        sessions.by_token(token).is_some() && !is_awaited()
    }

    /// Takes over the session with this token, which this node does not know, and gives it a new one. That of the first
    /// session is the token of this connection: the client knows it even if it gets no answer. Further sessions will end.
    /// Returns `None` if there are no other nodes.
    pub(crate) fn take_over(
        &self,
        token: ResumeToken,
        is_first: bool,
    ) -> Option<BoxFuture<'static, Result<(), NotTaken>>> {
        let sessions = self.sessions().this()?;
        let broker = sessions.rooms().broker()?.clone();
        let session = self.session();
        // If the broker keeps its own session, that has this token.
        let (own, user, peer) = {
            let state = session.state_of(self.generation()).ok()?;
            (state.token.filter(|_| state.record.is_none()), state.user.clone(), state.peer)
        };
        let new = broker.hash(&own.filter(|_| is_first).or_else(ResumeToken::new)?);
        let (arrived, has_arrived) = oneshot::channel();
        let user_id = user.as_ref().map(|user| user.id());
        let old = broker.hash(&token);
        // The session may arrive before `take_over` has returned.
        let arrival = Arrival { token, user: user.clone(), peer, arrived };
        sessions.arrivals().insert(new.clone(), arrival);
        let taken = broker.take_over(&old, &new, user_id);
        let waiting = Waiting { sessions, token: new };
        Some(Box::pin(async move {
            let _waiting = waiting;
            taken.await?;
            has_arrived.await.map_err(|_| NotTaken::Unavailable)
        }))
    }
}

impl Sessions {
    /// Whether sessions are arriving from other nodes. What is done to all sessions of this node misses them.
    pub(crate) fn has_arrivals(&self) -> bool {
        !lock(&self.arrivals().waiting).is_empty()
    }

    /// Waits until the sessions are here that are arriving now.
    pub(crate) async fn until_arrived(&self) {
        self.arrivals().until_over().await;
    }

    /// Another node has taken over a session, for the time with this number. If the session has a connection, that ends
    /// for this reason.
    pub(crate) fn taken(&self, id: ConnectionId, generation: u64, reason: LeaveReason) {
        let Some(session) = self.table().get(id) else { return };
        let mut state = session.state();
        let is_older = state.record.as_ref().is_some_and(|record| record.generation < generation);
        // This node may have taken it back since.
        if !is_older || matches!(state.phase, Phase::Ended { .. }) {
            return;
        }
        // The client may have asked the other node before this one, and have given up.
        let reason = match state.resume {
            Resume::Unanswered => LeaveReason::Unavailable,
            Resume::NotDone | Resume::Answered => reason,
        };
        let ended = self.end_here(&session, &mut state, reason);
        drop(state);
        self.after_end_later(session, ended);
    }

    /// Begins a session that this node has taken over. [`Sessions::finish_arrival`] must follow. Returns `None` if the
    /// session was taken over once more since.
    pub(crate) fn begin_arrival(&self, taken: &TakenSession) -> Option<Arc<Session>> {
        let mut is_of_user = false;
        if let Some(known) = self.table().get(taken.id) {
            if known.state().record.as_ref().is_some_and(|record| record.generation >= taken.generation) {
                return None;
            }
            is_of_user = self.take_from_user(&known);
            // What has become of it elsewhere is in `taken`.
            self.taken(taken.id, taken.generation, LeaveReason::Replaced);
        }
        let known = self.arrivals().user_and_peer(&taken.token);
        let (user, peer) = known.unwrap_or_default();
        let user = user.or_else(|| taken.user.as_deref().map(|id| Arc::new(User::new(id))));
        let session = Session::new(taken.id, Subprotocol::V1, None, None, peer, user.clone());
        let session = Arc::new(session.beginning(self.context().clock.now()));
        let mut state = session.state();
        let TakenSession { id, token, generation, .. } = taken;
        let record = KeptSession { id: *id, token: token.clone(), generation: *generation };
        state.record = Some(Box::new(record));
        self.table().insert(&session);
        if let Some(user) = user {
            state.direct = Some(Box::new(DirectMessages::of_other_node()));
            match is_of_user {
                true => self.add_to_user(&session, &mut state, &user),
                false => self.begin_of_user(&session, &mut state, &user),
            }
        }
        drop(state);
        Some(session)
    }

    /// Makes a member of a session that has been taken over one of this node. Returns the room if the caller must call
    /// [`Rooms::follow`](crate::delivery::Rooms::follow).
    pub(crate) fn arrive_in(
        &self,
        session: &Arc<Session>,
        taken: &TakenMember,
        presence: Option<Presence>,
    ) -> Option<Arc<LiveRoom>> {
        let handle: Handle = session.clone();
        let mut state = session.state();
        let generation = state.record.as_ref().map_or(0, |record| record.generation);
        self.context().counters.entered.add(1);
        let name = &taken.member.name;
        let MovedHere { room, must_follow, start, is_read_only, is_hidden } =
            match self.rooms().move_here(taken, generation, &handle, presence) {
                Ok(moved) => moved,
                Err(TooManyRooms) => {
                    self.rooms().remove_taken(taken, generation);
                    self.memberships().note_lost(session, &mut state, taken);
                    return None;
                }
            };
        let access = Access::of(None, is_read_only, is_hidden);
        let tail = outbound::name_and_num(name.as_str());
        let membership = Membership::new(room.clone(), name.clone(), tail, start, &access);
        state.memberships.add(Arc::new(membership));
        drop(state);
        removal::check_closed(self, session, &room);
        must_follow.then_some(room)
    }

    /// From now on, the session can be resumed here.
    pub(crate) fn finish_arrival(&self, session: Arc<Session>, token: &TokenHash) {
        let arrival = self.arrivals().remove(token);
        let mut state = session.state();
        let verdict = state.verdict.or_else(|| (!state.is_worth_resuming()).then_some(LeaveReason::Lost));
        let is_kept = verdict.is_none() && self.keep(&session, &mut state, LeaveReason::Lost).is_some();
        let ended = match is_kept {
            true => Ended::default(),
            false => self.end(&session, &mut state, verdict.unwrap_or(LeaveReason::Lost)),
        };
        if let Some(arrival) = arrival.as_ref().filter(|_| is_kept) {
            state.token = Some(arrival.token);
            self.table().add_token(arrival.token, &session);
        }
        drop(state);
        self.after_end_later(session, ended);
        if let Some(arrival) = arrival {
            let _ = arrival.arrived.send(());
        }
    }

    /// The host's callbacks must not delay the events of rooms.
    fn after_end_later(&self, session: Arc<Session>, ended: Ended) {
        let Some(sessions) = self.this() else { return };
        self.tasks().spawn(async move { sessions.after_end(&session, ended) });
    }
}
