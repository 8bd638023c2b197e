//! What a session and the members of its rooms learn about each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::{Handle, MembersOutcome, Recipient};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::RoomId;
use crate::protocol::presence::{MembersFrame, ProfileText, RosterText};
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::room::{Page, Profile};
use crate::session::attachment::Attachment;
use crate::session::session::{Membership, Session, State, Superseded};
use crate::session::sessions::Sessions;
use crate::socket::Answer;

impl Attachment {
    /// Sends the client a part of a room's roster: the members after this place. Returns whether the client is in `room`
    /// or, if `room` is `None`, in exactly one room.
    pub(crate) fn send_members(&self, room: Option<&str>, after: u64) -> Result<bool, Superseded> {
        let session = self.session();
        // Held until the answer is written, so that the notice of a removal from the room follows it.
        let state = session.state_of(self.generation())?;
        let Some(membership) = state.memberships.active(room) else { return Ok(false) };
        let handle: Handle = session.clone();
        let outcome = self.sessions().rooms().members(&membership.room, &handle, after);
        let frame = members_frame(membership, &outcome);
        let MembersOutcome { seq, before, .. } = outcome;
        let answer =
            Answer { before, frame: Some(frame), replay: None, start: seq, is_new: false, slow: None };
        let _ = session.with_socket_of(self.generation(), |socket| {
            socket.answer_enter(&membership.room, answer);
        });
        Ok(true)
    }

    /// Sets the member's state, a JSON text. Returns whether the client is in `room` or, if `room` is `None`, in exactly
    /// one room.
    pub(crate) fn set_state(&self, room: Option<&str>, new: Option<&str>) -> Result<bool, Superseded> {
        let state = self.session().state_of(self.generation())?;
        let Some(membership) = state.memberships.active(room) else { return Ok(false) };
        let (room, id, name) = (&membership.room, self.id(), &membership.name);
        self.sessions().rooms().set_state(room, id, name, new.map(Into::into));
        Ok(true)
    }

    /// Applies the access that the policy has returned when it was asked again about a member.
    pub(crate) fn renew(&self, room: &RoomId, access: &Access) -> Result<(), Superseded> {
        let session = self.session();
        let state = session.state_of(self.generation())?;
        self.sessions().grant(session, &state, room.as_str(), access);
        Ok(())
    }
}

impl Sessions {
    /// Sets what a member may do for the host. Returns whether the session is in the room.
    pub(crate) fn set_access(&self, session: &Session, room: &str, access: &Access) -> bool {
        self.grant(session, &session.state(), room, access)
    }

    /// Gives a member this access. Returns whether the session is in the room.
    fn grant(&self, session: &Session, state: &State, room: &str, access: &Access) -> bool {
        let Some(membership) = state.memberships.find(room) else { return false };
        let has_changed = membership.set_read_only(access.is_read_only());
        // A client that has yet to enter the room again learns it from the answer.
        let is_told = session.subprotocol() == Subprotocol::V1 && !state.memberships.is_inactive(room);
        if has_changed && is_told {
            let text = outbound::read_only(room, session.id(), access.is_read_only());
            session.send(Some(membership.room.key()), &frame::text(text.as_bytes()));
        }
        let info = access.info_text().or(state.user.as_deref().and_then(User::info)).cloned();
        self.rooms().grant_info(&membership.room, session.id(), &membership.name, info);
        true
    }

    /// Sets the info of a member for the host, a JSON text. Returns whether the session is in the room.
    pub(crate) fn set_info(&self, session: &Arc<Session>, room: &str, info: Option<Arc<str>>) -> bool {
        let state = session.state();
        let Some(membership) = state.memberships.find(room) else { return false };
        self.rooms().set_info(&membership.room, session.id(), &membership.name, info);
        true
    }
}

/// A page of the roster as JSON.
pub(super) fn roster_text(page: &Page) -> String {
    let mut roster = RosterText::new();
    let is_complete = page.entries.iter().all(|entry| {
        let profile = entry.profile.as_deref().map_or(ProfileText::default(), profile_text);
        roster.push(entry.place, entry.id, entry.name.as_str(), profile)
    });
    roster.finish(page.has_more || !is_complete)
}

pub(super) fn profile_text(profile: &Profile) -> ProfileText<'_> {
    ProfileText {
        user: profile.user.as_deref(),
        info: profile.info.as_deref(),
        state: profile.state.as_deref(),
    }
}

fn members_frame(membership: &Arc<Membership>, outcome: &MembersOutcome) -> Bytes {
    let roster = outcome.roster.as_ref().map_or(String::new(), roster_text);
    let MembersOutcome { seq, num, users, mode, .. } = *outcome;
    let room = membership.room.id().as_str();
    let frame = MembersFrame { room, seq, mode, num, users, roster: &roster };
    frame::text(frame.encode().as_bytes())
}
