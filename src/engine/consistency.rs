//! The consistency check: compares what several parts of the engine know.

use std::collections::HashMap;
use std::fmt;

use crate::engine::Engine;
use crate::ids::{ConnectionId, RoomId};

/// What [`ChatRooms::check_consistency`](crate::ChatRooms::check_consistency) has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsistencyReport {
    /// Sessions, with and without a connection.
    pub sessions: usize,
    /// Rooms.
    pub rooms: usize,
    /// Members of all rooms.
    pub members: usize,
    /// All inconsistencies that were found.
    pub faults: Vec<Inconsistency>,
}

/// Two parts of the engine do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inconsistency {
    /// A member without a session.
    NoSession {
        /// The session's connection.
        connection: ConnectionId,
        /// The room that it is still in.
        room: RoomId,
    },
    /// A session that is in two rooms.
    TwoRooms {
        /// The session's connection.
        connection: ConnectionId,
        /// One of the rooms.
        room: RoomId,
    },
    /// A room whose count is not the number of its members.
    WrongCount {
        /// The room.
        room: RoomId,
        /// The count.
        online: usize,
        /// The members.
        members: usize,
    },
    /// A room without members that was not removed.
    EmptyRoom {
        /// The room.
        room: RoomId,
    },
    /// The connections counted for all peer addresses are more than there are.
    WrongPeerCount {
        /// The connections of all peer addresses.
        counted: usize,
        /// The connections that exist.
        connections: usize,
    },
    /// A resume token whose session has ended.
    StaleToken {
        /// The session's connection.
        connection: ConnectionId,
    },
    /// The number of rooms is not the one that the limit is compared with.
    WrongRoomCount {
        /// The rooms.
        rooms: usize,
        /// The number that the limit is compared with.
        counted: usize,
    },
}

impl Engine {
    /// Compares members, counts, sessions and resume tokens with each other.
    pub(crate) fn check_consistency(&self) -> ConsistencyReport {
        let rooms = self.rooms.all();
        let mut faults = Vec::new();
        let mut memberships: HashMap<ConnectionId, RoomId> = HashMap::new();
        let mut members = 0;
        for room in &rooms {
            let (online, list) = (room.online(), room.members());
            let room = room.id().clone();
            members += list.len();
            if list.is_empty() {
                faults.push(Inconsistency::EmptyRoom { room: room.clone() });
            }
            if online != list.len() {
                faults.push(Inconsistency::WrongCount { room: room.clone(), online, members: list.len() });
            }
            for member in list.iter() {
                if self.sessions.table().get(member.id).is_none() {
                    faults.push(Inconsistency::NoSession { connection: member.id, room: room.clone() });
                }
                if memberships.insert(member.id, room.clone()).is_some() {
                    faults.push(Inconsistency::TwoRooms { connection: member.id, room: room.clone() });
                }
            }
        }
        for session in self.sessions.table().with_tokens() {
            if !self.sessions.table().holds(&session) {
                faults.push(Inconsistency::StaleToken { connection: session.id() });
            }
        }
        let counted = self.rooms.len();
        if counted != rooms.len() {
            faults.push(Inconsistency::WrongRoomCount { rooms: rooms.len(), counted });
        }
        let (counted, connections) = (self.admission.peer_connections(), self.admission.connections());
        if counted > connections {
            faults.push(Inconsistency::WrongPeerCount { counted, connections });
        }
        ConsistencyReport { sessions: self.sessions.table().all().len(), rooms: rooms.len(), members, faults }
    }
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inconsistency::NoSession { connection, room } => {
                write!(f, "connection {connection} has no session and is still in room {room:?}")
            }
            Inconsistency::TwoRooms { connection, room } => {
                write!(f, "connection {connection} is in room {room:?} and in another one")
            }
            Inconsistency::WrongCount { room, online, members } => {
                write!(f, "room {room:?} counts {online} members and has {members}")
            }
            Inconsistency::EmptyRoom { room } => write!(f, "room {room:?} is empty and was not removed"),
            Inconsistency::WrongPeerCount { counted, connections } => {
                write!(f, "the peer addresses have {counted} connections, and there are {connections}")
            }
            Inconsistency::StaleToken { connection } => {
                write!(f, "connection {connection} has no session, and a resume token for it is kept")
            }
            Inconsistency::WrongRoomCount { rooms, counted } => {
                write!(f, "there are {rooms} rooms, and {counted} are counted")
            }
        }
    }
}
