//! The rooms that a session is in.

use std::sync::Arc;

use crate::session::session::Membership;

/// At most one for a plain client.
///
/// After a session was resumed, its client has to enter each room again. Until then it is away: it gets no frames of the
/// room and can't publish there, because the policy has yet to be asked.
#[derive(Default)]
pub(super) struct MembershipList {
    all: Vec<Arc<Membership>>,
    /// The client is away from this many of them, the first ones.
    away: usize,
}

impl MembershipList {
    pub(super) fn all(&self) -> &[Arc<Membership>] {
        &self.all
    }

    pub(super) fn find(&self, room: &str) -> Option<&Arc<Membership>> {
        self.all.iter().find(|membership| membership.room.id().as_str() == room)
    }

    /// The membership in a room that the client is not away from. Without a room, that in the only one.
    pub(super) fn active(&self, room: Option<&str>) -> Option<&Arc<Membership>> {
        match (room, &self.all[self.away..]) {
            (None, [only]) if self.away == 0 => Some(only),
            (None, _) => None,
            (Some(room), active) => active.iter().find(|membership| membership.room.id().as_str() == room),
        }
    }

    pub(super) fn is_away(&self, room: &str) -> bool {
        self.all[..self.away].iter().any(|membership| membership.room.id().as_str() == room)
    }

    pub(super) fn is_away_from_any(&self) -> bool {
        self.away > 0
    }

    pub(super) fn add(&mut self, membership: Arc<Membership>) {
        if self.all.is_empty() {
            // Most clients are in one room only.
            self.all = Vec::with_capacity(1);
        }
        self.all.push(membership);
    }

    pub(super) fn remove(&mut self, room: &str) -> Option<Arc<Membership>> {
        let at = self.all.iter().position(|membership| membership.room.id().as_str() == room)?;
        if at < self.away {
            self.away -= 1;
        }
        Some(self.all.remove(at))
    }

    /// The session has been resumed.
    pub(super) fn set_away(&mut self) {
        self.away = self.all.len();
    }

    /// The client has entered a room again that it was away from.
    pub(super) fn set_back(&mut self, room: &str) {
        if let Some(membership) = self.remove(room) {
            self.add(membership);
        }
    }
}
