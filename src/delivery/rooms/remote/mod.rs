//! Rooms whose events a broker orders that several nodes share.
//!
//! Members of this node submit their events to the broker. Only when an event comes back is it applied, in its place in
//! the room's order, by [`Rooms::apply`]. Two things do not wait for that: a member that leaves gets no further frames,
//! and this node knows its members' new profiles. Until the leave comes back, the member counts as one of another node:
//! it may be one, because another node has taken its session over.

mod apply;
mod entering;
mod history;
mod keeper;
mod moving;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::keeping::Draft;
use super::{Entrant, Rooms};
use crate::broker::wire::{self, MemberFlags};
use crate::broker::{
    BoxFuture, EntryId, LoggedEvent, MemberSession, NewMember, NotEntered, RemoteBroker, RemoteMember, Stamp,
    Submitted, Unavailable, UniqueName,
};
use crate::config::{Config, History, Keep, Presence, PresenceMode, UniqueNames};
use crate::delivery::live_room::LiveRoom;
use crate::delivery::refusal::{NotPublished, Refused};
use crate::delivery::remote_room::{EndedStay, Expected};
use crate::delivery::room_state::RoomState;
use crate::health::Health;
use crate::hooks::message::Message;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::progress::Progress;
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::position::{Epoch, Position};
use crate::protocol::receipt::Receipt;
use crate::room::{EnterError, name_key};
use crate::stats::Counters;
use crate::sync::atomic::{AtomicU64, Ordering};
pub(crate) use apply::Applied;
pub(crate) use entering::Entering;
use entering::NewStay;
use keeper::Unstored;
pub(crate) use moving::MovedHere;

/// How long a frame waits for the broker.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Remote {
    broker: Arc<dyn RemoteBroker>,
    /// What is read from the broker's log when this node begins to follow a room.
    history: Option<History>,
    unique_names: UniqueNames,
    next_entry: AtomicU64,
    unstored: Unstored,
    counters: Arc<Counters>,
    /// Noted with each event that is applied.
    progress: Arc<Progress>,
}

/// What another node needs of a member that moves to it.
pub(crate) struct IfMoved {
    pub(crate) is_read_only: bool,
    pub(crate) session: Option<MemberSession>,
}

impl Remote {
    pub(super) fn new(broker: Arc<dyn RemoteBroker>, config: &Config, counters: Arc<Counters>) -> Remote {
        let (history, unique_names) = (config.recovery.history, config.unique_names);
        // A member that moves to another node enters rooms there, too.
        let next_entry = AtomicU64::new(u64::from(broker.node()) << 32);
        let (unstored, progress) = (Unstored::new(), Arc::new(Progress::new()));
        Remote { broker, history, unique_names, next_entry, unstored, counters, progress }
    }

    /// Ends the stay of a member of this node, whether it is in the room or about to enter. Returns how many members
    /// remain, as far as this node knows.
    pub(super) fn leave(&self, room: &RoomId, state: &mut RoomState, id: ConnectionId) -> u64 {
        self.cancel(room, state, id);
        let Some(ended) = state.end_stay(id) else { return state.num() };
        let EndedStay { entry, generation, member, was_hidden } = ended;
        self.broker.leave(room, entry, generation, leave_body_in(state, &member.name));
        if was_hidden { state.num() } else { state.num().saturating_sub(1) }
    }

    /// Ends the stay of a member that is about to enter. An earlier one that would end with the enter may go on.
    fn cancel(&self, room: &RoomId, state: &mut RoomState, id: ConnectionId) {
        let Some((entry, expected)) = state.remote.as_mut().and_then(|remote| remote.take_expected_of(id))
        else {
            return;
        };
        let name = &expected.entrant.name;
        state.room.cancel_reservation(name);
        let body = leave_body_in(state, name);
        match expected.replaces {
            // The host knows of the member, under another name.
            Some(_) => self.broker.leave(room, entry, expected.generation, body),
            None => self.broker.undo_enter(room, entry, expected.generation, body),
        }
    }

    /// Ends the stay of a member whose enter the host does not know of.
    pub(super) fn undo_enter(&self, room: &RoomId, state: &mut RoomState, id: ConnectionId) {
        self.cancel(room, state, id);
        let Some(EndedStay { entry, generation, member, .. }) = state.end_stay(id) else { return };
        self.broker.undo_enter(room, entry, generation, leave_body_in(state, &member.name));
    }

