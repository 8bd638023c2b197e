//! Applies the events of rooms that several nodes share.

use std::sync::Arc;
use std::time::SystemTime;

use super::Rooms;
use crate::broker::wire::{self, Unreadable};
use crate::broker::{EntryId, EventKind, LoggedEvent, Ordered, RemoteMember, RoomEvent, Stamp};
use crate::delivery::flush::guarded;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::remote_room::{Distance, Entered, Expected};
use crate::delivery::room_state::RoomState;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::outbound::RoomFrame;
use crate::room::{MemberElsewhere, Profile};

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
        if let Some(remote) = &self.remote {
            remote.progress.note();
        }
        let Some(room) = self.registry.get(event.room.as_str()) else { return Applied::Done };
        let applied = self.registry.visit(&room, |room, state| {
            match state.distance_of(event.stamp) {
                Distance::Next => {}
                Distance::Before => return Applied::Done,
                Distance::Beyond => return Applied::Beyond,
            }
            let before = state.counts_before();
            if self.apply_in(room, state, event).is_err() {
                tracing::error!(room = %event.room, "an event of another node cannot be read; upgrade this node");
                return Applied::Unreadable;
            }
            if let EventKind::Enter | EventKind::SilentEnter | EventKind::Leave | EventKind::SilentLeave =
                event.kind
            {
                state.announcer.note_entered_or_left(!event.kind.is_silent());
            }
            match event.is_replaced {
                true => state.keep_counts_before(before),
                false => state.note_counts(before),
            }
            state.note_arrivals();
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
            (EventKind::Enter | EventKind::SilentEnter | EventKind::HiddenEnter, Some(entry)) => {
                let (name, profile, frame) = wire::decode_enter(&event.body)?;
                let profile = Profile { is_hidden: kind == EventKind::HiddenEnter, ..profile };
                let frame = RoomFrame { member, ..frame };
                let Some(replica) = &mut state.remote else { return Ok(()) };
                let EntryId { member: id, number } = entry;
                if let Some(Expected { entrant, reply, generation, replaced, .. }) =
                    replica.take_expected(entry)
                {
                    replica.add(entry, generation);
                    state.forget_elsewhere(id, None);
                    // If nobody receives it, the member is about to leave.
                    let outcome = self.enter_in(&order, room, state, entrant, &frame);
                    let _ = reply.send(Entered::new(outcome, replaced));
                    return Ok(());
                }
                if replica.has(entry) {
                    replica.set_lost(entry, false);
                    // The broker had lost it, and this node has entered it again.
                    state.room.move_to_end(id);
                    state.first_page.clear();
                    state.follow(&order, None, &frame);
                    state.restore_profile(id, &name, profile);
                    return Ok(());
                }
                // Its current stay may be newer, if its session has moved to this node.
                if replica.has_lost(id) {
                    state.end_stay(id);
                }
                if state.remote.as_ref().is_some_and(|remote| remote.entry_of(id).is_none()) {
                    state.forget_elsewhere(id, None);
                    let place =
                        state.room.enter_elsewhere(MemberElsewhere { id, name, entry: number }, profile);
                    state.first_page.note_change(place);
                }
                state.follow(&order, None, &frame);
            }
            (EventKind::Leave, Some(entry)) => {
                let frame = wire::decode_frame(&event.body)?;
                state.forget(entry, event);
                state.follow(&order, None, &RoomFrame { member, ..frame });
            }
            (EventKind::SilentLeave | EventKind::HiddenLeave, Some(entry)) => {
                state.forget(entry, event);
                state.submit_silent(&order, kind);
            }
            (EventKind::Publish, _) => {
                let frame = wire::decode_frame(&event.body)?;
                if let Some(member) = member {
                    state.drop_transients(member);
                }
                if let (Some(replica), Some(sender)) = (&mut state.remote, event.entry) {
                    let received = replica.in_flight().remove(sender, event.body.len());
                    state.pending.note_received(received);
                }
                if let Some(id) = event.id {
                    self.note_lag(id);
                    state.raise_last_id(id);
                }
                state.follow(&order, event.id, &RoomFrame { member, ..frame });
            }
            (EventKind::Profile, Some(entry)) => {
                let (name, new) = wire::decode_profile(&event.body)?;
                state.submit_silent(&order, kind);
                let EntryId { member: id, number } = entry;
                if state.room.elsewhere(id).is_some_and(|member| member.entry == number) {
                    state.replace_profile(id, &name, new);
                } else if let Some(replica) = &mut state.remote {
                    replica.note_profile(entry, new);
                }
            }
            (_, None) => return Err(Unreadable),
        }
        Ok(())
    }

    /// Notes how old a message is that has just arrived.
    fn note_lag(&self, id: MessageId) {
        if let Some(remote) = &self.remote {
            let age = SystemTime::now().duration_since(id.time()).unwrap_or_default();
            remote.counters.broker_lag.add(age);
        }
    }

    /// Applies a transient frame.
    pub(crate) fn apply_transient(&self, room: &RoomId, body: &[u8]) {
        let Some(room) = self.registry.get(room.as_str()) else { return };
        let Ok(transient) = wire::decode_transient(body) else { return };
        let mut state = room.lock();
        // Nothing keeps it from coming after its sender's leave.
        if transient.frame.member.is_some_and(|member| !state.has_member(member)) {
            return;
        }
        // It may get lost.
        let _ = state.push_transient(room.id().as_str(), transient.event, &transient.frame);
        self.start_flush(&room, state, false);
    }

    /// Follows a room's order after this event. `members` are those that the room has then or had later, `log` is its
    /// history. If events are missing, members of this node are disconnected, so that their clients come back and learn of
    /// it.
    pub(crate) fn follow(
        &self,
        room: &Arc<LiveRoom>,
        stamp: Stamp,
        members: &[RemoteMember],
        log: &[LoggedEvent],
    ) {
        let now = self.now();
        let missed = self.registry.visit(room, |_, state| {
            let missed = state.follow_from(stamp, members);
            state.fill_history(now, log);
            state.note_arrivals();
            missed
        });
        for handle in missed {
            guarded(&*handle, |member| member.send_away());
        }
    }
}

