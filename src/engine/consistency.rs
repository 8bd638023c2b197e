//! The books compared with each other.

use std::collections::HashMap;
use std::fmt;

use crate::engine::engine::Engine;
use crate::ids::{ConnectionId, RoomId};

/// What [`ChatRooms::audit`](crate::ChatRooms::audit) has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Connections in the table.
    pub connections: usize,
    /// Rooms in the registry.
    pub rooms: usize,
    /// Members of all rooms.
    pub members: usize,
    /// What does not agree.
    pub findings: Vec<Finding>,
}

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A member whose connection is gone.
    Orphan {
        /// The connection.
        connection: ConnectionId,
        /// The room it is still in.
        room: RoomId,
    },
    /// A connection that is in two rooms.
    Twice {
        /// The connection.
        connection: ConnectionId,
        /// One of the rooms.
        room: RoomId,
    },
    /// A room whose count is not the number of its members.
    Miscounted {
        /// The room.
        room: RoomId,
        /// The count.
        online: usize,
        /// The members.
        members: usize,
    },
    /// A room in which nobody is.
    Empty {
        /// The room.
        room: RoomId,
    },
    /// The connections of all peer addresses are not as many as there are.
    PeersMiscounted {
        /// The connections of all peer addresses.
        counted: usize,
        /// The connections.
        connections: usize,
    },
    /// A secret is kept by which nothing can be come back to.
    Secret {
        /// The connection that it was for.
        connection: ConnectionId,
    },
    /// The number of rooms is not the one that the limit is compared with.
    RoomsMiscounted {
        /// The rooms.
        rooms: usize,
        /// The number.
        counted: usize,
    },
}

impl Engine {
    pub(crate) fn audit(&self) -> Audit {
        let rooms = self.rooms();
        let mut findings = Vec::new();
        let mut places: HashMap<ConnectionId, RoomId> = HashMap::new();
        let mut members = 0;
        for room in &rooms {
            let (online, list) = {
                let state = room.lock();
                (room.online(), state.members().clone())
            };
            let room = room.id().clone();
            members += list.len();
            if list.is_empty() {
                findings.push(Finding::Empty { room: room.clone() });
            }
            if online != list.len() {
                findings.push(Finding::Miscounted { room: room.clone(), online, members: list.len() });
            }
            for member in list.iter() {
                if self.table.get(member.id).is_none() {
                    findings.push(Finding::Orphan { connection: member.id, room: room.clone() });
                }
                if places.insert(member.id, room.clone()).is_some() {
                    findings.push(Finding::Twice { connection: member.id, room: room.clone() });
                }
            }
        }
        for connection in self.tickets.ids() {
            if self.table.get(connection).is_none() {
                findings.push(Finding::Secret { connection });
            }
        }
        let counted = self.stats().rooms;
        if counted != rooms.len() {
            findings.push(Finding::RoomsMiscounted { rooms: rooms.len(), counted });
        }
        let ((counted, _), connections) = (self.peers.totals(), self.stats().connections);
        if counted > connections {
            findings.push(Finding::PeersMiscounted { counted, connections });
        }
        Audit { connections: self.table.all().len(), rooms: rooms.len(), members, findings }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Orphan { connection, room } => {
                write!(f, "connection {connection} is gone and still in room {room:?}")
            }
            Finding::Twice { connection, room } => {
                write!(f, "connection {connection} is in another room than {room:?}, too")
            }
            Finding::Miscounted { room, online, members } => {
                write!(f, "room {room:?} counts {online} members and has {members}")
            }
            Finding::Empty { room } => write!(f, "room {room:?} is empty and was not removed"),
            Finding::PeersMiscounted { counted, connections } => {
                write!(f, "the peer addresses have {counted} connections, and there are {connections}")
            }
            Finding::Secret { connection } => {
                write!(f, "connection {connection} is gone, and a secret for its seat is kept")
            }
            Finding::RoomsMiscounted { rooms, counted } => {
                write!(f, "there are {rooms} rooms, and {counted} are counted")
            }
        }
    }
}
