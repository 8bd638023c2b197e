//! Rooms whose events a broker orders that several nodes share.
//!
//! Members of this node submit their events to the broker. Only when an event comes back is it applied, in its place in
//! the room's order, by [`Rooms::apply`]. Two things do not wait for that: a member that leaves gets no further frames,
//! and this node knows its members' new profiles. Until the leave comes back, the member counts as one of another node:
//! it may be one, because another node has taken its session over.

mod apply;
mod entering;
mod moving;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Entrant, Rooms};
use crate::broker::wire::{self, MemberFlags};
use crate::broker::{
    BoxFuture, EntryId, MemberSession, NewMember, NotEntered, RemoteBroker, RemoteMember, Stamp, Submitted,
    Unavailable,
};
use crate::config::{Presence, PresenceMode};
use crate::delivery::live_room::LiveRoom;
use crate::delivery::refusal::{NotPublished, Refused};
use crate::delivery::remote_room::Expected;
use crate::delivery::room_state::RoomState;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::position::Epoch;
use crate::room::EnterError;
use crate::sync::atomic::{AtomicU64, Ordering};
pub(crate) use apply::Applied;
pub(crate) use entering::Entering;
pub(crate) use moving::MovedHere;

/// How long an enter waits for the broker.
const ENTER_WAIT: Duration = Duration::from_secs(5);

/// How long a frame waits for the broker.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Remote {
    broker: Arc<dyn RemoteBroker>,
    next_entry: AtomicU64,
}

impl Remote {
    pub(super) fn new(broker: Arc<dyn RemoteBroker>) -> Remote {
        // A member that moves to another node enters rooms there, too.
        let next_entry = AtomicU64::new(u64::from(broker.node()) << 32);
        Remote { broker, next_entry }
    }

    /// Ends the stay of a member of this node, whether it is in the room or about to enter. Returns how many members
    /// remain, as far as this node knows.
    pub(super) fn leave(&self, room: &RoomId, state: &mut RoomState, id: ConnectionId) -> u64 {
        let Some(remote) = &mut state.remote else { return 0 };
        let (entry, generation, name, is_in) = match (remote.take_expected_of(id), remote.remove(id)) {
            (Some((entry, expected)), _) => {
                state.room.cancel_reservation(&expected.entrant.name);
                (entry, expected.generation, expected.entrant.name, false)
            }
            (None, Some((entry, generation))) => match state.move_elsewhere(entry) {
                Some(member) => (entry, generation, member.name.clone(), true),
                None => return state.num(),
            },
            (None, None) => return state.num(),
        };
        let is_silent = state.announcer.mode() != PresenceMode::Full;
        self.broker.leave(room, entry, generation, (!is_silent).then(|| leave_body(&name)));
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
        is_read_only: bool,
        session: Option<MemberSession>,
    ) -> Result<Entering, Refused> {
        let Some(remote) = &self.remote else { return Err(Refused::Unavailable) };
        let number = remote.next_entry.fetch_add(1, Ordering::Relaxed);
        let entry = EntryId { member: entrant.id, number };
        let (name, handle, profile) = (entrant.name.clone(), entrant.handle.clone(), entrant.profile.clone());
        let (reply, outcome) = oneshot::channel();
        let generation = session.as_ref().map_or(0, |session| session.generation);
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
                    remote.expect(entry, Expected { entrant, reply, generation });
                }
                Ok::<_, EnterError>((room.clone(), state.announcer.mode() != PresenceMode::Full))
            },
        )??;
        let member = NewMember {
            entry,
            name: name.clone(),
            is_silent,
            session,
            body: wire::encode_enter(&name, &profile, frame, MemberFlags { is_silent, is_read_only }),
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
        Ok(Entering::new(self.clone(), room, (entry, generation), handle, Box::pin(entered)))
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

fn leave_body(name: &Name) -> Bytes {
    let out = outbound::out(name.as_str());
    let frame = RoomFrame { plain: "", v1: "".into(), has_room: false, tail: &out, member: None };
    wire::encode_frame(&frame)
}
