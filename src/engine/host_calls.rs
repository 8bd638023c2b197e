//! What the host does with the connections and rooms of this node.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;

use crate::broker::EntryId;
use crate::broker::commands::Command;
use crate::delivery::Recipient;
use crate::engine::Engine;
use crate::hooks::policy::Access;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::host_frame::HostFrame;
use crate::protocol::outbound::{self, About};
use crate::protocol::subprotocol::Subprotocol;
use crate::session::{Session, removal};

/// A broadcast yields to other tasks after this many sessions.
const SESSIONS_PER_TURN: usize = 64;

/// A room that was closed.
#[derive(Debug, Default)]
pub(crate) struct ClosedRoom {
    /// The members that it had, as far as this node knows.
    pub(crate) members: usize,
    /// Those that were removed on this node.
    pub(crate) removed: usize,
}

/// What has become of a change of a member. The numbers are what nodes answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberChange {
    NoSuchConnection = 0,
    Done = 1,
    /// The connection is there, but not in the room.
    NoSuchRoom = 2,
}

impl MemberChange {
    fn of_member(is_member: bool) -> MemberChange {
        if is_member { MemberChange::Done } else { MemberChange::NoSuchRoom }
    }

    /// Reads the answer of another node.
    pub(crate) fn of_answer(number: u64) -> MemberChange {
        match number {
            0 => MemberChange::NoSuchConnection,
            1 => MemberChange::Done,
            _ => MemberChange::NoSuchRoom,
        }
    }
}

impl Engine {
    /// Tells the other nodes, if there are any, what the host has called here. The caller does it here.
    pub(crate) fn tell_others(&self, command: Command<'_>) {
        if let Some(nodes) = self.nodes() {
            nodes.tell_others(command);
        }
    }

    /// Removes an anonymous member from a room, because the user whose own name it has enters: here, or on the node that
    /// has it.
    pub(crate) fn remove_anonymous(&self, holder: ConnectionId, room: &RoomId, name: &Name) {
        if !self.remove_anonymous_here(holder, room.as_str(), name) {
            let (room, name) = (room.as_str(), name.as_str());
            self.tell_others(Command::RemoveAnonymous { holder, room, name });
        }
    }

    /// Returns whether the member is one of this node.
    pub(super) fn remove_anonymous_here(&self, holder: ConnectionId, room: &str, name: &Name) -> bool {
        let Some(session) = self.sessions.table().get(holder) else { return false };
        self.context.counters.errors.add(1);
        let text = "the user with this name has entered the room; choose another name";
        removal::remove_anonymous(&self.sessions, &session, room, name, &name_taken(&session, room, text));
        true
    }

    /// Removes a member from a room, because another one has got its name while the broker could not be reached.
    pub(super) fn evict(&self, room: &RoomId, entry: EntryId) {
        let Some(session) = self.sessions.table().get(entry.member) else { return };
        let text = "another member has this name now; choose another";
        removal::remove_evicted(
            &self.sessions,
            &session,
            room,
            entry,
            &name_taken(&session, room.as_str(), text),
        );
    }

    /// Ends a connection or a session that is kept. Returns whether there was one of the two.
    pub(crate) fn kick(&self, connection: ConnectionId) -> bool {
        let session = self.sessions.table().get(connection);
        session.is_some_and(|session| self.sessions.close(&session, LeaveReason::Kicked))
    }

    /// Ends all sessions of a user. Returns how many there were.
    pub(crate) fn kick_user(&self, user: &str) -> usize {
        let sessions = self.sessions.users().sessions_of(user);
        sessions.iter().filter(|session| self.sessions.close(session, LeaveReason::Kicked)).count()
    }

    /// Closes a room.
    pub(crate) fn close_room(&self, id: &str) -> ClosedRoom {
        let Some(room) = self.rooms.close(id) else { return ClosedRoom::default() };
        let members = room.online() + room.hidden();
        let here = room.members();
        for member in here.iter() {
            if let Some(session) = self.sessions.table().get(member.id) {
                removal::remove_from_closed(&self.sessions, &session, &room);
            }
        }
        ClosedRoom { members, removed: here.len() }
    }

    /// Gives a member a new access.
    pub(crate) fn set_access(&self, room: &str, connection: ConnectionId, access: &Access) -> MemberChange {
        let Some(session) = self.sessions.table().get(connection) else {
            return MemberChange::NoSuchConnection;
        };
        MemberChange::of_member(self.sessions.set_access(&session, room, access))
    }

    /// Sets a member's info, a JSON text.
    pub(crate) fn set_info(
        &self,
        room: &str,
        connection: ConnectionId,
        info: Option<Arc<str>>,
    ) -> MemberChange {
        let Some(session) = self.sessions.table().get(connection) else {
            return MemberChange::NoSuchConnection;
        };
        MemberChange::of_member(self.sessions.set_info(&session, room, info))
    }

    /// The rooms in which a user has sessions, each once.
    pub(crate) fn rooms_of(&self, user: &str) -> HashSet<RoomId> {
        let sessions = self.sessions.users().sessions_of(user);
        let memberships = sessions.iter().flat_map(|session| session.memberships());
        memberships.map(|membership| membership.room.id().clone()).collect()
    }

    /// Sends a frame to a connection. Returns whether it is open.
    pub(crate) fn send_to(&self, connection: ConnectionId, frame: &HostFrame) -> bool {
        let session = self.sessions.table().get(connection);
        session.is_some_and(|session| session.send(None, frame.of(session.subprotocol())))
    }

    /// Sends a frame to all connections. Returns how many are open.
    pub(crate) async fn broadcast(&self, frame: &HostFrame) -> usize {
        let mut reached = 0;
        for (n, session) in self.sessions.table().all().enumerate() {
            if n > 0 && n % SESSIONS_PER_TURN == 0 {
                yield_now().await;
            }
            reached += usize::from(session.send(None, frame.of(session.subprotocol())));
        }
        reached
    }
}

/// What a member gets that is removed because of its name.
fn name_taken(session: &Session, room: &str, text: &str) -> Bytes {
    let code = ErrorCode::NameTaken.as_str();
    let frame = match session.subprotocol() {
        Subprotocol::Plain => outbound::error(code, text, About::Nothing, None),
        Subprotocol::V1 => outbound::left(room, Some((code, text))),
    };
    frame::text(frame.as_bytes())
}
