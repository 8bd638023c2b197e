//! The members of a room on other nodes.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{ConnectionId, Name};

/// A member on another node. It has no handle here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberElsewhere {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    /// Distinguishes the stays of the same member.
    pub(crate) entry: u64,
}

/// The members by their places, which are in one order with those of this node.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    members: BTreeMap<u64, MemberElsewhere>,
    places: HashMap<ConnectionId, u64>,
}

impl Elsewhere {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds a member. If it is known already, it has its new name and place from now on.
    pub(super) fn add(&mut self, place: u64, member: MemberElsewhere) {
        self.remove(member.id, None);
        self.places.insert(member.id, place);
        self.members.insert(place, member);
    }

    /// Removes a member: whatever its entry is, or only if it is this one. Returns its place.
    pub(super) fn remove(&mut self, id: ConnectionId, entry: Option<u64>) -> Option<u64> {
        self.get(id).filter(|member| entry.is_none_or(|entry| member.entry == entry))?;
        let place = self.places.remove(&id)?;
        self.members.remove(&place);
        Some(place)
    }

    /// Removes a member, and returns it with its place.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<(u64, MemberElsewhere)> {
        let place = self.places.remove(&id)?;
        Some((place, self.members.remove(&place)?))
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&MemberElsewhere> {
        self.members.get(self.places.get(&id)?)
    }

    pub(super) fn place(&self, id: ConnectionId) -> Option<u64> {
        self.places.get(&id).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.places.keys().copied()
    }

    /// The members after this place.
    pub(super) fn after(&self, place: u64) -> impl Iterator<Item = (u64, &MemberElsewhere)> {
        self.members.range(place.saturating_add(1)..).map(|(place, member)| (*place, member))
    }
}
