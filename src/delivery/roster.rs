//! The roster of a room as JSON. A room keeps the first page, because each client that enters gets it.

use std::sync::{Arc, LazyLock};

use crate::protocol::presence::{ProfileText, RosterText};
use crate::room::{Page, Profile};

/// A page of a roster. It is shared, and encoded once: when it is first read, which is not under the room's lock.
#[derive(Clone)]
pub(crate) struct RosterPage(Arc<Shared>);

struct Shared {
    /// The page does not depend on members after this place.
    until: u64,
    text: LazyLock<Box<str>, Box<dyn FnOnce() -> Box<str> + Send>>,
}

/// The first page of a room's roster, from when it is asked for until it changes.
#[derive(Default)]
pub(super) struct FirstPage(Option<RosterPage>);

impl RosterPage {
    pub(super) fn new(page: Page) -> RosterPage {
        let until = page.next.unwrap_or(u64::MAX);
        RosterPage(Arc::new(Shared { until, text: LazyLock::new(Box::new(move || encode(&page))) }))
    }

    /// The keys `members` and `next`, to be appended to an object's other keys.
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }
}

impl FirstPage {
    /// `page` returns the first page as it is now.
    pub(super) fn get(&mut self, page: impl FnOnce() -> Page) -> RosterPage {
        self.0.get_or_insert_with(|| RosterPage::new(page())).clone()
    }

    /// Notes that the member at this place has entered or left, or that its profile has changed.
    pub(super) fn note_change(&mut self, place: u64) {
        self.0.take_if(|page| place <= page.0.until);
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Whether it is known but wrong.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn is_stale(&self, page: impl FnOnce() -> Page) -> bool {
        self.0.as_ref().is_some_and(|known| known.text() != &*encode(&page()))
    }
}

/// What a profile says.
pub(crate) fn profile_text(profile: &Profile) -> ProfileText<'_> {
    ProfileText {
        user: profile.user.as_deref(),
        info: profile.info.as_deref(),
        state: profile.state.as_deref(),
    }
}

fn encode(page: &Page) -> Box<str> {
    let mut roster = RosterText::new();
    let is_complete = page.entries.iter().all(|entry| {
        let profile = entry.profile.as_deref().map_or(ProfileText::default(), profile_text);
        roster.push(entry.place, entry.id, entry.name.as_str(), profile)
    });
    roster.finish(page.next.is_some() || !is_complete).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tower_chat_rooms_protocol::MAX_ROSTER_MEMBERS;

    use super::*;
    use crate::config::UniqueNames;
    use crate::ids::{ConnectionId, MaxLen, Name};
    use crate::room::{Entrant, Room};

    /// A room that notes its changes.
    struct Noted {
        room: Room<()>,
        first_page: FirstPage,
        places: BTreeMap<u64, u64>,
        next_id: u64,
    }

    impl Noted {
        fn with_members(members: usize) -> Noted {
            let (room, first_page) = (Room::new(UniqueNames::Off), FirstPage::default());
            let mut noted = Noted { room, first_page, places: BTreeMap::new(), next_id: 1 };
            (0..members).for_each(|_| noted.enter(false));
            noted
        }

        fn enter(&mut self, is_hidden: bool) {
            let (id, name) = (self.next_id, Name::parse("ann", MaxLen::ANY).unwrap());
            self.next_id += 1;
            self.room.reserve(ConnectionId(id), &name, None, usize::MAX).unwrap();
            let profile = Profile { is_hidden, ..Profile::default() };
            let place = self.room.enter(Entrant { id: ConnectionId(id), name, handle: (), profile });
            self.places.insert(id, place);
            self.first_page.note_change(place);
        }

        fn page(&mut self) -> RosterPage {
            self.first_page.get(|| self.room.page(0, MAX_ROSTER_MEMBERS))
        }

        /// The member with the n-th lowest id.
        fn nth(&self, n: usize) -> Option<(u64, u64)> {
            self.places.iter().nth(n % self.places.len().max(1)).map(|(id, place)| (*id, *place))
        }

        fn leave(&mut self, n: usize) {
            let Some((id, place)) = self.nth(n) else { return };
            self.places.remove(&id);
            let left = self.room.leave(ConnectionId(id)).unwrap();
            assert_eq!(left.member.place, place);
            self.first_page.note_change(place);
        }

        fn set_state(&mut self, n: usize, state: &str) {
            let Some((id, place)) = self.nth(n) else { return };
            let changed =
                self.room.change_profile(ConnectionId(id), |profile| profile.state = Some(state.into()));
            assert_eq!(changed.map(|(place, _)| place), Some(place));
            self.first_page.note_change(place);
        }
    }

    #[test]
    fn changes_after_the_first_page_do_not_drop_it() {
        let mut noted = Noted::with_members(MAX_ROSTER_MEMBERS + 2);
        let page = noted.page();
        noted.enter(false);
        noted.set_state(MAX_ROSTER_MEMBERS + 1, "1");
        noted.leave(MAX_ROSTER_MEMBERS + 1);
        assert!(Arc::ptr_eq(&page.0, &noted.page().0));
        noted.set_state(MAX_ROSTER_MEMBERS - 1, "1");
        assert!(!Arc::ptr_eq(&page.0, &noted.page().0));
    }

    #[test]
    fn a_room_keeps_nothing_that_nobody_has_asked_for() {
        let noted = Noted::with_members(3);
        assert!(noted.first_page.0.is_none());
        let mut noted = Noted::with_members(0);
        assert_eq!(noted.page().text(), r#","members":[]"#);
        noted.enter(false);
        assert!(noted.first_page.0.is_none());
    }

    proptest! {
        #[test]
        fn the_first_page_is_never_stale(
            members in prop_oneof![0..4_usize, MAX_ROSTER_MEMBERS - 2..MAX_ROSTER_MEMBERS + 3],
            steps in prop::collection::vec((0..7_u8, any::<usize>()), 0..60),
        ) {
            let mut noted = Noted::with_members(members);
            for (step, n) in steps {
                match step {
                    0 => noted.enter(n % 4 == 0),
                    1 => noted.leave(n),
                    // The last member that is on the page, or the first one that is not.
                    2 => noted.leave(MAX_ROSTER_MEMBERS - n % 2),
                    3 => noted.set_state(n, &(n % 3).to_string()),
                    4 => noted.set_state(MAX_ROSTER_MEMBERS - n % 2, &(n % 3).to_string()),
                    _ => drop(noted.page()),
                }
                prop_assert!(!noted.first_page.is_stale(|| noted.room.page(0, MAX_ROSTER_MEMBERS)));
            }
        }
    }
}
