//! Changes of members' profiles. They must not get lost: the other nodes would never learn of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::error::Unavailable;
use crate::inner::Inner;
use crate::member::Profile;
use crate::sync::{Mutex, lock};

/// The members whose profiles are being sent. The latest change of each waits until the one before is in Redis; those
/// between are left out.
#[derive(Debug, Default)]
pub(crate) struct Profiles(Mutex<HashMap<Membership, Option<Profile>>>);

/// A room and a member.
type Membership = (Arc<str>, Box<str>);

impl Profiles {
    /// Adds a change. Returns whether the caller must send it.
    fn add(&self, member: &Membership, profile: Profile) -> bool {
        match lock(&self.0).entry(member.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.insert(Some(profile));
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Some(profile));
                true
            }
        }
    }

    /// The next change of a member that is to be sent. If there is none, nobody is sending any more.
    fn next(&self, member: &Membership) -> Option<Profile> {
        let mut waiting = lock(&self.0);
        let next = waiting.get_mut(member).and_then(Option::take);
        if next.is_none() {
            waiting.remove(member);
        }
        next
    }
}

impl Inner {
    /// Replaces the profile of a member, now or as soon as Redis can be reached.
    pub(crate) fn set_profile(self: &Arc<Inner>, room: &str, member: &str, profile: Profile) {
        if self.hub.knows(room, member) {
            self.hub.set_profile(room, member, profile.clone());
            self.send_profile((room.into(), member.into()), profile);
        }
    }

    /// Tells the others once more which profile a member has: Redis has another one.
    pub(crate) fn repeat_profile(self: &Arc<Inner>, room: &Arc<str>, member: &str) {
        if let Some(profile) = self.hub.profile(room, member) {
            self.send_profile((room.clone(), member.into()), profile);
        }
    }

    fn send_profile(self: &Arc<Inner>, member: Membership, profile: Profile) {
        if self.profiles.add(&member, profile) {
            let inner = self.clone();
            self.spawn(async move {
                while let Some(profile) = inner.profiles.next(&member) {
                    // It fails only if Redis refuses such commands.
                    let _ = inner.write_profile(&member, &profile).await;
                }
            });
        }
    }

    async fn write_profile(&self, (room, member): &Membership, profile: &Profile) -> Result<(), Unavailable> {
        let request = self.scripts.set_profile(member, profile);
        if self.call_active(room, &request).await?.status() == b"NOT_MEMBER" {
            // It has left, or it is just entered again, possibly with an older profile.
            drop(self.reentry.lock().await);
            self.call_active(room, &request).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str) -> Profile {
        Profile { name: name.to_owned(), ..Profile::default() }
    }

    #[test]
    fn the_latest_change_waits_for_the_one_before() {
        let (profiles, member) = (Profiles::default(), ("r".into(), "ann".into()));
        assert!(profiles.add(&member, change("first")));
        assert_eq!(profiles.next(&member).unwrap().name, "first");
        for name in ["second", "third"] {
            assert!(!profiles.add(&member, change(name)));
        }
        assert_eq!(profiles.next(&member).unwrap().name, "third");
        assert!(profiles.next(&member).is_none());
        assert!(lock(&profiles.0).is_empty());
    }
}
