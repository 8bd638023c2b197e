//! The rooms that a session is in.

use std::sync::Arc;

use crate::session::session::Membership;

/// At most one for a plain client.
///
/// After a session was resumed, its client must enter each room again. Until then, the membership is inactive: the
/// client gets no frames of the room and cannot publish there, because the policy has not been asked yet.
#[derive(Default)]
pub(super) struct MembershipList {
    all: Vec<Arc<Membership>>,
    /// This many memberships are inactive. They come first.
    inactive: usize,
}

impl MembershipList {
    pub(super) fn all(&self) -> &[Arc<Membership>] {
        &self.all
    }

    pub(super) fn find(&self, room: &str) -> Option<&Arc<Membership>> {
        self.all.iter().find(|membership| membership.room.id().as_str() == room)
    }

    /// The active membership in a room or, if `room` is `None`, in the only room.
    pub(super) fn active(&self, room: Option<&str>) -> Option<&Arc<Membership>> {
        match (room, &self.all[self.inactive..]) {
            (None, [only]) if self.inactive == 0 => Some(only),
            (None, _) => None,
            (Some(room), active) => active.iter().find(|membership| membership.room.id().as_str() == room),
        }
    }

    pub(super) fn is_inactive(&self, room: &str) -> bool {
        self.all[..self.inactive].iter().any(|membership| membership.room.id().as_str() == room)
    }

    pub(super) fn is_inactive_anywhere(&self) -> bool {
        self.inactive > 0
    }

    pub(super) fn add(&mut self, membership: Arc<Membership>) {
        if self.all.is_empty() {
            // Saves memory, because most clients are in one room only.
            self.all = Vec::with_capacity(1);
        }
        self.all.push(membership);
    }

    pub(super) fn remove(&mut self, room: &str) -> Option<Arc<Membership>> {
        let at = self.all.iter().position(|membership| membership.room.id().as_str() == room)?;
        if at < self.inactive {
            self.inactive -= 1;
        }
        Some(self.all.remove(at))
    }

    /// Called when the session has been resumed.
    pub(super) fn set_all_inactive(&mut self) {
        self.inactive = self.all.len();
    }

    /// Called when the client has entered a room again.
    pub(super) fn set_active(&mut self, room: &str) {
        if let Some(membership) = self.remove(room) {
            self.add(membership);
        }
    }
}
