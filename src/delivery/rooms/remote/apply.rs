//! Applies the events of rooms that several nodes share.

use std::sync::Arc;

use super::Rooms;
use crate::broker::wire::{self, Unreadable};
use crate::broker::{EntryId, EventKind, Ordered, RemoteMember, RoomEvent, Stamp};
use crate::delivery::flush::guarded;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::remote_room::{Distance, Expected};
use crate::delivery::room_state::RoomState;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::outbound::RoomFrame;
use crate::room::MemberElsewhere;

/// What has become of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    /// Events before it are missing, or this is the first one: the caller must call [`Rooms::follow`] and apply it then.
    Beyond,
    /// This node cannot read it: the caller must call [`Rooms::follow`].
    Unreadable,
}

impl Rooms {
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
                if let Some(Expected { entrant, reply, generation }) = replica.take_expected(entry) {
                    replica.add(entry, generation);
                    state.forget_elsewhere(id, None);
                    // If nobody receives it, the member is about to leave.
                    let _ = reply.send(self.enter_in(&order, room, state, entrant, &frame));
                    return Ok(());
                }
                if replica.has(entry) {
                    // The broker had lost it, and this node has entered it again.
                    state.room.move_to_end(id);
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
    pub(super) fn forget_elsewhere(&mut self, id: ConnectionId, number: Option<u64>) {
        if let Some(place) = self.room.leave_elsewhere(id, number) {
            self.first_page.note_change(place);
            self.drop_transients(id);
            self.announcer.forget(id);
        }
    }
}