    /// Notes that a member has authenticated as this user, whose connections may share its name, unless the user has another
    /// name of its own.
    pub(super) fn set_owner(
        &self,
        room: &RoomId,
        state: &RoomState,
        id: ConnectionId,
        name: &Name,
        user: &User,
    ) {
        let entry = state.remote.as_ref().and_then(|remote| remote.entry_of(id));
        if let Some(entry) = entry.filter(|_| self.owns(user, name)) {
            self.broker.set_owner(room, entry, user.id());
        }
    }

    /// Whether the connections of this user may share a name, if names are unique.
    fn owns(&self, user: &User, name: &Name) -> bool {
        let Some(key) = name_key(self.unique_names, name) else { return false };
        user.name().is_none_or(|own| {
            // With an invalid name of its own, the user can't enter any room.
            let own = Name::parse(own, MaxLen::ANY);
            own.is_ok_and(|own| name_key(self.unique_names, &own) == Some(key))
        })
    }

    pub(super) fn send_transient(&self, room: &RoomId, event: &str, frame: &RoomFrame<'_>) {
        self.broker.send_transient(room, wire::encode_transient(event, frame));
    }

    /// Tells the other nodes the profile that a member of this node has now.
    pub(super) fn set_profile(&self, room: &RoomId, state: &RoomState, id: ConnectionId, name: &Name) {
        let Some(entry) = state.remote.as_ref().and_then(|remote| remote.entry_of(id)) else { return };
        let profile = state.room.profile(id).map(|profile| (**profile).clone()).unwrap_or_default();
        self.broker.set_profile(room, entry, name, &profile);
    }

    /// Whether an enter with `name` is refused because of an anonymous member that has the name `held`.
    pub(super) fn is_anonymous_holder(&self, held: &Name, user: Option<&User>, name: &Name) -> bool {
        let key = name_key(self.unique_names, name);
        key.is_some()
            && key == name_key(self.unique_names, held)
            && user.is_none_or(|user| !self.owns(user, held))
    }
}

impl Rooms {
    /// The broker, if one that several nodes share orders the events.
    pub(crate) fn broker(&self) -> Option<&Arc<dyn RemoteBroker>> {
        self.remote.as_ref().map(|remote| &remote.broker)
    }

    /// Whether a broker that several nodes share orders the events.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Submits the enter of a member. It is in the room when [`Entering::outcome`] is ready.
    pub(crate) fn submit_enter(
        self: &Arc<Rooms>,
        entrant: Entrant,
        id: &RoomId,
        frame: &RoomFrame<'_>,
        presence: Option<Presence>,
        if_moved: IfMoved,
    ) -> Result<Entering, Refused> {
        let Some(remote) = &self.remote else { return Err(Refused::Unavailable) };
        let submitted = self.registry.open(
            id,
            presence.unwrap_or(self.presence),
            || Stamp::start(Epoch(0)),
            |room, state| {
                // A connection that has been replaced may still be about to enter, or has not ended its stay yet.
                remote.leave(id, state, entrant.id);
                self.submit_in(remote, room, state, entrant, frame, if_moved)
            },
        )?;
        Ok(submitted?)
    }

    /// Submits the enter of a member that is in the room under another name. If it is refused, the member keeps that name.
    pub(crate) fn submit_rename(
        self: &Arc<Rooms>,
        entrant: Entrant,
        frame: &RoomFrame<'_>,
        room: &Arc<LiveRoom>,
        if_moved: IfMoved,
    ) -> Result<Entering, Refused> {
        let Some(remote) = &self.remote else { return Err(Refused::Unavailable) };
        let submitted = self.registry.visit(room, |room, state| {
            // A connection that has been replaced may still be about to enter.
            remote.cancel(room.id(), state, entrant.id);
            self.submit_in(remote, room, state, entrant, frame, if_moved)
        });
        Ok(submitted?)
    }

