//! Rooms whose events a broker orders that several nodes share.
//!
//! Members of this node submit their events to the broker. Only when an event comes back is it applied, in its place in
//! the room's order, by [`Rooms::apply`]. Two things do not wait for that: a member that leaves gets no further frames,
//! and this node knows its members' new profiles.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Entrant, Rooms};
use crate::broker::wire::{self, Unreadable};
use crate::broker::{
    BoxFuture, EntryId, EventKind, NewMember, NotEntered, Ordered, RemoteBroker, RemoteMember, RoomEvent,
    Stamp, Submitted, Unavailable,
};
use crate::config::{Presence, PresenceMode};
use crate::delivery::enter_outcome::EnterOutcome;
use crate::delivery::flush::guarded;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::refusal::{NotPublished, Refused};
use crate::delivery::remote_room::{Distance, Expected};
use crate::delivery::room_state::RoomState;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::position::Epoch;
use crate::room::{EnterError, MemberElsewhere};
use crate::sync::atomic::{AtomicU64, Ordering};

/// How long an enter waits for the broker.
const ENTER_WAIT: Duration = Duration::from_secs(5);

/// How long a frame waits for the broker.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Remote {
    broker: Arc<dyn RemoteBroker>,
    next_entry: AtomicU64,
}

/// What has become of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    /// Events before it are missing, or this is the first one: the caller must call [`Rooms::follow`] and apply it then.
    Beyond,
    /// This node cannot read it: the caller must call [`Rooms::follow`].
    Unreadable,
}

/// A member that is about to enter. If it is dropped before [`Entering::finish`], the member leaves.
pub(crate) struct Entering {
    rooms: Arc<Rooms>,
    room: Arc<LiveRoom>,
    entry: EntryId,
    handle: super::Handle,
    entered: Option<BoxFuture<'static, Result<EnterOutcome, Refused>>>,
    is_finished: bool,
}

impl Remote {
    pub(super) fn new(broker: Arc<dyn RemoteBroker>) -> Remote {
        Remote { broker, next_entry: AtomicU64::new(0) }
    }

    /// Ends the stay of a member of this node, whether it is in the room or about to enter. Returns how many members
    /// remain, as far as this node knows.
    pub(super) fn leave(&self, room: &RoomId, state: &mut RoomState, id: ConnectionId) -> u64 {
        let Some(remote) = &mut state.remote else { return 0 };
        let (entry, name, is_in) = match (remote.take_expected_of(id), remote.remove(id)) {
            (Some((entry, expected)), _) => {
                state.room.cancel_reservation(&expected.entrant.name);
                (entry, expected.entrant.name, false)
            }
            (None, Some(entry)) => match state.remove(id) {
                Some(departed) => (entry, departed.member.name.clone(), true),
                None => return state.num(),
            },
            (None, None) => return state.num(),
        };
        let is_silent = state.announcer.mode() != PresenceMode::Full;
        self.broker.leave(room, entry, (!is_silent).then(|| leave_body(&name)));
        if is_in { state.num().saturating_sub(1) } else { state.num() }
    }

    pub(super) fn send_transient(&self, room: &RoomId, event: &str, frame: &RoomFrame<'_>) {
        self.broker.send_transient(room, wire::encode_transient(event, frame));
    }

    /// Tells the other nodes the profile that a member of this node has now.
    pub(super) fn set_profile(&self, room: &RoomId, state: &RoomState, id: ConnectionId, name: &Name) {
        let Some(entry) = state.remote.as_ref().and_then(|remote| remote.entry_of(id)) else { return };
        let profile = state.room.profile(id).map(|profile| (**profile).clone()).unwrap_or_default();
        self.broker.set_profile(room, entry, name, &profile, wire::encode_profile(name, &profile));
    }
}

