//! What members learn about each other: pages of the roster, and changes of profiles.

use std::sync::Arc;

use super::Rooms;
use crate::config::PresenceMode;
use crate::delivery::enter_outcome::MembersOutcome;
use crate::delivery::live_room::{Handle, LiveRoom};
use crate::delivery::room_state::RoomState;
use crate::delivery::roster::RosterPage;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, MaxLen, Name};
use crate::protocol::subprotocol::Subprotocol;
use crate::room::Profile;

/// A JSON text that is passed on unchanged.
type Json = Option<Arc<str>>;

impl Rooms {
    /// Returns the members after this place; 0 is the beginning. The member that asks gets no further frames until the
    /// answer is written.
    pub(crate) fn members(&self, room: &Arc<LiveRoom>, handle: &Handle, after: u64) -> MembersOutcome {
        let mut state = room.lock();
        // A later page does not contain changes of members on earlier pages.
        let is_subscribed = if after == 0 { handle.subscribe(room, state.seq()) } else { handle.pause(room) };
        MembersOutcome {
            seq: state.seq(),
            num: state.num(),
            users: state.room.users(),
            mode: state.announcer.mode(),
            roster: roster_for(&mut state, handle, after),
            before: if is_subscribed { state.pending.undelivered() } else { Vec::new() },
        }
    }

    /// Notes that a member has authenticated as this user. The user's connections may share its name from now on, unless
    /// the user has another name of its own.
    pub(crate) fn set_user(&self, room: &Arc<LiveRoom>, id: ConnectionId, name: &Name, user: &User) {
        let mut state = room.lock();
        // With an invalid name of its own, the user can't enter any room.
        let own_name = user.name().map(|own| Name::parse(own, MaxLen::ANY));
        if !matches!(own_name, Some(Err(_))) {
            let own_name = own_name.and_then(Result::ok);
            state.room.set_owner(name, id, user.id(), own_name.as_ref());
        }
        if let Some(remote) = &self.remote {
            remote.set_owner(room.id(), &state, id, name, user);
        }
        let user = user.id();
        self.change_profile(room, &mut state, id, name, |profile| {
            if profile.user.as_deref() != Some(user) {
                profile.user = Some(user.into());
            }
        });
        room.update_counts(&state);
        self.start_tasks_in(room, state, false);
    }

    /// Sets the info that the hooks give a member. If it is the same as before, an info that the host has set since
    /// stays.
    pub(crate) fn grant_info(&self, room: &Arc<LiveRoom>, id: ConnectionId, name: &Name, info: Json) {
        let mut state = room.lock();
        self.change_profile(room, &mut state, id, name, |profile| {
            if profile.granted != info {
                profile.granted.clone_from(&info);
                profile.info = info;
            }
        });
        self.start_tasks_in(room, state, false);
    }

    /// Sets a member's info for the host.
    pub(crate) fn set_info(&self, room: &Arc<LiveRoom>, id: ConnectionId, name: &Name, info: Json) {
        let mut state = room.lock();
        self.change_profile(room, &mut state, id, name, |profile| profile.info = info);
        self.start_tasks_in(room, state, true);
    }

    /// Sets the state of a member.
    pub(crate) fn set_state(&self, room: &Arc<LiveRoom>, id: ConnectionId, name: &Name, new: Json) {
        let mut state = room.lock();
        self.change_profile(room, &mut state, id, name, |profile| profile.state = new);
        self.start_tasks_in(room, state, false);
    }

    /// Changes the profile of a member of this node. Presence frames have no place in the room's order, so the change need
    /// not come back from a broker.
    pub(super) fn change_profile(
        &self,
        room: &LiveRoom,
        state: &mut RoomState,
        id: ConnectionId,
        name: &Name,
        change: impl FnOnce(&mut Profile),
    ) {
        let Some(remote) = &self.remote else {
            state.change_profile(id, name, change);
            return;
        };
        let before = state.room.profile(id).map(|profile| (**profile).clone()).unwrap_or_default();
        if state.change_profile(id, name, change) {
            state.keep_told_profile(id, before);
            remote.set_profile(room.id(), state, id, name);
        }
    }
}

/// The first members after this place, for a member that gets them: a client of `chat-rooms.v1` in full mode.
pub(super) fn roster_for(state: &mut RoomState, handle: &Handle, after: u64) -> Option<RosterPage> {
    let has_roster = state.announcer.mode() == PresenceMode::Full && handle.subprotocol() == Subprotocol::V1;
    has_roster.then(|| match after {
        0 => state.first_page(),
        _ => state.page_after(after),
    })
}
