//! What a session does in its rooms: it enters, publishes, comes back and leaves.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::context::Context;
use crate::delivery::{
    Entrant, Handle, LiveRoom, NotPublished, Recipient, Refused, ReplayRequest, Rooms, Standpoint,
};
use crate::hooks::events::{Entered, Left};
use crate::ids::{Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::inbound::Body;
use crate::protocol::outbound::{self, EnteredFrame};
use crate::protocol::position::Position;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, history};
use crate::session::callbacks::Callback;
use crate::session::session::{Generation, Membership, Published, Session, State, Superseded};
use crate::socket::Answer;

/// A request to enter a room.
pub(crate) struct EnterCommand<'a> {
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) body: &'a Body<'a>,
    /// The frames that it wants to have from before its enter, and may have.
    pub(crate) wants: Option<ReplayRequest>,
    /// What happens if it reads the room too slowly.
    pub(crate) slow: SlowConsumer,
}

/// Why a client can't enter a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CantEnter {
    Refused(Refused),
    /// It is in as many rooms as it may be.
    TooManyMemberships,
}

pub(super) struct Memberships {
    context: Arc<Context>,
    rooms: Arc<Rooms>,
    /// Whether the host wants to be told of enters and leaves.
    has_events: bool,
}

impl Memberships {
    pub(super) fn new(context: Arc<Context>, rooms: Arc<Rooms>, has_events: bool) -> Memberships {
        Memberships { context, rooms, has_events }
    }