    fn submit_in(
        self: &Arc<Rooms>,
        remote: &Remote,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        entrant: Entrant,
        frame: &RoomFrame<'_>,
        IfMoved { is_read_only, session }: IfMoved,
    ) -> Result<Entering, EnterError> {
        // The broker limits the members of all nodes.
        self.reserve_in(state, &entrant, usize::MAX)?;
        let number = remote.next_entry.fetch_add(1, Ordering::Relaxed);
        let entry = EntryId { member: entrant.id, number };
        let replaces = state.remote.as_ref().and_then(|remote| remote.entry_of(entrant.id));
        let (name, handle, profile) = (entrant.name.clone(), entrant.handle.clone(), entrant.profile.clone());
        let (reply, outcome) = oneshot::channel();
        let generation = session.as_ref().map_or(0, |session| session.generation);
        if let Some(replica) = &mut state.remote {
            replica.expect(entry, Expected { entrant, reply, generation, replaces, replaced: None });
        }
        let is_silent = state.announcer.mode() != PresenceMode::Full;
        let unique = name_key(remote.unique_names, &name)
            .map(|key| UniqueName { key: key.into_owned(), owner: profile.user.clone() });
        let member = NewMember {
            entry,
            unique,
            replaces,
            is_silent,
            session,
            body: wire::encode_enter(&name, &profile, frame, MemberFlags { is_silent, is_read_only }),
            leave_body: leave_body(&name),
            name,
            profile,
        };
        let enter = remote.broker.enter(room.id(), member, self.max_members as u64);
        let (counters, progress) = (remote.counters.clone(), remote.progress.clone());
        let entered = async move {
            let entered = async {
                enter.await.map_err(|error| match error {
                    NotEntered::RoomFull => Refused::Room(EnterError::Full),
                    NotEntered::NameTaken { anonymous } => Refused::Room(EnterError::NameTaken { anonymous }),
                    NotEntered::Unavailable => Refused::Unavailable,
                })?;
                // Many events may arrive before that of this enter.
                let outcome = progress.wait(outcome).await.ok_or(Refused::Unavailable)?;
                outcome.map_err(|_| Refused::Room(EnterError::Closed))
            };
            let start = Instant::now();
            let entered = entered.await;
            counters.broker_enter.add(start.elapsed());
            entered
        };
        let stay = NewStay { entry, generation, is_rename: replaces.is_some() };
        Ok(Entering::new(self.clone(), room.clone(), stay, handle, Box::pin(entered)))
    }

