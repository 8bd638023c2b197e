//! One room's members, in the order in which they entered.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::UniqueNames;
use crate::ids::{ConnectionId, Name};
use crate::room::elsewhere::{Elsewhere, MemberElsewhere};
use crate::room::member_list::MemberList;
use crate::room::names::{NameRegistry, NameTaken};
use crate::room::roster::{Profile, ProfileChange, Profiles};

/// A member and the handle through which it is reached.
#[derive(Debug)]
pub(crate) struct Member<H> {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) handle: H,
    /// Its place in the order in which members enter: higher than that of all earlier members.
    pub(crate) place: u64,
}

/// What becomes a member.
#[derive(Debug)]
pub(crate) struct Entrant<H> {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) handle: H,
    pub(crate) profile: Profile,
}

/// A member that has left.
#[derive(Debug)]
pub(crate) struct Departed<H> {
    pub(crate) member: Arc<Member<H>>,
    pub(crate) was_hidden: bool,
}

/// A page of the visible members, in the order in which they entered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<RosterEntry>,
    /// The place of the first visible member after them, if there is one.
    pub(crate) next: Option<u64>,
}

/// A member as the others know it. It does not keep the handle alive.
#[derive(Debug)]
pub(crate) struct RosterEntry {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) place: u64,
    pub(crate) profile: Option<Arc<Profile>>,
}

/// Why a member can't enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnterError {
    Full,
    Closed,
    NameTaken {
        /// The member that has the name, if it is anonymous.
        anonymous: Option<ConnectionId>,
    },
}

#[derive(Debug)]
pub(crate) struct Room<H> {
    /// Shared with the flush task while it delivers a batch.
    members: MemberList<H>,
    /// The members' ids in the same order, so that a search does not touch the members' memory.
    ids: Vec<ConnectionId>,
    /// Present if each name may be used only once in the room.
    names: Option<Box<NameRegistry>>,
    /// Places reserved for members that are moving here from another room.
    reserved: usize,
    closed: bool,
    /// The place of the next member.
    next_place: u64,
    profiles: Profiles,
    /// Present while members are on other nodes.
    elsewhere: Option<Box<Elsewhere>>,
}

impl<H> Room<H> {
    pub(crate) fn new(unique_names: UniqueNames) -> Room<H> {
        Room {
            members: MemberList::default(),
            ids: Vec::new(),
            names: NameRegistry::new(unique_names).map(Box::new),
            reserved: 0,
            closed: false,
            next_place: 1,
            profiles: Profiles::default(),
            elsewhere: None,
        }
    }