impl RoomState {
    /// Applies an event with a frame. A message has an `id`.
    fn follow(&mut self, order: &Ordered, id: Option<MessageId>, frame: &RoomFrame<'_>) {
        match order.kind.is_silent() {
            true => self.submit_silent(order, order.kind),
            false => drop(self.submit_message(order, order.kind, id, frame)),
        }
    }

    /// A member has left with this event.
    fn forget(&mut self, entry: EntryId, event: &RoomEvent) {
        self.forget_elsewhere(entry.member, Some(entry.number));
        if event.is_replaced {
            self.replace(entry, event.stamp.num);
        }
        // If it is still one of this node, the node enters it again, or it is about to leave.
        if let Some(remote) = &mut self.remote {
            remote.set_lost(entry, true);
            self.first_page.clear();
        }
    }

    /// Members have just heard of an enter of a member of this node with this profile, which is the one that the member had
    /// at first. Tells them its current one. Other nodes learn of that from the broker.
    fn restore_profile(&mut self, id: ConnectionId, name: &Name, first: Profile) {
        let Some(current) = self.room.profile(id).map(|current| (**current).clone()) else { return };
        let first = Profile { granted: current.granted.clone(), is_hidden: current.is_hidden, ..first };
        self.change_profile(id, name, |profile| *profile = first);
        self.change_profile(id, name, |profile| *profile = current);
    }

    /// A member of another node has this profile from now on.
    pub(super) fn replace_profile(&mut self, id: ConnectionId, name: &Name, new: Profile) {
        self.change_profile(id, name, |profile| {
            *profile = Profile { is_hidden: profile.is_hidden, ..new };
        });
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
