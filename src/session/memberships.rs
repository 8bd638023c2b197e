//! The operations of a session on its rooms: enter, enter again, publish and leave.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{BoxFuture, RemoteMember, Submitted, TakenMember, Unavailable};
use crate::config::{Keep, Presence, SlowConsumer};
use crate::context::Context;
use crate::delivery::{
    Draft, EnterOutcome, Entered, Entering, Entrant, Handle, IfMoved, Keeping, LiveRoom, NotPublished,
    Recipient, Refused, ReplayRequest, Rooms, WaitingId, profile_text,
};
use crate::hooks::events::{Entered as EnteredEvent, Left};
use crate::hooks::message::{Message, Sender};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::{MessageId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::frame;
use crate::protocol::inbound::Body;
use crate::protocol::outbound;
use crate::protocol::position::Position;
use crate::protocol::presence::ProfileKeys;
use crate::protocol::receipt::Receipt;
use crate::protocol::subprotocol::Subprotocol;
use crate::room::{EnterError, Profile};
use crate::session::callbacks::Callback;
use crate::session::enter_answer::{FromStore, answer, entered_frame, own_enter};
use crate::session::records;
use crate::session::session::{Generation, Membership, Published, Session, State, Superseded};
use crate::session::submitted_enter::EnterUnderWay;

/// A request to enter a room.
#[derive(Clone)]
pub(crate) struct EnterCommand<'a> {
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) body: &'a Body<'a>,
    /// The requested frames from before the enter, as far as the policy allows them.
    pub(crate) replay_request: Option<ReplayRequest>,
    pub(crate) from_store: FromStore<'a>,
    /// What happens if it reads the room too slowly.
    pub(crate) slow: SlowConsumer,
    /// What members learn about each other if this enter opens the room. `None` means the default.
    pub(crate) presence: Option<Presence>,
    pub(crate) access: Access,
    /// The member's state, and which keys of profiles the body has. In `chat-rooms.v1`, only the server sets them.
    pub(crate) profile: ProfileKeys<'a>,
}

/// A client that has entered a room again. The answer still has to be sent.
pub(crate) struct EnteredAgain {
    membership: Arc<Membership>,
    outcome: EnterOutcome,
}

impl EnteredAgain {
    pub(crate) fn outcome(&self) -> &EnterOutcome {
        &self.outcome
    }
}

/// A message of a client for a room.
pub(crate) struct MessageCommand<'a> {
    /// `None` if the message is for the only room that the client is in.
    pub(crate) room: Option<&'a str>,
    pub(crate) event: &'a str,
    pub(crate) body: &'a Body<'a>,
    /// The id under which the session remembers the message.
    pub(crate) cid: Option<&'a str>,
    /// The whole object as the client has sent it.
    pub(crate) text: &'a str,
    /// The whole object that the policy has replaced it with.
    pub(crate) replaced: Option<&'a str>,
    pub(crate) keep: Keep,
    /// When it was received, if its delivery is measured.
    pub(crate) received: Option<Duration>,
}

impl MessageCommand<'_> {
    /// The whole object as hooks see it.
    fn for_hooks(&self) -> Cow<'_, str> {
        self.replaced.map_or_else(|| self.body.for_hooks(self.text), Cow::Borrowed)
    }

    /// What the host is told of it.
    fn describe(
        &self,
        session: &Session,
        user: Option<Arc<User>>,
        membership: &Membership,
        receipt: Receipt,
    ) -> Message {
        let Receipt { position, id } = receipt;
        Message {
            room: membership.room.id().clone(),
            id,
            position,
            time: id.time(),
            cid: self.cid.map(str::to_owned),
            sender: Some(Sender { connection: session.id(), name: membership.name.clone(), user }),
            event: self.event.to_owned(),
            body: self.for_hooks().into_owned(),
        }
    }
}

impl MessageCommand<'_> {
    /// The message as it waits for the store.
    fn draft(
        &self,
        session: &Session,
        user: Option<Arc<User>>,
        membership: &Membership,
        waiting_id: Option<WaitingId>,
    ) -> Draft {
        let key = self.cid.map(|cid| key_of(user.as_deref(), cid));
        // Until it is published, it has no place.
        let receipt = Receipt { position: membership.start, id: MessageId::ZERO };
        let message = self.describe(session, user, membership, receipt);
        let mut draft = Draft::new(self.body.to_owned(), membership.tail.clone(), key, message);
        (draft.waiting_id, draft.received) = (waiting_id, self.received);
        draft
    }
}

/// Why a client can't enter a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CantEnter {
    Refused(Refused),
    /// The client is already in as many rooms as it may be.
    TooManyMemberships,
}

