//! What a room's members know about each other besides their names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::ConnectionId;

/// A member's user, info and state. `info` and `state` are texts that the room passes on unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// The id of the user.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) info: Option<Arc<str>>,
    pub(crate) state: Option<Arc<str>>,
    /// The info that the member was last given by the host's hooks. The host may have changed it since.
    pub(crate) granted: Option<Arc<str>>,
    /// Whether the other members do not see this one.
    pub(crate) is_hidden: bool,
}

/// What has changed in a member's profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProfileChange {
    pub(crate) user: bool,
    pub(crate) info: bool,
    pub(crate) state: bool,
}

/// The profiles of the members that have one, and the counts that follow from them. Uses memory only while there are
/// profiles.
#[derive(Debug, Default)]
pub(super) struct Profiles(Option<Box<Known>>);

#[derive(Debug, Default)]
struct Known {
    profiles: HashMap<ConnectionId, Arc<Profile>>,
    /// How many visible members each user has.
    users: HashMap<Arc<str>, usize>,
    /// The number of hidden members.
    hidden: usize,
}

impl Profile {
    fn is_empty(&self) -> bool {
        *self == Profile::default()
    }
}

impl ProfileChange {
    pub(crate) fn is_empty(self) -> bool {
        self == ProfileChange::default()
    }

    pub(crate) fn add(&mut self, other: ProfileChange) {
        self.user |= other.user;
        self.info |= other.info;
        self.state |= other.state;
    }

    fn between(old: &Profile, new: &Profile) -> ProfileChange {
        ProfileChange {
            user: old.user != new.user,
            info: old.info != new.info,
            state: old.state != new.state,
        }
    }
}

impl Profiles {
    /// The number of different users among the visible members.
    pub(super) fn users(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.users.len())
    }

    /// The number of hidden members.
    pub(super) fn hidden(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.hidden)
    }

    /// The number of profiles.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.profiles.len())
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Arc<Profile>> {
        self.0.as_ref()?.profiles.get(&id)
    }

    pub(super) fn add(&mut self, id: ConnectionId, profile: Profile) {
        if !profile.is_empty() {
            self.0.get_or_insert_default().add(id, profile);
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Arc<Profile>> {
        let known = self.0.as_mut()?;
        let removed = known.remove(id);
        if known.profiles.is_empty() {
            self.0 = None;
        }
        removed
    }

    /// Changes a member's profile, and returns what has changed for the other members: nothing, if it is hidden.
    pub(super) fn change(&mut self, id: ConnectionId, change: impl FnOnce(&mut Profile)) -> ProfileChange {
        let old = self.get(id).map_or(Profile::default(), |profile| Profile::clone(profile));
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return ProfileChange::default();
        }
        let changed = ProfileChange::between(&old, &new);
        self.remove(id);
        self.add(id, new);
        if old.is_hidden { ProfileChange::default() } else { changed }
    }
}

impl Known {
    fn add(&mut self, id: ConnectionId, mut profile: Profile) {
        if profile.is_hidden {
            self.hidden += 1;
        } else if let Some(user) = &mut profile.user {
            *user = self.count(user);
        }
        self.profiles.insert(id, Arc::new(profile));
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Arc<Profile>> {
        let profile = self.profiles.remove(&id)?;
        if profile.is_hidden {
            self.hidden -= 1;
        } else if let Some(user) = &profile.user {
            self.uncount(user);
        }
        Some(profile)
    }

    /// Counts a member of a user. Returns the id that all of the user's members share.
    fn count(&mut self, user: &Arc<str>) -> Arc<str> {
        if let Some((known, _)) = self.users.get_key_value(user) {
            let known = known.clone();
            *self.users.entry(known.clone()).or_default() += 1;
            return known;
        }
        self.users.insert(user.clone(), 1);
        user.clone()
    }

    fn uncount(&mut self, user: &Arc<str>) {
        let Some(members) = self.users.get_mut(user) else { return };
        *members -= 1;
        if *members == 0 {
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn of_user(user: &str) -> Profile {
        Profile { user: Some(user.into()), ..Profile::default() }
    }

    #[test]
    fn users_are_counted_once_and_without_hidden_members() {
        let mut profiles = Profiles::default();
        let [one, two, three, four] = [1, 2, 3, 4].map(ConnectionId);
        profiles.add(one, of_user("a"));
        profiles.add(two, of_user("a"));
        profiles.add(three, Profile { is_hidden: true, ..of_user("b") });
        profiles.add(four, Profile::default());
        assert_eq!((profiles.users(), profiles.hidden(), profiles.len()), (1, 1, 3));
        let change = profiles.change(four, |profile| profile.user = Some("b".into()));
        assert_eq!(change, ProfileChange { user: true, ..ProfileChange::default() });
        assert_eq!(profiles.users(), 2);
        assert!(profiles.change(four, |profile| profile.user = Some("b".into())).is_empty());
        assert!(profiles.change(three, |profile| profile.user = Some("c".into())).is_empty());
        profiles.remove(one);
        assert_eq!(profiles.users(), 2);
        profiles.change(two, |profile| profile.user = None);
        assert_eq!((profiles.users(), profiles.len()), (1, 2));
        for id in [two, three, four] {
            profiles.remove(id);
        }
        assert_eq!((profiles.users(), profiles.hidden(), profiles.len()), (0, 0, 0));
    }

    #[test]
    fn a_profile_exists_only_while_it_says_something() {
        let mut profiles = Profiles::default();
        let id = ConnectionId(1);
        let set = |profiles: &mut Profiles, state: Option<&str>| {
            profiles.change(id, |profile| profile.state = state.map(Into::into))
        };
        assert!(set(&mut profiles, None).is_empty());
        assert!(set(&mut profiles, Some("1")).state);
        assert!(set(&mut profiles, Some("1")).is_empty());
        assert_eq!(profiles.get(id).unwrap().state.as_deref(), Some("1"));
        assert!(set(&mut profiles, None).state);
        assert_eq!(profiles.len(), 0);
    }
}