impl Rooms {
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
    ) -> Result<Entering, Refused> {
        let Some(remote) = &self.remote else { return Err(Refused::Unavailable) };
        let number = remote.next_entry.fetch_add(1, Ordering::Relaxed);
        let entry = EntryId { member: entrant.id, number };
        let (name, handle, profile) = (entrant.name.clone(), entrant.handle.clone(), entrant.profile.clone());
        let (reply, outcome) = oneshot::channel();
        let (room, is_silent) = self.registry.open(
            id,
            presence.unwrap_or(self.presence),
            || Stamp::start(Epoch(0)),
            |room, state| {
                // A connection that has been replaced may still be about to enter, or has not ended its stay yet.
                remote.leave(id, state, entrant.id);
                // The broker limits the members of all nodes.
                self.reserve_in(state, &entrant, usize::MAX)?;
                if let Some(remote) = &mut state.remote {
                    remote.expect(entry, Expected { entrant, reply });
                }
                Ok::<_, EnterError>((room.clone(), state.announcer.mode() != PresenceMode::Full))
            },
        )??;
        let member = NewMember {
            entry,
            name: name.clone(),
            is_silent,
            body: wire::encode_enter(&name, &profile, frame),
            leave_body: leave_body(&name),
            profile,
        };
        let enter = remote.broker.enter(id, member, self.max_members as u64);
        let entered = async {
            let entered = async {
                enter.await.map_err(|error| match error {
                    NotEntered::RoomFull => Refused::Room(EnterError::Full),
                    NotEntered::Unavailable => Refused::Unavailable,
                })?;
                outcome.await.map_err(|_| Refused::Room(EnterError::Closed))
            };
            timeout(ENTER_WAIT, entered).await.unwrap_or(Err(Refused::Unavailable))
        };
        let (rooms, entered) = (self.clone(), Some(Box::pin(entered) as BoxFuture<'static, _>));
        Ok(Entering { rooms, room, entry, handle, entered, is_finished: false })
    }

    /// Submits a frame of a member. An `id` is published once. The frame may have to wait until the room can take it.
    pub(crate) fn submit(
        &self,
        room: &LiveRoom,
        frame: &RoomFrame<'_>,
        id: Option<&str>,
    ) -> Result<BoxFuture<'static, Result<Submitted, Unavailable>>, NotPublished> {
        let Some(remote) = &self.remote else { return Err(NotPublished::Closed) };
        let mut state = room.lock();
        self.check_backpressure(room, &mut state, frame)?;
        let entry = frame.member.and_then(|member| state.remote.as_ref()?.entry_of(member));
        drop(state);
        // Without an entry, it would be a frame of the host.
        let entry = entry.ok_or(NotPublished::Closed)?;
        Ok(remote.publish(room.id(), Some(entry), id, frame))
    }

    /// Sends a frame of the host to a room on any node. `event` is that of a transient frame.
    pub(crate) fn submit_for_host(&self, room: &RoomId, event: Option<&str>, frame: &RoomFrame<'_>) {
        let Some(remote) = &self.remote else { return };
        if let Some(event) = event {
            return remote.send_transient(room, event, frame);
        }
        let (published, room) = (remote.publish(room, None, None, frame), room.clone());
        self.tasks.spawn_for_host(async move {
            if published.await.is_err() {
                tracing::warn!(%room, "a frame of the host was not published, because the broker cannot be reached");
            }
        });
    }

    /// Ends the enters into a room that was closed.
    pub(super) fn cancel_enters(&self, room: &LiveRoom, state: &mut RoomState) {
        let (Some(remote), Some(replica)) = (&self.remote, &state.remote) else { return };
        for member in replica.expected() {
            remote.leave(room.id(), state, member);
        }
    }

    /// Applies the next event of a room.
    pub(crate) fn apply(&self, event: &RoomEvent) -> Applied {
        let Some(room) = self.registry.get(event.room.as_str()) else { return Applied::Done };
        let applied = self.registry.visit(&room, |room, state| {
            match state.distance_of(event.stamp) {
                Distance::Next => {}
                Distance::Before => return Applied::Done,
                Distance::Beyond => return Applied::Beyond,
            }
            let before = state.counts();
            if self.apply_in(room, state, event).is_err() {
                tracing::error!(room = %event.room, "an event of another node cannot be read; upgrade this node");
                return Applied::Unreadable;
            }
            state.note_counts(before);
            Applied::Done
        });
        self.start_tasks(&room);
        applied
    }

    fn apply_in(
        &self,
        room: &Arc<LiveRoom>,
        state: &mut RoomState,
        event: &RoomEvent,
    ) -> Result<(), Unreadable> {
        let kind = event.kind;
        let order = Ordered { kind, stamp: event.stamp };
        let member = event.entry.map(|entry| entry.member);
        match (kind, event.entry) {
            (EventKind::Enter | EventKind::SilentEnter, Some(entry)) => {
                let (name, profile, frame) = wire::decode_enter(&event.body)?;
                let frame = RoomFrame { member, ..frame };
                let Some(replica) = &mut state.remote else { return Ok(()) };
                let EntryId { member: id, number } = entry;
                if let Some(Expected { entrant, reply }) = replica.take_expected(entry) {
                    replica.add(entry);
                    state.forget_elsewhere(id, None);
                    // If nobody receives it, the member is about to leave.
                    let _ = reply.send(self.enter_in(&order, room, state, entrant, &frame));
                    return Ok(());
                }
                if replica.has(entry) {
                    // The broker had lost it, and this node has entered it again.
                    state.room.move_to_end(&[id]);
                    state.first_page.clear();
                } else if replica.entry_of(id).is_none() {
                    state.forget_elsewhere(id, None);
                    let place =
                        state.room.enter_elsewhere(MemberElsewhere { id, name, entry: number }, profile);
                    state.first_page.note_change(place);
                }
                state.follow(&order, &frame);
            }
            (EventKind::Leave, Some(entry)) => {
                let frame = wire::decode_frame(&event.body)?;
                state.forget_elsewhere(entry.member, Some(entry.number));
                state.follow(&order, &RoomFrame { member, ..frame });
            }
            (EventKind::SilentLeave, Some(entry)) => {
                state.forget_elsewhere(entry.member, Some(entry.number));
                state.submit_silent(&order, kind);
            }
            (EventKind::Publish, _) => {
                let frame = wire::decode_frame(&event.body)?;
                if let Some(member) = member {
                    state.drop_transients(member);
                }
                state.follow(&order, &RoomFrame { member, ..frame });
            }
            (EventKind::Profile, Some(entry)) => {
                let (name, new) = wire::decode_profile(&event.body)?;
                state.submit_silent(&order, kind);
                let EntryId { member: id, number } = entry;
                if state.room.elsewhere(id).is_some_and(|member| member.entry == number) {
                    state.change_profile(id, &name, |profile| *profile = new);
                }
            }
            (_, None) => return Err(Unreadable),
        }
        Ok(())
    }

    /// Applies a transient frame.
    pub(crate) fn apply_transient(&self, room: &RoomId, body: &[u8]) {
        let Some(room) = self.registry.get(room.as_str()) else { return };
        let Ok(transient) = wire::decode_transient(body) else { return };
        let mut state = room.lock();
        // It may get lost.
        let _ = state.push_transient(room.id().as_str(), transient.event, &transient.frame);
        self.start_flush(&room, state, false);
    }

    /// Follows a room's order after this event. `members` are those that the room has then or had later. If events are
    /// missing, members of this node are disconnected, so that their clients come back and learn of it.
    pub(crate) fn follow(&self, room: &Arc<LiveRoom>, stamp: Stamp, members: &[RemoteMember]) {
        let missed = self.registry.visit(room, |_, state| state.follow_from(stamp, members));
        for handle in missed {
            guarded(&*handle, |member| member.fail());
        }
    }

    /// The members of a room on all nodes; `None` if the broker cannot be reached.
    pub(crate) async fn members_on_all_nodes(&self, room: &RoomId) -> Option<Vec<RemoteMember>> {
        self.remote.as_ref()?.broker.members(room).await
    }
}

