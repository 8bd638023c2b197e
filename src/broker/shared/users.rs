//! The sessions of users.

use std::collections::{BTreeMap, HashMap};

use super::order::Shared;
use crate::broker::{RemoteEvent, RemoteSession};
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
        let users = std::mem::take(&mut self.users.0);
        for (user, mut sessions) in users {
            let count = sessions.len();
            sessions.retain(|_, of| *of != node);
            if !sessions.is_empty() {
                self.users.0.insert(user, sessions);
            } else if count > 0 {
                self.tell_first(RemoteEvent::UserOffline { user });
            }
        }
    }

    /// Tells the node that removes what others have left.
    pub(super) fn tell_first(&mut self, event: RemoteEvent) {
        if let Some(first) = self.nodes.keys().min().copied()
            && let Some(hearer) = self.nodes.get_mut(&first)
        {
            hearer.push(event);
        }
    }
}