/// The maximum length of a message's key in the store.
const MAX_KEY_BYTES: usize = 255;

/// A message that was submitted to the broker.
pub(crate) struct Submission {
    pub(crate) membership: Arc<Membership>,
    pub(crate) submitted: BoxFuture<'static, Result<Submitted, Unavailable>>,
}

pub(super) struct Memberships {
    context: Arc<Context>,
    rooms: Arc<Rooms>,
    /// Whether the host has an events hook.
    has_events: bool,
}

impl Memberships {
    pub(super) fn new(context: Arc<Context>, rooms: Arc<Rooms>, has_events: bool) -> Memberships {
        Memberships { context, rooms, has_events }
    }

    /// Enters a room. A plain client leaves its previous room. If the client can't enter, nothing changes.
    pub(super) fn enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        enter: &EnterCommand<'_>,
    ) -> Result<Result<Arc<Membership>, CantEnter>, Superseded> {
        let mut state = session.state_of(generation)?;
        let (entrant, tail, body) = prepare(session, &state, enter);
        let frame = body.frame(&tail, session.id(), enter.room);
        let old = ended_by(session, &state, enter);
        let entered = match &old {
            None if self.is_in_too_many(&state) => return Ok(Err(CantEnter::TooManyMemberships)),
            None => self.rooms.enter(entrant, enter.room, &frame, enter.presence).map(|at| (at, 0)),
            Some(old) if old.room.id() == enter.room => {
                self.rooms.rename(entrant, &frame, &old.room, &old.name)
            }
            Some(old) => self.rooms.change(entrant, enter.room, &frame, enter.presence, &old.room, &old.name),
        };
        let (outcome, left) = match entered {
            Ok(entered) => entered,
            Err(refused) => return Ok(Err(CantEnter::Refused(refused))),
        };
        let old = old.map(|old| (old, left));
        Ok(Ok(self.add(session, generation, &mut state, enter, outcome, old)))
    }

    /// Submits an enter to the broker. [`Memberships::accept`] must follow.
    pub(super) fn submit_enter(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        enter: &EnterCommand<'_>,
    ) -> Result<Result<EnterUnderWay, CantEnter>, Superseded> {
        let mut state = session.state_of(generation)?;
        let (entrant, tail, body) = prepare(session, &state, enter);
        let frame = body.frame(&tail, session.id(), enter.room);
        let old = ended_by(session, &state, enter);
        if old.is_none() && self.is_in_too_many(&state) {
            return Ok(Err(CantEnter::TooManyMemberships));
        }
        let if_moved = IfMoved {
            is_read_only: enter.access.is_read_only(),
            session: records::open(&self.rooms, &self.context, session.id(), &mut state),
        };
        let renamed = old.filter(|old| old.room.id() == enter.room);
        let entering = match &renamed {
            Some(old) => self.rooms.submit_rename(entrant, &frame, &old.room, if_moved),
            None => self.rooms.submit_enter(entrant, enter.room, &frame, enter.presence, if_moved),
        };
        Ok(entering.map(|entering| EnterUnderWay { entering, renamed }).map_err(CantEnter::Refused))
    }

    /// Notes that a member has entered whose enter was submitted. If the host has removed it meanwhile, it is refused.
    pub(super) fn accept(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        enter: &EnterCommand<'_>,
        entering: &mut Entering,
        entered: Entered,
    ) -> Result<Result<Arc<Membership>, CantEnter>, Superseded> {
        let mut state = session.state_of(generation)?;
        if !entering.is_in() {
            return Ok(Err(CantEnter::Refused(Refused::Room(EnterError::Closed))));
        }
        let handle: Handle = session.clone();
        let old = ended_by(session, &state, enter).map(|old| match old.room.id() == enter.room {
            // The broker has removed it.
            true => (old, entered.left),
            false => {
                let left = self.rooms.leave(&old.room, session.id(), &old.name, &handle);
                (old, left)
            }
        });
        entering.finish();
        Ok(Ok(self.add(session, generation, &mut state, enter, entered.outcome, old)))
    }

    fn is_in_too_many(&self, state: &State) -> bool {
        state.memberships.all().len() >= self.context.config.limits.max_memberships
    }

    /// Adds the membership of a member that has entered, and answers the client. `old` is the membership that it has ended,
    /// and the number of members that remain there.
    fn add(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        state: &mut State,
        enter: &EnterCommand<'_>,
        mut outcome: EnterOutcome,
        old: Option<(Arc<Membership>, u64)>,
    ) -> Arc<Membership> {
        let start = match &old {
            Some((old, _)) if old.room.id() == enter.room => old.start,
            _ => Position { epoch: outcome.epoch, seq: outcome.seq },
        };
        let (room, name) = (outcome.room.clone(), enter.name.clone());
        let tail = outbound::name_and_num(name.as_str());
        let membership = Arc::new(Membership::new(room, name, tail, start, &enter.access));
        if let Some((old, left)) = old {
            state.memberships.remove(old.room.id().as_str());
            let is_same = old.room.id() == enter.room;
            let reason = if is_same { LeaveReason::Renamed } else { LeaveReason::Moved };
            self.context.counters.left.add(reason);
            self.queue_left(session, state, old.left(), reason, left);
        }
        state.memberships.add(membership.clone());
        self.context.counters.entered.add(1);
        self.queue_entered(session, state, &membership, outcome.num);
        let frame = match session.subprotocol() {
            Subprotocol::V1 => {
                let (request, from_store) = (enter.replay_request, enter.from_store);
                Some(entered_frame(session, &mut outcome, &membership, request, from_store, false))
            }
            // As the frame of the room would have been.
            Subprotocol::Plain if !outcome.is_announced => {
                Some(own_enter(enter.body, &membership, outcome.num))
            }
            Subprotocol::Plain => None,
        };
        answer(session, generation, outcome, frame, enter.slow);
        membership
    }

    /// Enters a room again that the client is already in. The other members do not notice. The room's frames wait until
    /// [`Memberships::answer_enter_again`].
    pub(super) fn enter_again(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        room: &RoomId,
        replay_request: Option<ReplayRequest>,
    ) -> Result<Option<EnteredAgain>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.find(room.as_str()).cloned() else { return Ok(None) };
        state.memberships.set_active(room.as_str());
        let handle: Handle = session.clone();
        let outcome = self.rooms.enter_again(&membership.room, &handle, replay_request);
        Ok(Some(EnteredAgain { membership, outcome }))
    }

    /// Sends the requested frames to a client that has entered again. Returns its membership, or `None` if that has ended.
    pub(super) fn answer_enter_again(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        EnteredAgain { membership, mut outcome }: EnteredAgain,
        replay_request: Option<ReplayRequest>,
        from_store: FromStore<'_>,
        slow: SlowConsumer,
    ) -> Result<Option<Arc<Membership>>, Superseded> {
        // Locked until the answer is written, so that the notice of a removal from the room comes after it.
        let state = session.state_of(generation)?;
        let current = state.memberships.find(membership.room.id().as_str());
        if !current.is_some_and(|current| Arc::ptr_eq(current, &membership)) {
            return Ok(None);
        }
        let frame = (session.subprotocol() == Subprotocol::V1)
            .then(|| entered_frame(session, &mut outcome, &membership, replay_request, from_store, true));
        answer(session, generation, outcome, frame, slow);
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
        let outcome = self.rooms.enter_again(&membership.room, &handle, None);
        let text = format!("{}{}{}}}", body.as_str(), membership.tail, outcome.num);
        answer(session, generation, outcome, Some(frame::text(text.as_bytes())), slow);
        Ok(())
    }

    /// Publishes a member's message, once for each id. Returns `None` if the member is not in `room` or, if `room` is
    /// `None`, not in exactly one room.
    pub(super) fn publish(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Published, NotPublished>>, Superseded> {
        let cid = message.cid;
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(message.room).cloned() else { return Ok(None) };
        if let Some(receipt) = cid.and_then(|cid| state.message_ids.as_ref()?.answer_to(cid)) {
            return Ok(Some(Ok(Published { receipt, is_repeated: true, calling: None })));
        }
        if membership.is_read_only() {
            return Ok(Some(Err(NotPublished::ReadOnly)));
        }
        if self.rooms.is_remote() {
            return Ok(Some(Err(NotPublished::IsRemote)));
        }
        let frame = message.body.frame(&membership.tail, session.id(), membership.room.id());
        let user = state.user.clone();
        let describe = |receipt| message.describe(session, user, &membership, receipt);
        let (keep, received) = (message.keep, message.received);
        Ok(Some(match self.rooms.publish(&membership.room, None, keep, &frame, received, describe) {
            Ok((receipt, calling)) => {
                remember(&mut state, cid, receipt);
                Ok(Published { receipt, is_repeated: false, calling })
            }
            Err(error) => Err(error),
        }))
    }

    /// Has a member's message stored, after [`Memberships::publish`] has returned [`NotPublished::IsStored`]. The session
    /// remembers its id as soon as it has its place.
    pub(super) fn keep(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Keeping, NotPublished>>, Superseded> {
        // Until the message is in the queue, so that the room is not removed.
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(message.room).cloned() else { return Ok(None) };
        let Some(waiting_id) = wait(&mut state, message.cid) else {
            return Ok(Some(Err(NotPublished::InFlight)));
        };
        let user = state.user.clone();
        let draft = message.draft(session, user, &membership, waiting_id);
        Ok(Some(self.rooms.keep(&membership.room, message.keep, draft)))
    }

    /// Submits a member's message to the broker, after [`Memberships::publish`] has returned
    /// [`NotPublished::IsRemote`]. [`Memberships::accept_message`] must follow.
    pub(super) fn submit(
        &self,
        session: &Arc<Session>,
        generation: Generation,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Submission, NotPublished>>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(message.room).cloned() else { return Ok(None) };
        // A session's ids differ from those of all other senders.
        let key = message.cid.map(|cid| format!("{}:{cid}", session.id()));
        let submitted = if self.rooms.has_store() {
            let Some(waiting_id) = wait(&mut state, message.cid) else {
                return Ok(Some(Err(NotPublished::InFlight)));
            };
            let user = state.user.clone();
            drop(state);
            let draft = message.draft(session, user, &membership, waiting_id);
            self.rooms.submit_to_store(&membership.room, message.keep, draft, key)
        } else {
            let frame = message.body.frame(&membership.tail, session.id(), membership.room.id());
            self.rooms.submit(&membership.room, &frame, key.as_deref(), message.received)
        };
        Ok(Some(submitted.map(|submitted| Submission { membership, submitted })))
    }

    /// Remembers the id of a message that was submitted, unless it is remembered since it was stored, and gives the host's callback its turn unless it `is_repeated`.
    pub(super) fn accept_message(
        &self,
        session: &Session,
        generation: Generation,
        membership: &Membership,
        message: &MessageCommand<'_>,
        receipt: Receipt,
        is_repeated: bool,
    ) -> Result<Published, Superseded> {
        let mut state = session.state_of(generation)?;
        if !self.rooms.has_store() {
            remember(&mut state, message.cid, receipt);
        }
        let user = state.user.clone();
        drop(state);
        let describe = || message.describe(session, user, membership, receipt);
        let calling = if is_repeated { None } else { self.rooms.queue_call(&membership.room, describe) };
        Ok(Published { receipt, is_repeated, calling })
    }

    /// Sends a member's transient frame. Returns `None` if the member is not in `room` or, if `room` is `None`, not in
    /// exactly one room.
    pub(super) fn send_transient(
        &self,
        session: &Session,
        generation: Generation,
        room: Option<&str>,
        event: &str,
        body: &Body<'_>,
    ) -> Result<Option<Result<(), NotPublished>>, Superseded> {
        let state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(room) else { return Ok(None) };
        if membership.is_read_only() {
            return Ok(Some(Err(NotPublished::ReadOnly)));
        }
        let frame = body.frame(&membership.tail, session.id(), membership.room.id());
        if self.rooms.send_transient(&membership.room, event, &frame) == Err(NotPublished::BatchFull) {
            self.context.counters.transient_dropped.add(1);
        }
        Ok(Some(Ok(())))
    }

    /// Makes a message look as if it had been published. `None` if the member is not in this room or, without a room, not
    /// in exactly one.
    pub(super) fn pretend_published(
        &self,
        session: &Session,
        generation: Generation,
        room: Option<&str>,
        cid: Option<&str>,
    ) -> Result<Option<Receipt>, Superseded> {
        let mut state = session.state_of(generation)?;
        let Some(membership) = state.memberships.active(room) else { return Ok(None) };
        let receipt = self.rooms.pretend_published(&membership.room);
        remember(&mut state, cid, receipt);
        Ok(Some(receipt))
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
        self.context.counters.left.add(reason);
        self.queue_left(session, state, membership.left(), reason, num);
        Some(membership.room.clone())
    }

    /// Ends all memberships of a session.
    pub(super) fn end_all(&self, session: &Arc<Session>, state: &mut State, reason: LeaveReason) {
        for membership in state.memberships.all().to_vec() {
            self.end(session, state, membership.room.id().as_str(), reason);
        }
    }

    /// Delivers what was published so far. The member hears nothing after it.
    pub(super) fn deliver_rest(&self, session: &Arc<Session>, state: &State) {
        let handle: Handle = session.clone();
        for membership in state.memberships.all() {
            self.rooms.deliver_rest(&membership.room, &handle);
        }
    }

    /// The members of a session are on another node from now on.
    pub(super) fn move_all_elsewhere(&self, session: &Arc<Session>, state: &mut State) {
        let handle: Handle = session.clone();
        for membership in state.memberships.all().to_vec() {
            state.memberships.remove(membership.room.id().as_str());
            self.rooms.move_elsewhere(&membership.room, session.id(), &handle);
            self.context.counters.moved_away.add(1);
        }
    }

    /// Notes that a member had to leave that has never been on this node.
    pub(super) fn note_lost(&self, session: &Session, state: &mut State, taken: &TakenMember) {
        self.context.counters.left.add(LeaveReason::Lost);
        let RemoteMember { name, profile, .. } = &taken.member;
        let left = (&taken.room, name, profile.is_hidden);
        self.queue_left(session, state, left, LeaveReason::Lost, 0);
    }

    /// Queues the callback for a member that is in the room.
    pub(super) fn queue_entered_again(&self, session: &Session, state: &mut State, room: &RoomId) {
        if let Some(membership) = state.memberships.find(room.as_str()).cloned() {
            self.queue_entered(session, state, &membership, membership.room.online() as u64);
        }
    }

    fn queue_entered(&self, session: &Session, state: &mut State, membership: &Membership, num: u64) {
        if !self.has_events {
            return;
        }
        let event = EnteredEvent {
            connection: session.id(),
            peer: state.peer,
            room: membership.room.id().clone(),
            name: membership.name.clone(),
            user: state.user.clone(),
            online: num as usize,
            is_hidden: membership.is_hidden,
        };
        state.callbacks.get_or_insert_default().push(Callback::Entered(event));
    }

    fn queue_left(
        &self,
        session: &Session,
        state: &mut State,
        (room, name, is_hidden): (&RoomId, &Name, bool),
        reason: LeaveReason,
        num: u64,
    ) {
        if !self.has_events {
            return;
        }
        let event = Left {
            connection: session.id(),
            peer: state.peer,
            room: room.clone(),
            name: name.clone(),
            user: state.user.clone(),
            online: num as usize,
            reason,
            is_hidden,
        };
        state.callbacks.get_or_insert_default().push(Callback::Left(event));
    }
}

/// What enters the room, and the tail and the body of its enter.
fn prepare<'a>(
    session: &Arc<Session>,
    state: &State,
    enter: &EnterCommand<'a>,
) -> (Entrant, Box<str>, Cow<'a, Body<'a>>) {
    let profile = profile_of(state, enter);
    let body = match enter.profile.is_present || !profile.is_empty() {
        true => Cow::Owned(enter.body.with_profile(&profile_text(&profile).keys())),
        false => Cow::Borrowed(enter.body),
    };
    let entrant = Entrant {
        id: session.id(),
        name: enter.name.clone(),
        handle: session.clone(),
        replay_request: enter.replay_request,
        profile,
    };
    (entrant, outbound::name_and_num(enter.name.as_str()), body)
}