    /// Submits a message of a member. A `key` is published once. The message may have to wait until the room can take it.
    pub(crate) fn submit(
        &self,
        room: &Arc<LiveRoom>,
        frame: &RoomFrame<'_>,
        key: Option<&str>,
        received: Option<Duration>,
    ) -> Result<BoxFuture<'static, Result<Submitted, Unavailable>>, NotPublished> {
        let Some(remote) = &self.remote else { return Err(NotPublished::Closed) };
        let mut state = room.lock();
        self.check_backpressure(room, &mut state, frame)?;
        let (body, pending) = (wire::encode_frame(frame), state.pending.len());
        let replica = state.remote.as_mut().ok_or(NotPublished::Closed)?;
        // Without an entry, it would be a frame of the host.
        let entry = frame.member.and_then(|member| replica.entry_of(member)).ok_or(NotPublished::Closed)?;
        let in_flight = replica.in_flight();
        if in_flight.bytes() > 0 && pending + in_flight.bytes() + body.len() > self.max_pending_bytes() {
            return Err(NotPublished::InFlight);
        }
        in_flight.add(entry, body.len(), received);
        drop(state);
        let mut sent = Sent { room: room.clone(), sender: entry, bytes: body.len(), will_arrive: false };
        let published = remote.publish(room.id(), Some(entry), key, body);
        let (counters, start) = (remote.counters.clone(), Instant::now());
        Ok(Box::pin(async move {
            let published = published.await;
            counters.broker_publish.add(start.elapsed());
            sent.on_answer(published);
            published
        }))
    }

    /// Sends a transient frame of the host to a room on any node.
    pub(crate) fn send_transient_for_host(&self, room: &RoomId, event: &str, frame: &RoomFrame<'_>) {
        if let Some(remote) = &self.remote {
            remote.send_transient(room, event, frame);
        }
    }

    /// Sends a message of the host to a room on any node, once for each `key`. The receiver gets nothing if the broker
    /// cannot be reached. With a store, `draft` says what is stored.
    pub(crate) fn submit_for_host(
        self: &Arc<Self>,
        room: &RoomId,
        key: Option<&str>,
        frame: &RoomFrame<'_>,
        draft: Option<(Keep, Draft)>,
        describe: impl FnOnce(Receipt) -> Message + Send + 'static,
    ) -> Result<oneshot::Receiver<Receipt>, NotPublished> {
        let (sent, receiver) = oneshot::channel();
        let Some(remote) = &self.remote else { return Ok(receiver) };
        // As publishers write it. Those of clients begin with a number.
        let key = key.map(|key| format!("key:{key}"));
        let published = match draft {
            Some((keep, draft)) => self.submit_to_store_for_host(room, keep, draft, key)?,
            None => remote.publish(room, None, key.as_deref(), wire::encode_frame(frame)),
        };
        let (rooms, room) = (self.clone(), room.clone());
        self.tasks.spawn_for_host(async move {
            match published.await {
                Ok(Submitted { position, id, is_repeat }) => {
                    let receipt = Receipt { position, id };
                    rooms.wait_for_arrival(&room, position).await;
                    // The host may not wait for it.
                    let _ = sent.send(receipt);
                    if !is_repeat {
                        rooms.call_unordered(&room, describe(receipt));
                    }
                }
                Err(Unavailable) => rooms.log_unpublished(&room),
            }
        });
        Ok(receiver)
    }

    /// Waits until a message has arrived at this node, so that the members get it before the effects of the host's next
    /// calls.
    async fn wait_for_arrival(&self, room: &RoomId, position: Position) {
        let Some(room) = self.registry.get(room.as_str()) else { return };
        let arrival = room.lock().arrival_of(position);
        drop(room);
        if let Some(arrival) = arrival {
            // The broker's answer may arrive before the event.
            let _ = timeout(PUBLISH_WAIT, arrival).await;
        }
    }

    fn log_unpublished(&self, room: &RoomId) {
        let health = self.remote.as_ref().map(|remote| remote.broker.health());
        if matches!(health, Some(Health::Degraded { .. })) {
            // The log has a line about the outage.
            tracing::debug!(%room, "a frame of the host was not published");
        } else {
            tracing::warn!(%room, "a frame of the host was not published, because the broker or the store cannot be reached");
        }
    }

    /// Ends the enters into a room that was closed.
    pub(super) fn cancel_enters(&self, room: &LiveRoom, state: &mut RoomState) {
        let (Some(remote), Some(replica)) = (&self.remote, &state.remote) else { return };
        for member in replica.expected() {
            remote.cancel(room.id(), state, member);
        }
    }

    /// Whether this is the current stay of a member of this node.
    pub(crate) fn has_entry(&self, room: &LiveRoom, entry: EntryId) -> bool {
        room.lock().remote.as_ref().is_some_and(|remote| remote.has(entry))
    }

    /// The members of a room on all nodes; `None` if the broker cannot be reached.
    pub(crate) async fn members_on_all_nodes(&self, room: &RoomId) -> Option<Vec<RemoteMember>> {
        self.remote.as_ref()?.broker.members(room).await
    }

    /// The history of a room up to this stamp; `None` if the broker cannot be reached.
    pub(crate) async fn log_on_all_nodes(&self, room: &RoomId, until: Stamp) -> Option<Vec<LoggedEvent>> {
        let remote = self.remote.as_ref()?;
        match remote.history {
            Some(history) => remote.broker.log(room, until, history).await,
            None => Some(Vec::new()),
        }
    }
}

impl Remote {
    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        key: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let published = self.broker.publish(room, entry, key, body);
        Box::pin(async { timeout(PUBLISH_WAIT, published).await.unwrap_or(Err(Unavailable)) })
    }
}

/// A frame that is on its way through the broker.
struct Sent {
    room: Arc<LiveRoom>,
    sender: EntryId,
    bytes: usize,
    /// Whether the broker has said so. Its event may have arrived before.
    will_arrive: bool,
}

impl Sent {
    fn on_answer(&mut self, answer: Result<Submitted, Unavailable>) {
        self.will_arrive = answer.is_ok_and(|submitted| !submitted.is_repeat);
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.will_arrive {
            return;
        }
        if let Some(replica) = &mut self.room.lock().remote {
            replica.in_flight().remove(self.sender, self.bytes);
        }
    }
}

/// The body of a leave, if leaves have a frame now.
fn leave_body_in(state: &RoomState, name: &Name) -> Option<Bytes> {
    (state.announcer.mode() == PresenceMode::Full).then(|| leave_body(name))
}

fn leave_body(name: &Name) -> Bytes {
    let out = outbound::out(name.as_str());
    let frame = RoomFrame { plain: "", v1: "".into(), has_room: false, tail: &out, member: None };
    wire::encode_frame(&frame)
}