    /// Enters a room; a plain client leaves the one that it is in. If the client can't enter, it stays where it is.
    pub(super) fn enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        enter: &EnterCommand<'_>,
    ) -> Result<Result<Arc<Membership>, CantEnter>, Superseded> {
        let mut state = session.state_of(generation)?;
        let handle: Handle = session.clone();
        let entrant = Entrant {
            id: session.id(),
            name: enter.name.clone(),
            owner: state.user.clone(),
            handle,
            wants: enter.wants,
        };
        let tail = outbound::name_and_num(enter.name.as_str());
        let frame = enter.body.frame(&tail, session.id(), enter.room);
        let same = state.memberships.find(enter.room.as_str()).cloned();
        let old = match session.subprotocol() {
            Subprotocol::Plain => same.or_else(|| state.memberships.all().first().cloned()),
            Subprotocol::V1 => same,
        };
        let entered = match &old {
            None if state.memberships.all().len() >= self.context.config.limits.max_memberships => {
                return Ok(Err(CantEnter::TooManyMemberships));
            }
            None => self.rooms.enter(entrant, enter.room, &frame).map(|at| (at, 0)),
            Some(old) if old.room.id() == enter.room => {
                self.rooms.rename(entrant, &frame, &old.room, &old.name)
            }
            Some(old) => self.rooms.change(entrant, enter.room, &frame, &old.room, &old.name),
        };
        let (mut standpoint, left) = match entered {
            Ok(entered) => entered,
            Err(refused) => return Ok(Err(CantEnter::Refused(refused))),
        };
        let start = match &old {
            Some(old) if old.room.id() == enter.room => old.start,
            _ => Position { epoch: standpoint.epoch, seq: standpoint.seq },
        };
        let membership =
            Arc::new(Membership { room: standpoint.room.clone(), name: enter.name.clone(), tail, start });
        if let Some(old) = old {
            state.memberships.remove(old.room.id().as_str());
            let is_same = old.room.id() == enter.room;
            let reason = if is_same { LeaveReason::Renamed } else { LeaveReason::Moved };
            self.context.counters.left.add(1);
            self.queue_left(session, &mut state, &old, reason, left);
        }
        state.memberships.add(membership.clone());
        self.context.counters.entered.add(1);
        self.queue_entered(session, &mut state, &membership, standpoint.num);
        let frame = entered_frame(session, &mut standpoint, &membership, enter.wants, false);
        answer(session, generation, standpoint, frame, true, enter.slow);
        Ok(Ok(membership))
    }

    /// Lets a member return, or ask again for the frames that it has missed. The other members do not notice.
    pub(super) fn come_back(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        room: &RoomId,
        wants: Option<ReplayRequest>,
        slow: SlowConsumer,
    ) -> Result<Option<Arc<Membership>>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.find(room.as_str()).cloned() else { return Ok(None) };
        state.memberships.set_back(room.as_str());
        let handle: Handle = session.clone();
        let mut standpoint = self.rooms.come_back(&membership.room, &handle, wants);
        let frame = entered_frame(session, &mut standpoint, &membership, wants, true);
        answer(session, generation, standpoint, frame, false, slow);
        Ok(Some(membership))
    }

    /// Repeats a plain member's own enter to it, in its place among the room's frames.
    pub(super) fn repeat_enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        body: &Body<'_>,
        slow: SlowConsumer,
    ) -> Result<(), Superseded> {
        let state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(None) else { return Ok(()) };
        let handle: Handle = session.clone();
        let standpoint = self.rooms.come_back(&membership.room, &handle, None);
        let text = format!("{}{}{}}}", body.as_str(), membership.tail, standpoint.num);
        answer(session, generation, standpoint, Some(frame::text(text.as_bytes())), false, slow);
        Ok(())
    }

    /// Publishes a member's message, once for each id. `None` if it is not in this room or, without a room, not in
    /// exactly one.
    pub(super) fn publish(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        room: Option<&str>,
        body: &Body<'_>,
        cid: Option<&str>,
    ) -> Result<Option<Result<Published, NotPublished>>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(room).cloned() else { return Ok(None) };
        if let Some(seq) = cid.and_then(|cid| state.message_ids.as_ref()?.seq_of(cid)) {
            return Ok(Some(Ok(Published { seq, membership, is_repeated: true })));
        }
        let frame = body.frame(&membership.tail, session.id(), membership.room.id());
        Ok(Some(match self.rooms.publish(&membership.room, &frame) {
            Ok(stamp) => {
                remember(&mut state, cid, stamp.seq);
                Ok(Published { seq: stamp.seq, membership, is_repeated: false })
            }
            Err(error) => Err(error),
        }))
    }

    /// Sends a member's transient frame. Returns whether the member is in this room or, without a room, in exactly one.
    pub(super) fn send_transient(
        &self,
        session: &Session,
        generation: Generation,
        room: Option<&str>,
        event: &str,
        body: &Body<'_>,
    ) -> Result<bool, Superseded> {
        let state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(room) else { return Ok(false) };
        let frame = body.frame(&membership.tail, session.id(), membership.room.id());
        if self.rooms.send_transient(&membership.room, event, &frame) == Err(NotPublished::BatchFull) {
            self.context.counters.transient_dropped.add(1);
        }
        Ok(true)
    }

    /// Makes a message look as if it had been published. `None` if the member is not in this room or, without a room, not
    /// in exactly one.
    pub(super) fn pretend_published(
        &self,
        session: &Session,
        generation: Generation,
        room: Option<&str>,
        cid: Option<&str>,
    ) -> Result<Option<u64>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(room) else { return Ok(None) };
        let seq = self.rooms.seq(&membership.room);
        remember(&mut state, cid, seq);
        Ok(Some(seq))
    }

    /// Ends the membership in a room, and returns that room; `None` if there was none.
    pub(super) fn end(
        &self,
        session: &Arc<Session>,
        state: &mut State,
        room: &str,
        reason: LeaveReason,
    ) -> Option<Arc<LiveRoom>> {
        let membership = state.memberships.remove(room)?;
        let handle: Handle = session.clone();
        let num = self.rooms.leave(&membership.room, session.id(), &membership.name, &handle);
        self.context.counters.left.add(1);
        self.queue_left(session, state, &membership, reason, num);
        Some(membership.room.clone())
    }

    /// Ends all memberships of a session.
    pub(super) fn end_all(&self, session: &Arc<Session>, state: &mut State, reason: LeaveReason) {
        for membership in state.memberships.all().to_vec() {
            self.end(session, state, membership.room.id().as_str(), reason);
        }
    }

    fn queue_entered(&self, session: &Session, state: &mut State, membership: &Membership, num: u64) {
        if !self.has_events {
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
        if !self.has_events {
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

/// The answer to an enter, for clients that expect one. Leaves only the messages that the client wants in the history.
fn entered_frame(
    session: &Session,
    standpoint: &mut Standpoint,
    membership: &Membership,
    wants: Option<ReplayRequest>,
    is_resumed: bool,
) -> Option<Bytes> {
    let Subprotocol::V1 = session.subprotocol() else { return None };
    let history = match wants {
        Some(ReplayRequest::Last(n)) => Some(standpoint.replay.as_mut().map_or(0, |replay| {
            let (messages, len) = history::last_messages(&replay.history, n);
            replay.history = vec![messages];
            len
        })),
        _ => None,
    };
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
        history,
    };
    Some(frame::text(frame.encode().as_bytes()))
}

/// Sends a client the answer to its enter and the frames that it has missed; then the room's frames follow. The caller
/// holds the state's lock, so that a client that is removed from the room meanwhile is told so afterwards.
fn answer(
    session: &Session,
    generation: Generation,
    standpoint: Standpoint,
    frame: Option<Bytes>,
    is_new: bool,
    slow: SlowConsumer,
) {
    let start = standpoint.start();
    let Standpoint { room, before, replay, .. } = standpoint;
    let _ = session.with_socket_of(generation, |socket| {
        socket.answer_enter(&room, Answer { before, frame, replay, start, is_new, slow });
    });
}

/// Remembers a message id, so that no message with this id is published again.
fn remember(state: &mut State, cid: Option<&str>, seq: u64) {
    if let Some(cid) = cid {
        state.message_ids.get_or_insert_default().add(cid, seq);
    }
}