/// The membership that an enter ends: that in the same room, or that of a plain client in another one.
fn ended_by(session: &Session, state: &State, enter: &EnterCommand<'_>) -> Option<Arc<Membership>> {
    let same = state.memberships.find(enter.room.as_str());
    match session.subprotocol() {
        Subprotocol::Plain => same.or_else(|| state.memberships.all().first()).cloned(),
        Subprotocol::V1 => same.cloned(),
    }
}

/// The profile of a member that enters.
fn profile_of(state: &State, enter: &EnterCommand<'_>) -> Profile {
    let user = state.user.as_deref();
    let info = enter.access.info_text().or(user.and_then(User::info)).cloned();
    Profile {
        user: user.map(|user| user.id().into()),
        info: info.clone(),
        state: enter.profile.state.map(Into::into),
        granted: info,
        is_hidden: enter.access.is_hidden(),
    }
}

/// The key under which a message is stored. No other user can know it, so none can keep the message from being stored.
fn key_of(user: Option<&User>, cid: &str) -> String {
    let of_user = user.map(|user| format!("user:{}:{}:{cid}", user.id().len(), user.id()));
    of_user.filter(|key| key.len() <= MAX_KEY_BYTES).unwrap_or_else(|| format!("cid:{cid}"))
}

/// Notes that a message waits to be stored. `None` if one with its id waits already.
fn wait(state: &mut State, cid: Option<&str>) -> Option<Option<WaitingId>> {
    let Some(cid) = cid else { return Some(None) };
    state.message_ids.get_or_insert_default().wait(cid).map(Some)
}

/// Remembers a message id, so that no message with this id is published again.
fn remember(state: &mut State, cid: Option<&str>, receipt: Receipt) {
    if let Some(cid) = cid {
        state.message_ids.get_or_insert_default().add(cid, receipt);
    }
}
