//! The sessions of users.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::order::{Shared, SharedRoom};
use crate::broker::{LostMember, RemoteEvent, RemoteMember, RemoteSession};
use crate::ids::ConnectionId;

/// The sessions of each user.
#[derive(Default)]
pub(super) struct Users(HashMap<Box<str>, BTreeMap<ConnectionId, Registration>>);

/// Where a session of a user is.
#[derive(Clone, Copy)]
pub(super) struct Registration {
    pub(super) node: u32,
    /// For how long it is kept without its node.
    pub(super) window: Duration,
}

impl Users {
    /// Returns whether it is the first session of the user. One that another node has resumed stays there.
    pub(super) fn begin(&mut self, user: &str, session: ConnectionId, registration: Registration) -> bool {
        let sessions = self.0.entry(user.into()).or_default();
        let is_first = sessions.is_empty();
        sessions.entry(session).or_insert(registration);
        is_first
    }

    /// Returns whether it was the last session of the user. One that another node has resumed stays.
    pub(super) fn end(&mut self, user: &str, session: ConnectionId, node: u32) -> bool {
        let Some(sessions) = self.0.get_mut(user) else { return false };
        if sessions.get(&session).is_none_or(|registration| registration.node != node) {
            return false;
        }
        sessions.remove(&session);
        let is_last = sessions.is_empty();
        if is_last {
            self.0.remove(user);
        }
        is_last
    }

    /// A node has taken over a session. The user does not go offline meanwhile.
    pub(super) fn take_over(&mut self, user: &str, session: ConnectionId, node: u32) {
        let sessions = self.0.get_mut(user);
        if let Some(registration) = sessions.and_then(|sessions| sessions.get_mut(&session)) {
            registration.node = node;
        }
    }

    /// Removes sessions. Returns the users that have none any more.
    fn remove(&mut self, which: impl Fn(&Registration) -> bool) -> Vec<Box<str>> {
        let mut offline = Vec::new();
        self.0.retain(|user, sessions| {
            sessions.retain(|_, registration| !which(registration));
            if sessions.is_empty() {
                offline.push(user.clone());
            }
            !sessions.is_empty()
        });
        offline
    }

    /// The nodes of all sessions.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.0.values().flat_map(|sessions| sessions.values()).map(|registration| registration.node)
    }

    /// The users that have sessions on this node only.
    fn only_on(&self, node: u32) -> Vec<Box<str>> {
        let is_only = |sessions: &BTreeMap<ConnectionId, Registration>| {
            sessions.values().all(|registration| registration.node == node)
        };
        self.0.iter().filter(|(_, sessions)| is_only(sessions)).map(|(user, _)| user.clone()).collect()
    }
}

impl Shared {
    pub(super) fn user_sessions(&self, user: &str) -> Vec<RemoteSession> {
        let sessions = self.users.0.get(user).into_iter().flatten();
        sessions
            .map(|(session, Registration { node, .. })| RemoteSession {
                session: *session,
                node: *node,
                is_live: self.nodes.contains_key(node),
            })
            .collect()
    }

    /// Ends sessions of users of a node that is gone, and tells the first of the other nodes who is offline.
    pub(super) fn remove_users(&mut self, node: u32, which: impl Fn(&Registration) -> bool) {
        let mut offline = self.users.remove(|registration| registration.node == node && which(registration));
        offline.sort();
        for user in offline {
            self.tell_first_but(node, RemoteEvent::UserOffline { user });
        }
    }

    /// Tells the first of the other nodes which members and users would be lost with a node, and tells that node that they have
    /// come back.
    pub(super) fn suspect(&mut self, node: u32) {
        let mut lost = Vec::new();
        for (room, SharedRoom { members, latest, .. }) in &self.rooms {
            let of_node = members.iter().filter(|shared| shared.node == node);
            for RemoteMember { entry, name, profile, .. } in of_node.map(|shared| &shared.member) {
                let (room, connection, name) = (room.clone(), entry.member, name.clone());
                let (user, is_hidden, num) = (profile.user.clone(), profile.is_hidden, latest.num);
                lost.push(LostMember { room, connection, name, user, is_hidden, num });
            }
        }
        let users = self.users.only_on(node);
        let again: Vec<_> = lost.iter().map(|lost| (lost.room.clone(), lost.connection)).collect();
        for lost in lost {
            self.tell_first_but(node, RemoteEvent::MemberLost(lost));
        }
        for user in users.clone() {
            self.tell_first_but(node, RemoteEvent::UserOffline { user });
        }
        let Some(hearer) = self.nodes.get_mut(&node) else { return };
        for user in users {
            hearer.push(RemoteEvent::UserOnline { user });
        }
        for (room, connection) in again {
            hearer.push(RemoteEvent::EnteredAgain { room, connection });
        }
    }

    /// Tells the node that removes what others have left.
    pub(super) fn tell_first_but(&mut self, node: u32, event: RemoteEvent) {
        let first = self.nodes.keys().filter(|other| **other != node).min().copied();
        if let Some(hearer) = first.and_then(|first| self.nodes.get_mut(&first)) {
            hearer.push(event);
        }
    }
}
