//! The members of a room, in the order in which they entered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::incoming::StateChange;
use crate::presence::Member;

/// The place of the first member that enters while the client is in the room. Members of pages have lower places.
const FIRST_ENTERED: u64 = 1 << 32;

#[derive(Debug)]
pub(super) struct Roster {
    /// By place.
    members: BTreeMap<u64, Member>,
    /// By member id.
    places: HashMap<Arc<str>, u64>,
    next_paged: u64,
    next_entered: u64,
}

impl Roster {
    pub(super) fn new() -> Roster {
        Roster {
            members: BTreeMap::new(),
            places: HashMap::new(),
            next_paged: 0,
            next_entered: FIRST_ENTERED,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Inserts a member of a page, or replaces it in its place. Pages come in order, before those that enter later.
    pub(super) fn add(&mut self, member: Member) {
        let place = self.places.get(member.id()).copied().unwrap_or(self.next_paged);
        self.next_paged += 1;
        self.insert(place, member);
    }

    /// A member enters, or enters under another name.
    pub(super) fn enter(&mut self, member: Member) {
        self.remove(member.id());
        let place = self.next_entered;
        self.next_entered += 1;
        self.insert(place, member);
    }

    fn insert(&mut self, place: u64, member: Member) {
        self.places.insert(member.shared_id().clone(), place);
        self.members.insert(place, member);
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let place = self.places.remove(id);
        place.is_some_and(|place| self.members.remove(&place).is_some())
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(self.places.get(id)?)
    }

    /// Changes a member, if it is known.
    pub(super) fn change(&mut self, change: StateChange) -> bool {
        let Some(member) = self.get_mut(&change.member) else { return false };
        change.state.into_iter().for_each(|state| member.set_state(state));
        change.info.into_iter().for_each(|info| member.set_info(info));
        change.user.iter().for_each(|user| member.set_user(user));
        true
    }

    /// Number of different users.
    pub(super) fn users(&self) -> u64 {
        self.members.values().filter_map(Member::user).collect::<HashSet<_>>().len() as u64
    }

    pub(super) fn snapshot(&self) -> Arc<[Member]> {
        self.members.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(id: &str, user: &str) -> Member {
        Member::of(json!({"member": id, "name": id, "user": user}).as_object().unwrap()).unwrap()
    }

    fn ids(roster: &Roster) -> String {
        roster.snapshot().iter().map(Member::id).collect()
    }

    #[test]
    fn pages_come_before_those_that_enter_meanwhile() {
        let mut roster = Roster::new();
        ["a", "b"].into_iter().for_each(|id| roster.add(member(id, "u")));
        ["x", "y"].into_iter().for_each(|id| roster.enter(member(id, id)));
        ["c", "x"].into_iter().for_each(|id| roster.add(member(id, "u")));
        assert_eq!((ids(&roster).as_str(), roster.users()), ("abcxy", 2));
        roster.enter(member("b", "u"));
        assert!(roster.remove("c") && !roster.remove("c"));
        assert_eq!(ids(&roster), "axyb");
        assert_eq!(roster.places.len(), roster.len());
    }

    #[test]
    fn a_change_of_an_unknown_member_is_ignored() {
        let mut roster = Roster::new();
        roster.add(member("a", "u"));
        let change = |id: &str| StateChange {
            member: id.into(),
            num: None,
            state: Some(json!(1)),
            info: None,
            user: Some(json!(null)),
            is_read_only: None,
        };
        assert!(roster.change(change("a")) && !roster.change(change("b")));
        let members = roster.snapshot();
        assert_eq!((members[0].state(), members[0].user(), members.len()), (Some(&json!(1)), None, 1));
    }
}
