//! What the members of a session's rooms learn about it, and what it learns about them.

use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::{Handle, MembersOutcome, RosterPage};
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::RoomId;
use crate::protocol::frame;
use crate::protocol::presence::MembersFrame;
use crate::session::attachment::Attachment;
use crate::session::session::{Membership, Session, Superseded};
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

    /// Applies what the policy has answered when it was asked again about a member.
    pub(crate) fn renew(&self, room: &RoomId, access: &Access) -> Result<(), Superseded> {
        let state = self.session().state_of(self.generation())?;
        let Some(membership) = state.memberships.find(room.as_str()) else { return Ok(()) };
        membership.set_read_only(access.is_read_only());
        let info = access.info_text().or(state.user.as_deref().and_then(User::info)).cloned();
        let (room, name) = (&membership.room, &membership.name);
        self.sessions().rooms().grant_info(room, self.id(), name, info);
        Ok(())
    }
}

impl Sessions {
    /// Sets the info of a member for the host, a JSON text. Returns whether the session is in the room.
    pub(crate) fn set_info(&self, session: &Arc<Session>, room: &str, info: Option<Arc<str>>) -> bool {
        let state = session.state();
        let Some(membership) = state.memberships.find(room) else { return false };
        self.rooms().set_info(&membership.room, session.id(), &membership.name, info);
        true
    }
}

fn members_frame(membership: &Arc<Membership>, outcome: &MembersOutcome) -> Bytes {
    let roster = outcome.roster.as_ref().map_or("", RosterPage::text);
    let MembersOutcome { seq, num, users, mode, .. } = *outcome;
    let room = membership.room.id().as_str();
    let frame = MembersFrame { room, seq, mode, num, users, roster };
    frame::text(frame.encode().as_bytes())
}
