//! What the host does with connections and rooms. If several nodes share a broker, the others do the same.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;

use crate::broker::EntryId;
use crate::broker::wire::{self, Command};
use crate::delivery::Recipient;
use crate::engine::Engine;
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::DirectFrame;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::host_frame::HostFrame;
use crate::protocol::outbound::{self, About};
use crate::protocol::subprotocol::Subprotocol;
use crate::session::{Session, removal};

/// A broadcast yields to other tasks after this many sessions.
const SESSIONS_PER_TURN: usize = 64;

impl Engine {
    /// Tells the other nodes, if there are any, what the host has called here. The caller does it here.
    pub(crate) fn tell_others(&self, command: &Command<'_>) {
        if let Some(applier) = self.applier() {
            applier.tell_others(command);
        }
    }

    /// Whether this is a connection of another node.
    pub(crate) fn is_elsewhere(&self, connection: ConnectionId) -> bool {
        self.applier().is_some_and(|applier| applier.node() != connection.node())
    }

    /// Does what the host has called on another node.
    pub(super) async fn obey(&self, body: &[u8]) {
        match wire::decode_command(body) {
            Ok((node, _)) if self.applier().is_some_and(|applier| applier.node() == node) => {}
            Ok((_, Command::Kick(id))) => drop(self.kick(id)),
            Ok((_, Command::KickUser(user))) => drop(self.kick_user(user)),
            Ok((_, Command::CloseRoom(room))) => drop(self.close_room(room)),
            Ok((_, Command::Broadcast { object })) => drop(self.broadcast(&HostFrame::new(object)).await),
            Ok((_, Command::SendTo { connection, object })) => {
                self.send_to(connection, &HostFrame::new(object));
            }
            Ok((_, Command::SendToUser { user, object })) => {
                self.sessions.send_direct(user, &Arc::new(DirectFrame::of_host(object)));
            }
            Ok((_, Command::RemoveAnonymous { holder, room, name })) => {
                if let Ok(name) = Name::parse(name, MaxLen::ANY) {
                    self.remove_anonymous_here(holder, room, &name);
                }
            }
            Err(wire::Unreadable) => {
                tracing::error!("a call of another node cannot be read; upgrade this node");
            }
        }
    }

    /// Removes an anonymous member from a room, because the user whose own name it has enters: here, or on the node that
    /// has it.
    pub(crate) fn remove_anonymous(&self, holder: ConnectionId, room: &RoomId, name: &Name) {
        if !self.remove_anonymous_here(holder, room.as_str(), name) {
            let (room, name) = (room.as_str(), name.as_str());
            self.tell_others(&Command::RemoveAnonymous { holder, room, name });
        }
    }

    /// Returns whether the member is one of this node.
    fn remove_anonymous_here(&self, holder: ConnectionId, room: &str, name: &Name) -> bool {
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

    /// Closes a room. Returns how many members it had, as far as this node knows.
    pub(crate) fn close_room(&self, id: &str) -> usize {
        let Some(room) = self.rooms.close(id) else { return 0 };
        let members = room.online() + room.hidden();
        for member in room.members().iter() {
            if let Some(session) = self.sessions.table().get(member.id) {
                removal::remove_from_closed(&self.sessions, &session, &room);
            }
        }
        members
    }

    /// Sends a frame to a connection. Returns whether it is open.
    pub(crate) fn send_to(&self, connection: ConnectionId, frame: &HostFrame) -> bool {
        let session = self.sessions.table().get(connection);
        session.is_some_and(|session| session.send(None, frame.of(session.subprotocol())))
    }

    /// Sends a frame to all connections. Returns how many are open.
    pub(crate) async fn broadcast(&self, frame: &HostFrame) -> usize {
        let mut reached = 0;
        for (n, session) in self.sessions.table().all().iter().enumerate() {
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
