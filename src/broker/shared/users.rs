//! The sessions of users.

use std::collections::{BTreeMap, HashMap};

use super::order::{Shared, SharedRoom};
use crate::broker::{LostMember, RemoteEvent, RemoteMember, RemoteSession};
use crate::ids::ConnectionId;

/// The sessions of each user, with their nodes.
#[derive(Default)]
pub(super) struct Users(HashMap<Box<str>, BTreeMap<ConnectionId, u32>>);

impl Users {
    /// Returns whether it is the first session of the user. One that another node has resumed is moved to that node.
    pub(super) fn begin(&mut self, user: &str, session: ConnectionId, node: u32) -> bool {
        let sessions = self.0.entry(user.into()).or_default();
        let is_first = sessions.is_empty();
        sessions.insert(session, node);
        is_first
    }

    /// Returns whether it was the last session of the user. One that another node has resumed stays.
    pub(super) fn end(&mut self, user: &str, session: ConnectionId, node: u32) -> bool {
        let Some(sessions) = self.0.get_mut(user) else { return false };
        if sessions.get(&session) != Some(&node) {
            return false;
        }
        sessions.remove(&session);
        let is_last = sessions.is_empty();
        if is_last {
            self.0.remove(user);
        }
        is_last
    }

    /// The users that have sessions on this node only.
    fn only_on(&self, node: u32) -> Vec<Box<str>> {
        let is_only = |sessions: &BTreeMap<ConnectionId, u32>| sessions.values().all(|of| *of == node);
        self.0.iter().filter(|(_, sessions)| is_only(sessions)).map(|(user, _)| user.clone()).collect()
    }

    pub(super) fn sessions(&self, user: &str) -> Vec<RemoteSession> {
        let sessions = self.0.get(user).into_iter().flatten();
        sessions
            .map(|(session, node)| RemoteSession { session: *session, node: *node, is_live: true })
            .collect()
    }
}

impl Shared {
    /// Ends the sessions of a node that is gone, and tells the first of the other nodes who is offline.
    pub(super) fn remove_users(&mut self, node: u32) {
        for user in self.users.only_on(node) {
            self.tell_first_but(node, RemoteEvent::UserOffline { user });
        }
        self.users.0.retain(|_, sessions| {
            sessions.retain(|_, of| *of != node);
            !sessions.is_empty()
        });
    }

    /// Tells the first of the other nodes who would be lost with a node, and that node who has come back.
    pub(super) fn suspect(&mut self, node: u32) {
        let mut lost = Vec::new();
        for (room, SharedRoom { members, latest, .. }) in &self.rooms {
            for RemoteMember { entry, name, profile, .. } in members.iter().map(|shared| &shared.member) {
                if entry.member.node() == node {
                    let (room, connection, name) = (room.clone(), entry.member, name.clone());
                    let (user, is_hidden, num) = (profile.user.clone(), profile.is_hidden, latest.num);
                    lost.push(LostMember { room, connection, name, user, is_hidden, num });
                }
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
