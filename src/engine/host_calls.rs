//! What the host does with connections and rooms. If several nodes share a broker, the others do the same.

use std::sync::Arc;

use tokio::task::yield_now;

use crate::broker::wire::{self, Command};
use crate::delivery::Recipient;
use crate::engine::Engine;
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::DirectFrame;
use crate::protocol::host_frame::HostFrame;
use crate::session::removal;

/// A broadcast yields to other tasks after this many sessions.
const SESSIONS_PER_TURN: usize = 64;

impl Engine {
    /// Tells the other nodes, if there are any, what the host has called here. The caller does it here.
    pub(crate) fn tell_others(&self, command: &Command<'_>) {
        if let Some(applier) = self.applier() {
            applier.tell_others(command);
        }
    }

    /// Whether this may be a connection of another node. A session keeps its id when it moves to another node.
    pub(crate) fn is_elsewhere(&self, connection: ConnectionId) -> bool {
        self.applier().is_some() && self.sessions.table().get(connection).is_none()
    }

    /// Whether this connection began on another node.
    pub(crate) fn is_of_other_node(&self, connection: ConnectionId) -> bool {
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
            Err(wire::Unreadable) => {
                tracing::error!("a call of another node cannot be read; upgrade this node");
            }
        }
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