    /// Members of the room that are not hidden, on all nodes.
    pub(crate) fn online(&self) -> usize {
        let elsewhere = self.elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.len());
        self.members.len() + elsewhere - self.hidden()
    }

    /// Hidden members of the room.
    pub(crate) fn hidden(&self) -> usize {
        self.profiles.hidden()
    }

    /// The number of different users among the visible members.
    pub(crate) fn users(&self) -> usize {
        self.profiles.users()
    }

    /// The number of members that have a profile.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// Whether no member of this node is in it and none is about to enter.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.reserved == 0
    }

    /// The members of this node.
    pub(crate) fn members(&self) -> &MemberList<H> {
        &self.members
    }

    /// Reserves a place and a name for a member. The caller must call [`Room::enter`] afterwards.
    ///
    /// `owner` is the user whose connections may share the name.
    pub(crate) fn reserve(
        &mut self,
        id: ConnectionId,
        name: &Name,
        owner: Option<&str>,
        max: usize,
    ) -> Result<(), EnterError> {
        if self.closed {
            return Err(EnterError::Closed);
        }
        if self.members.len() + self.reserved >= max {
            return Err(EnterError::Full);
        }
        if let Some(names) = &mut self.names {
            names
                .take(name, id, owner)
                .map_err(|NameTaken { anonymous }| EnterError::NameTaken { anonymous })?;
        }
        self.reserved += 1;
        Ok(())
    }

    /// The member that has this name, if it is anonymous and names are unique.
    pub(crate) fn anonymous_holder(&self, name: &Name) -> Option<ConnectionId> {
        self.names.as_ref()?.anonymous_holder(name)
    }

    /// Notes that a member has authenticated as this user, whose connections may share its name from now on, unless the
    /// user has another name of its own.
    pub(crate) fn set_owner(&mut self, name: &Name, id: ConnectionId, owner: &str, own_name: Option<&Name>) {
        if let Some(names) = &mut self.names {
            names.set_owner(name, id, owner, own_name);
        }
    }

    /// Adds a member, for which a place was reserved, and returns its place in the order of enters. If the room was
    /// closed meanwhile, the member is in a silent room.
    pub(crate) fn enter(&mut self, entrant: Entrant<H>) -> u64 {
        let Entrant { id, name, handle, profile } = entrant;
        self.reserved -= 1;
        self.ids.push(id);
        self.profiles.add(id, profile);
        let place = self.take_place();
        self.members.push(Arc::new(Member { id, name, handle, place }));
        place
    }

    #[inline]
    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place - 1
    }

    /// Removes a member; `None` if it is not one.
    pub(crate) fn leave(&mut self, id: ConnectionId) -> Option<Departed<H>> {
        // Searches from the end, because most members that leave have entered recently.
        let at = self.ids.iter().rposition(|member| *member == id)?;
        self.ids.remove(at);
        let member = self.members.remove(at);
        self.release(&member.name);
        let was_hidden = self.profiles.remove(id).is_some_and(|profile| profile.is_hidden);
        Some(Departed { member, was_hidden })
    }

    /// Changes the profile of a member, and returns its place and what has changed for the other members: nothing if it is
    /// hidden. `None` if it is not a member.
    pub(crate) fn change_profile(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Profile),
    ) -> Option<(u64, ProfileChange)> {
        let place = match self.ids.iter().position(|member| *member == id) {
            Some(at) => self.members.get(at)?.place,
            None => self.elsewhere.as_ref()?.place(id)?,
        };
        Some((place, self.profiles.change(id, change)))
    }

    /// The profile of a member, if it has one.
    pub(crate) fn profile(&self, id: ConnectionId) -> Option<&Arc<Profile>> {
        self.profiles.get(id)
    }

    /// Whether the other members do not see this one.
    fn is_hidden(&self, id: ConnectionId) -> bool {
        self.hidden() > 0 && self.profile(id).is_some_and(|profile| profile.is_hidden)
    }

    /// At most `max` visible members after this place.
    pub(crate) fn page(&self, after: u64, max: usize) -> Page {
        let visible = self.members.after(after).filter(|member| !self.is_hidden(member.id));
        let visible = visible.map(|member| (member.place, member.id, &member.name));
        match &self.elsewhere {
            None => self.page_of(visible, max),
            Some(elsewhere) => {
                let others = elsewhere.after(after).filter(|(_, member)| !self.is_hidden(member.id));
                let others = others.map(|(place, member)| (place, member.id, &member.name));
                let mut all: Vec<_> = visible.take(max + 1).chain(others.take(max + 1)).collect();
                all.sort_unstable_by_key(|(place, ..)| *place);
                self.page_of(all.into_iter(), max)
            }
        }
    }

    fn page_of<'a>(
        &self,
        mut visible: impl Iterator<Item = (u64, ConnectionId, &'a Name)>,
        max: usize,
    ) -> Page {
        let entry = |(place, id, name): (u64, ConnectionId, &Name)| RosterEntry {
            id,
            name: name.clone(),
            place,
            profile: self.profiles.get(id).cloned(),
        };
        let entries = visible.by_ref().take(max).map(entry).collect();
        Page { entries, next: visible.next().map(|(place, ..)| place) }
    }

    /// A place that was reserved is not needed.
    pub(crate) fn cancel_reservation(&mut self, name: &Name) {
        self.reserved -= 1;
        self.release(name);
    }

    /// Adds a member of another node. Returns its place.
    pub(crate) fn enter_elsewhere(&mut self, member: MemberElsewhere, profile: Profile) -> u64 {
        self.profiles.remove(member.id);
        self.profiles.add(member.id, profile);
        let place = self.take_place();
        self.elsewhere.get_or_insert_default().add(place, member);
        place
    }

    /// Adds a member that is in the room already, but that this node does not know yet. Returns its place, which is the
    /// last one.
    pub(crate) fn add(&mut self, member: Entrant<H>) -> u64 {
        self.reserved += 1;
        self.enter(member)
    }

    /// A member of this node is on another node from now on, or it is unknown where it is. Its place and its profile stay.
    pub(crate) fn move_elsewhere(&mut self, id: ConnectionId, entry: u64) -> Option<Arc<Member<H>>> {
        let at = self.ids.iter().rposition(|member| *member == id)?;
        self.ids.remove(at);
        let member = self.members.remove(at);
        self.release(&member.name);
        let elsewhere = MemberElsewhere { id, name: member.name.clone(), entry };
        self.elsewhere.get_or_insert_default().add(member.place, elsewhere);
        Some(member)
    }

    /// A member of another node is on this node from now on. Its place and its profile stay. Returns false if there is no
    /// such member.
    pub(crate) fn move_here(&mut self, id: ConnectionId, handle: H) -> bool {
        let Some(elsewhere) = &mut self.elsewhere else { return false };
        let Some((place, MemberElsewhere { name, .. })) = elsewhere.take(id) else { return false };
        if elsewhere.len() == 0 {
            self.elsewhere = None;
        }
        let at = self.members.count_before(place);
        self.ids.insert(at, id);
        self.members.insert(at, Arc::new(Member { id, name, handle, place }));
        true
    }

    /// Takes the place of the next member, for [`Room::set_places`].
    pub(crate) fn next_place(&mut self) -> u64 {
        self.take_place()
    }

    /// Moves some members of this node to these places.
    pub(crate) fn set_places(&mut self, places: &HashMap<ConnectionId, u64>)
    where
        H: Clone,
    {
        let moved = |member: &Arc<Member<H>>| {
            let Some(place) = places.get(&member.id) else { return member.clone() };
            let Member { id, name, handle, .. } = &**member;
            Arc::new(Member { id: *id, name: name.clone(), handle: handle.clone(), place: *place })
        };
        let mut members: Vec<_> = self.members.iter().map(moved).collect();
        members.sort_by_key(|member| member.place);
        self.ids = members.iter().map(|member| member.id).collect();
        self.members = members.into_iter().collect();
    }

    /// Moves a member of this node behind all others.
    pub(crate) fn move_to_end(&mut self, id: ConnectionId)
    where
        H: Clone,
    {
        let place = self.take_place();
        self.set_places(&HashMap::from([(id, place)]));
    }

    /// Removes a member of another node: whatever its entry is, or only if it is this one. Returns its place; `None` if
    /// there is no such member.
    pub(crate) fn leave_elsewhere(&mut self, id: ConnectionId, entry: Option<u64>) -> Option<u64> {
        let elsewhere = self.elsewhere.as_mut()?;
        let place = elsewhere.remove(id, entry)?;
        if elsewhere.len() == 0 {
            self.elsewhere = None;
        }
        self.profiles.remove(id);
        Some(place)
    }

    /// A member of another node.
    pub(crate) fn elsewhere(&self, id: ConnectionId) -> Option<&MemberElsewhere> {
        self.elsewhere.as_ref()?.get(id)
    }

    /// The members of other nodes, in no order.
    #[cfg(feature = "test-util")]
    pub(crate) fn ids_elsewhere(&self) -> Vec<ConnectionId> {
        self.elsewhere.as_ref().map_or(Vec::new(), |elsewhere| elsewhere.ids().collect())
    }

    /// Forgets all members of other nodes.
    pub(crate) fn clear_elsewhere(&mut self) {
        let Some(elsewhere) = self.elsewhere.take() else { return };
        for member in elsewhere.ids() {
            self.profiles.remove(member);
        }
    }

    /// Closes the room: nobody may enter any more, and nothing is published.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn release(&mut self, name: &Name) {
        if let Some(names) = &mut self.names {
            names.release(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MaxLen;
    use proptest::prelude::*;

    fn enter(room: &mut Room<()>, id: u64, is_hidden: bool) {
        let name = Name::parse(&format!("m{id}"), MaxLen::ANY).unwrap();
        room.reserve(ConnectionId(id), &name, None, usize::MAX).unwrap();
        let state = id.is_multiple_of(3).then(|| id.to_string().into());
        let profile = Profile { state, is_hidden, ..Profile::default() };
        room.enter(Entrant { id: ConnectionId(id), name, handle: (), profile });
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.id.0).collect()
    }

    #[test]
    fn a_page_has_the_visible_members_in_order_and_with_their_profiles() {
        let mut room = Room::new(UniqueNames::Off);
        for id in 1..=6 {
            enter(&mut room, id, id == 2 || id == 6);
        }
        assert_eq!((room.online(), room.hidden()), (4, 2));
        let page = room.page(0, 2);
        assert_eq!((ids(&page), page.next), (vec![1, 3], Some(4)));
        assert_eq!(page.entries[0].profile, None);
        assert_eq!(page.entries[1].profile.as_ref().unwrap().state.as_deref(), Some("3"));
        let page = room.page(page.entries[1].place, 2);
        assert_eq!((ids(&page), page.next), (vec![4, 5], None));
        assert!(ids(&room.page(u64::MAX, 2)).is_empty());
        room.leave(ConnectionId(2));
        room.leave(ConnectionId(3));
        assert_eq!((room.online(), room.hidden(), room.profiles()), (3, 1, 1));
        assert_eq!(room.change_profile(ConnectionId(3), |profile| profile.state = None), None);
    }

    proptest! {
        /// Pages that are fetched while members enter and leave contain each member that stays, once.
        #[test]
        fn pages_are_stable(
            first in 0..30_u64,
            max in 1..8_usize,
            steps in prop::collection::vec((0..40_u64, any::<bool>()), 0..40),
        ) {
            let mut room = Room::new(UniqueNames::Off);
            let mut members: Vec<u64> = (0..first).collect();
            members.iter().for_each(|id| enter(&mut room, *id, false));
            let mut always = members.clone();
            let (mut steps, mut after, mut seen) = (steps.into_iter(), 0, Vec::new());
            loop {
                let page = room.page(after, max);
                prop_assert!(page.entries.len() <= max);
                seen.extend(ids(&page));
                let Some(last) = page.entries.last().filter(|_| page.next.is_some()) else { break };
                after = last.place;
                for (id, is_leave) in steps.by_ref().take(3) {
                    if members.contains(&id) && is_leave {
                        room.leave(ConnectionId(id));
                        members.retain(|member| *member != id);
                        always.retain(|member| *member != id);
                    } else if !members.contains(&id) && !is_leave {
                        enter(&mut room, id, false);
                        members.push(id);
                    }
                }
            }
            for id in always {
                prop_assert_eq!(seen.iter().filter(|other| **other == id).count(), 1);
            }
        }
    }
}