impl Remote {
    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        id: Option<&str>,
        frame: &RoomFrame<'_>,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let published = self.broker.publish(room, entry, id, wire::encode_frame(frame));
        Box::pin(async { timeout(PUBLISH_WAIT, published).await.unwrap_or(Err(Unavailable)) })
    }
}

impl RoomState {
    /// Applies an event with a frame.
    fn follow(&mut self, order: &Ordered, frame: &RoomFrame<'_>) {
        match order.kind.is_silent() {
            true => self.submit_silent(order, order.kind),
            false => drop(self.submit(order, order.kind, frame)),
        }
    }

    /// A member of another node has left: whatever its stay is, or only if it is this one.
    fn forget_elsewhere(&mut self, id: ConnectionId, number: Option<u64>) {
        if let Some(place) = self.room.leave_elsewhere(id, number) {
            self.first_page.note_change(place);
            self.drop_transients(id);
            self.announcer.forget(id);
        }
    }
}

impl Entering {
    /// Waits until the member is in the room.
    pub(crate) async fn outcome(&mut self) -> Result<EnterOutcome, Refused> {
        match self.entered.take() {
            Some(entered) => entered.await,
            None => Err(Refused::Unavailable),
        }
    }

    /// The member stays in the room.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let rooms = &self.rooms;
        let Some(remote) = &rooms.remote else { return };
        rooms.registry.visit(&self.room, |room, state| {
            // Another connection may have resumed the session, and have entered the room with it.
            let is_current = state.remote.as_ref().is_some_and(|remote| remote.has_or_expects(self.entry));
            if is_current {
                let before = state.counts();
                remote.leave(room.id(), state, self.entry.member);
                state.note_counts(before);
                self.handle.unsubscribe(room);
            }
        });
        rooms.start_tasks(&self.room);
    }
}

fn leave_body(name: &Name) -> Bytes {
    let out = outbound::out(name.as_str());
    let frame = RoomFrame { plain: "", v1: "".into(), has_room: false, tail: &out, member: None };
    wire::encode_frame(&frame)
}
