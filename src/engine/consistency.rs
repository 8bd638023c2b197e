//! The consistency check: compares what several parts of the engine know.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::delivery::LiveRoom;
use crate::engine::Engine;
use crate::ids::{ConnectionId, RoomId};
use crate::session::{Membership, Session};

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
    /// A member of a room whose session does not know that it is in the room.
    NoMembership {
        /// The session's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
    },
    /// A session that has a membership in a room, but is not in the room's list of members.
    NoMember {
        /// The session's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
    },
    /// A room whose count is not the number of its members that are not hidden.
    WrongCount {
        /// The room.
        room: RoomId,
        /// The count.
        online: usize,
        /// The members.
        members: usize,
    },
    /// A room whose number of users is not the number of different users among its members that are not hidden.
    WrongUserCount {
        /// The room.
        room: RoomId,
        /// The number of users.
        counted: usize,
        /// The different users of the members.
        users: usize,
    },
    /// A member whose user in the roster is not that of its session.
    WrongUser {
        /// The session's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
    },
    /// A member that is hidden in the room but not in its session, or the reverse.
    WrongVisibility {
        /// The session's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
    },
    /// A room that keeps profiles of members that have left.
    StaleProfiles {
        /// The room.
        room: RoomId,
    },
    /// A room that keeps a page of its roster that does not hold any more.
    StaleRoster {
        /// The room.
        room: RoomId,
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
    /// A session that is not in its user's list of sessions.
    NotOfItsUser {
        /// The session's connection.
        connection: ConnectionId,
    },
    /// A session that has ended but is still in its user's list of sessions.
    StaleSession {
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
    /// Compares members, counts, sessions, users and resume tokens with each other.
    pub(crate) fn check_consistency(&self) -> ConsistencyReport {
        let rooms = self.rooms.all();
        let mut faults = Vec::new();
        // Rooms are compared by address, because a closed room and its successor have the same id.
        let mut members_of: HashSet<(ConnectionId, *const LiveRoom)> = HashSet::new();
        let mut members = 0;
        for live in &rooms {
            let (online, list) = (live.online(), live.members());
            let room = live.id().clone();
            members += list.len();
            if live.is_unused() && !live.is_kept() {
                faults.push(Inconsistency::EmptyRoom { room: room.clone() });
            }
            let elsewhere = live.elsewhere();
            let is_hidden = |id| live.profile(id).is_some_and(|profile| profile.is_hidden);
            let here = list.iter().map(|member| member.id);
            let all: Vec<ConnectionId> = here.chain(elsewhere.iter().copied()).collect();
            let visible = all.iter().copied().filter(|id| !is_hidden(*id));
            let members = visible.clone().count();
            if online != members || live.hidden() != all.len() - members {
                faults.push(Inconsistency::WrongCount { room: room.clone(), online, members });
            }
            let profiles: Vec<_> = visible.filter_map(|id| live.profile(id)?.user.clone()).collect();
            let (counted, users) = (live.users(), profiles.iter().collect::<HashSet<_>>().len());
            if counted != users {
                faults.push(Inconsistency::WrongUserCount { room: room.clone(), counted, users });
            }
            if all.iter().filter(|id| live.profile(**id).is_some()).count() != live.profiles() {
                faults.push(Inconsistency::StaleProfiles { room: room.clone() });
            }
            if live.has_stale_page() {
                faults.push(Inconsistency::StaleRoster { room: room.clone() });
            }
            for member in list.iter() {
                let (connection, room) = (member.id, room.clone());
                members_of.insert((connection, Arc::as_ptr(live)));
                let Some(session) = self.sessions.table().get(connection) else {
                    faults.push(Inconsistency::NoSession { connection, room });
                    continue;
                };
                let memberships = session.memberships();
                let Some(membership) = memberships.iter().find(|m| Arc::ptr_eq(&m.room, live)) else {
                    faults.push(Inconsistency::NoMembership { connection, room });
                    continue;
                };
                if membership.is_hidden != is_hidden(connection) {
                    faults.push(Inconsistency::WrongVisibility { connection, room: room.clone() });
                }
                let (user, profile) = (session.user(), live.profile(connection));
                if user.as_ref().map(|user| user.id()) != profile.as_ref().and_then(|p| p.user.as_deref()) {
                    faults.push(Inconsistency::WrongUser { connection, room });
                }
            }
        }
        let users = self.sessions.users();
        for session in self.sessions.table().all() {
            let is_same = |other: &Arc<Session>| Arc::ptr_eq(other, &session);
            if session.online_user().is_some_and(|user| !users.sessions_of(user.id()).iter().any(is_same)) {
                faults.push(Inconsistency::NotOfItsUser { connection: session.id() });
            }
            for Membership { room, .. } in session.memberships().iter().map(|membership| &**membership) {
                if !members_of.contains(&(session.id(), Arc::as_ptr(room))) {
                    let room = room.id().clone();
                    faults.push(Inconsistency::NoMember { connection: session.id(), room });
                }
            }
        }
        for session in self.sessions.table().with_tokens() {
            if !self.sessions.table().holds(&session) {
                faults.push(Inconsistency::StaleToken { connection: session.id() });
            }
        }
        for session in users.all() {
            if !self.sessions.table().holds(&session) {
                faults.push(Inconsistency::StaleSession { connection: session.id() });
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
        ConsistencyReport { sessions: self.sessions.table().len(), rooms: rooms.len(), members, faults }
    }
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inconsistency::NoSession { connection, room } => {
                write!(f, "connection {connection} has no session and is still in room {room:?}")
            }
            Inconsistency::NoMembership { connection, room } => {
                write!(
                    f,
                    "connection {connection} is a member of room {room:?}, but its session has no such membership"
                )
            }
            Inconsistency::NoMember { connection, room } => {
                write!(f, "the session of connection {connection} is not a member of its room {room:?}")
            }
            Inconsistency::WrongCount { room, online, members } => {
                write!(f, "room {room:?} counts {online} members and has {members}")
            }
            Inconsistency::WrongUserCount { room, counted, users } => {
                write!(f, "room {room:?} counts {counted} users and has {users}")
            }
            Inconsistency::WrongUser { connection, room } => {
                write!(f, "connection {connection} has a different user in the roster of room {room:?}")
            }
            Inconsistency::WrongVisibility { connection, room } => {
                write!(
                    f,
                    "connection {connection} is hidden in room {room:?} or in its session, but not both"
                )
            }
            Inconsistency::StaleProfiles { room } => {
                write!(f, "room {room:?} keeps profiles of members that have left")
            }
            Inconsistency::StaleRoster { room } => {
                write!(f, "room {room:?} keeps a page of its roster that does not hold any more")
            }
            Inconsistency::EmptyRoom { room } => write!(f, "room {room:?} is empty and was not removed"),
            Inconsistency::WrongPeerCount { counted, connections } => {
                write!(f, "the peer addresses have {counted} connections, and there are {connections}")
            }
            Inconsistency::StaleToken { connection } => {
                write!(f, "connection {connection} has no session, and a resume token for it is kept")
            }
            Inconsistency::NotOfItsUser { connection } => {
                write!(f, "the session of connection {connection} is not in its user's list of sessions")
            }
            Inconsistency::StaleSession { connection } => {
                write!(
                    f,
                    "the session of connection {connection} has ended, but is still in its user's list of sessions"
                )
            }
            Inconsistency::WrongRoomCount { rooms, counted } => {
                write!(f, "there are {rooms} rooms, and {counted} are counted")
            }
        }
    }
}
