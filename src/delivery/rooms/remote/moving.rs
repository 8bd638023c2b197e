//! Members whose sessions move from one node to another. The other members do not notice.

use std::sync::Arc;

use super::{Rooms, leave_body};
use crate::broker::wire;
use crate::broker::{RemoteMember, Stamp, TakenMember};
use crate::config::Presence;
use crate::delivery::live_room::{Handle, LiveRoom};
use crate::delivery::registry::TooManyRooms;
use crate::delivery::room_state::RoomState;
use crate::ids::ConnectionId;
use crate::protocol::position::{Epoch, Position};
use crate::room::{Entrant, Profile};

/// A member that is on this node from now on.
pub(crate) struct MovedHere {
    pub(crate) room: Arc<LiveRoom>,
    /// Whether the caller must call [`Rooms::follow`].
    pub(crate) must_follow: bool,
    /// The room's position before the member's enter.
    pub(crate) start: Position,
    pub(crate) is_read_only: bool,
    pub(crate) is_hidden: bool,
}

impl Rooms {
    /// Makes a member of another node one of this node. If it opens the room here, `presence` is what members learn about
    /// each other.
    pub(crate) fn move_here(
        &self,
        taken: &TakenMember,
        generation: u64,
        handle: &Handle,
        presence: Option<Presence>,
    ) -> Result<MovedHere, TooManyRooms> {
        let TakenMember { room: id, member, body, entered, stamp } = taken;
        // A body that this node cannot read says nothing.
        let (profile, flags) = wire::decode_entered(body).unwrap_or_default();
        let presence = presence.unwrap_or(self.presence);
        let start = || Stamp::start(Epoch(0));
        let (room, must_follow) = self.registry.open(id, presence, start, |room, state| {
            let before = state.counts();
            state.move_here(member, generation, handle, profile.info);
            state.note_counts(before);
            // Otherwise the events up to there would have come before. The client may have got them elsewhere.
            (room.clone(), !state.has_reached(*stamp))
        })?;
        self.start_tasks(&room);
        let is_hidden = member.profile.is_hidden;
        let has_frame = !flags.is_silent && !is_hidden;
        let seq = entered.seq.saturating_sub(u64::from(has_frame));
        let start = Position { epoch: entered.epoch, seq };
        Ok(MovedHere { room, must_follow, start, is_read_only: flags.is_read_only, is_hidden })
    }

    /// A member of this node is on another one from now on.
    pub(crate) fn move_elsewhere(&self, room: &Arc<LiveRoom>, id: ConnectionId, handle: &Handle) {
        self.registry.visit(room, |_, state| {
            // Its new node may have told its profile before this one knew that it is there.
            let told = state.remote.as_mut().and_then(|remote| remote.take_profile(id));
            let ended = state.end_stay(id);
            if let (Some(profile), Some(ended)) = (told, ended) {
                state.replace_profile(id, &ended.member.name, profile);
            }
        });
        handle.unsubscribe(room);
    }

    /// Ends the stay of a member that was taken over, but cannot be one of this node.
    pub(crate) fn remove_taken(&self, taken: &TakenMember, generation: u64) {
        let Some(remote) = &self.remote else { return };
        let RemoteMember { entry, name, .. } = &taken.member;
        remote.broker.leave(&taken.room, *entry, generation, Some(leave_body(name)));
    }
}

impl RoomState {
    /// `granted` is the info that the host's hooks gave the member when it entered.
    fn move_here(
        &mut self,
        member: &RemoteMember,
        generation: u64,
        handle: &Handle,
        granted: Option<Arc<str>>,
    ) {
        let RemoteMember { entry, name, profile, .. } = member.clone();
        let id = entry.member;
        let Some(remote) = &mut self.remote else { return };
        // The session may have been on this node before, and may have been about to enter.
        if let Some((_, expected)) = remote.take_expected_of(id) {
            self.room.cancel_reservation(&expected.entrant.name);
        }
        self.end_stay(id);
        if let Some(remote) = &mut self.remote {
            remote.add(entry, generation);
        }
        self.pending.add_listener(handle.subprotocol());
        let profile = Profile { granted, ..profile };
        let is_known = self.room.elsewhere(id).is_some_and(|known| known.entry == entry.number);
        if is_known && self.room.move_here(id, handle.clone()) {
            // An event of the old node may have yet to arrive.
            self.change_profile(id, &name, |known| *known = profile);
            return;
        }
        // The event of its enter has not arrived yet. It moves the member to its place.
        self.forget_elsewhere(id, None);
        let place = self.room.add(Entrant { id, name, handle: handle.clone(), profile });
        self.first_page.note_change(place);
    }
}
