//! Changes of members' profiles. They must not get lost: the other nodes would never learn of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;

use crate::inner::Inner;
use crate::member::Profile;
use crate::sync::{Mutex, lock};

/// The members whose profiles are being sent. The latest change of each waits until the one before is in Redis; those
/// between are left out.
#[derive(Debug, Default)]
pub(crate) struct Profiles(Mutex<HashMap<Membership, Option<Change>>>);

/// A room and a member.
type Membership = (Arc<str>, Box<str>);

#[derive(Debug)]
struct Change {
    profile: Profile,
    body: Bytes,
}

impl Profiles {
    /// Adds a change. Returns whether the caller must send it.
    fn add(&self, member: &Membership, change: Change) -> bool {
        match lock(&self.0).entry(member.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.insert(Some(change));
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Some(change));
                true
            }
        }
    }

    /// The next change of a member that is to be sent. If there is none, nobody is sending any more.
    fn next(&self, member: &Membership) -> Option<Change> {
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
    pub(crate) fn set_profile(self: &Arc<Inner>, room: &str, member: &str, profile: Profile, body: Bytes) {
        if !self.hub.knows(room, member) {
            return;
        }
        self.hub.set_profile(room, member, profile.clone());
        let member: Membership = (room.into(), member.into());
        if self.profiles.add(&member, Change { profile, body }) {
            let inner = self.clone();
            self.spawn(async move {
                while let Some(Change { profile, body }) = inner.profiles.next(&member) {
                    let (room, member) = &member;
                    let request = inner.scripts.set_profile(member, &profile, &body);
                    // It fails only if Redis refuses such commands. A member that has left meanwhile is no failure.
                    let _ = inner.call_active(room, &request).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(body: &'static str) -> Change {
        Change { profile: Profile::default(), body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn the_latest_change_waits_for_the_one_before() {
        let (profiles, member) = (Profiles::default(), ("r".into(), "ann".into()));
        assert!(profiles.add(&member, change("first")));
        assert_eq!(profiles.next(&member).unwrap().body, "first");
        for body in ["second", "third"] {
            assert!(!profiles.add(&member, change(body)));
        }
        assert_eq!(profiles.next(&member).unwrap().body, "third");
        assert!(profiles.next(&member).is_none());
        assert!(lock(&profiles.0).is_empty());
    }
}
