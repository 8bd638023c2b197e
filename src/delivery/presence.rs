//! What a room has yet to tell its members about presence: changed states, and in modes other than full, the number of
//! members. These frames are not in the room log. They are sent at most a few times a second, with the newest values. A
//! member whose socket cannot accept them gets a `presence` frame once it has caught up.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Presence, PresenceMode};
use crate::ids::{ConnectionId, Name};
use crate::protocol::frame;
use crate::protocol::presence::{ChangedProfile, PresenceFrame, StateFrame};
use crate::room::{Profile, ProfileChange, Room};

/// Changed states are sent at most this often.
const STATE_INTERVAL: Duration = Duration::from_millis(100);

/// The number of members is sent at most this often, unless the room gets its first member or loses its last one.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The presence mode of a room, and the changes that its members have yet to be told.
#[derive(Debug)]
pub(super) struct Announcer {
    setting: Presence,
    mode: PresenceMode,
    /// The number of batches that were taken.
    version: u32,
    /// The changes. Allocated when there is one for the first time.
    news: Option<Box<News>>,
}

#[derive(Debug, Default)]
struct News {
    /// The members whose profiles have changed. Only in full mode.
    changed: BTreeMap<ConnectionId, (Name, ProfileChange)>,
    /// The number of members or users has changed in count mode, or the members that clients know may be wrong.
    has_new_count: bool,
    /// The mode has changed, or the number of members from or to zero.
    is_urgent: bool,
    next_states: Duration,
    next_count: Duration,
}

/// The numbers that members are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) num: u64,
    pub(super) users: usize,
}

/// What is to be sent, not encoded yet.
#[derive(Debug)]
pub(super) struct Announcement {
    seq: u64,
    version: u32,
    counts: Counts,
    what: What,
}

#[derive(Debug)]
enum What {
    Presence(PresenceMode),
    States(Vec<Changed>),
}

#[derive(Debug)]
struct Changed {
    member: ConnectionId,
    name: Name,
    profile: Arc<Profile>,
    change: ProfileChange,
}

/// Presence frames that are delivered together. Only `chat-rooms.v1` has them.
#[derive(Debug)]
pub(crate) struct PresenceBatch {
    /// The `seq` of the room's frame that they follow.
    seq: u64,
    version: u32,
    /// The frames as the other members get them.
    frames: Vec<u8>,
    /// What the changed members get instead of the frames about themselves.
    for_own: Vec<u8>,
    own: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    member: ConnectionId,
    /// The frame about the member in `frames`.
    others: Range<usize>,
    /// What it gets itself, in `for_own`: nothing about its state.
    own: Range<usize>,
}

impl Announcer {
    pub(super) fn new(setting: Presence) -> Announcer {
        Announcer { setting, mode: setting.start(), version: 0, news: None }
    }

    pub(super) fn mode(&self) -> PresenceMode {
        self.mode
    }

    /// Begins anew in a room that has this many members.
    pub(super) fn restart(&mut self, num: u64) {
        self.mode = self.setting.next(self.setting.start(), num);
        self.news = None;
    }

    /// Increases whenever something is taken.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Notes that a member's profile has changed.
    pub(super) fn note_profile(&mut self, member: ConnectionId, name: &Name, change: ProfileChange) {
        if self.mode == PresenceMode::Full && !change.is_empty() {
            let changed = &mut self.news.get_or_insert_default().changed;
            changed.entry(member).or_insert_with(|| (name.clone(), change)).1.add(change);
        }
    }

    /// Notes that a member has left. Its changes must not be attributed to its next membership.
    pub(super) fn forget(&mut self, member: ConnectionId) {
        if let Some(news) = &mut self.news {
            news.changed.remove(&member);
        }
    }

    /// Notes that members have entered or left, or users have changed.
    pub(super) fn note_counts(&mut self, before: Counts, now: Counts) {
        let mode = self.setting.next(self.mode, now.num);
        if mode != self.mode {
            self.mode = mode;
            let news = self.news.get_or_insert_default();
            // A client that is told of full mode asks for all members.
            news.changed = BTreeMap::new();
            news.is_urgent = true;
        }
        if self.mode == PresenceMode::Count && now != before {
            let news = self.news.get_or_insert_default();
            news.has_new_count = true;
            news.is_urgent |= (now.num == 0) != (before.num == 0);
        }
    }

    /// Notes that a member has entered or left, with a frame or without one. If that does not fit the current mode, the
    /// event was submitted in another mode, and clients may know too few members or too many. When they are told the
    /// mode, they ask for the members again or forget them.
    pub(super) fn note_entered_or_left(&mut self, has_frame: bool) {
        let fits = match self.mode {
            PresenceMode::Full => has_frame,
            PresenceMode::Count => !has_frame,
            PresenceMode::Quiet => true,
        };
        if !fits {
            self.news.get_or_insert_default().has_new_count = true;
        }
    }

    /// When something is to be sent; `None` if there is nothing.
    pub(super) fn due(&self) -> Option<Duration> {
        let news = self.news.as_ref()?;
        if news.is_urgent {
            return Some(Duration::ZERO);
        }
        let states = (!news.changed.is_empty()).then_some(news.next_states);
        let count = news.has_new_count.then_some(news.next_count);
        states.into_iter().chain(count).min()
    }

    /// Takes what is to be sent by now. It follows the room's frame with this `seq`.
    pub(super) fn take<H>(
        &mut self,
        now: impl FnOnce() -> Duration,
        room: &Room<H>,
        seq: u64,
        num: u64,
    ) -> Option<Announcement> {
        let due = self.due()?;
        let now = now();
        if due > now {
            return None;
        }
        self.version = self.version.wrapping_add(1);
        let news = self.news.get_or_insert_default();
        let changed = std::mem::take(&mut news.changed);
        let what = if news.is_urgent || news.has_new_count && news.next_count <= now {
            // In full mode, a client asks for all members then.
            (news.is_urgent, news.has_new_count) = (false, false);
            news.next_count = now + COUNT_INTERVAL;
            What::Presence(self.mode)
        } else {
            news.next_states = now + STATE_INTERVAL;
            let changed = changed.into_iter().map(|(member, (name, change))| {
                let profile = room.profile(member).cloned().unwrap_or_default();
                Changed { member, name, profile, change }
            });
            What::States(changed.collect())
        };
        let counts = Counts { num, users: room.users() };
        Some(Announcement { seq, version: self.version, counts, what })
    }
}

impl Announcement {
    pub(super) fn encode(&self, room: &str) -> PresenceBatch {
        let Announcement { seq, version, counts: Counts { num, users }, .. } = *self;
        let (frames, for_own, own) = Default::default();
        let mut batch = PresenceBatch { seq, version, frames, for_own, own };
        match &self.what {
            What::Presence(mode) => {
                let text = PresenceFrame { room, mode: *mode, num, users }.encode();
                frame::push_text(&mut batch.frames, &[text.as_bytes()]);
            }
            What::States(changed) => changed.iter().for_each(|changed| batch.push(room, num, changed)),
        }
        batch
    }
}

impl PresenceBatch {
    fn push(&mut self, room: &str, num: u64, changed: &Changed) {
        let Changed { member, name, profile, change } = changed;
        let (others, own) = (self.frames.len(), self.for_own.len());
        let (user, info, state) =
            (profile.user.as_deref(), profile.info.as_deref(), profile.state.as_deref());
        let changed = ChangedProfile {
            user: change.user.then_some(user),
            info: change.info.then_some(info),
            state: change.state.then_some(state),
        };
        let text = StateFrame { room, name: name.as_str(), num, member: *member, changed };
        frame::push_text(&mut self.frames, &[text.encode().as_bytes()]);
        if change.user || change.info {
            let text = StateFrame { changed: ChangedProfile { state: None, ..changed }, ..text };
            frame::push_text(&mut self.for_own, &[text.encode().as_bytes()]);
        }
        let (others, own) = (others..self.frames.len(), own..self.for_own.len());
        self.own.push(Own { member: *member, others, own });
    }

    /// The `seq` of the room's frame that they follow.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Higher than that of all earlier batches of the room, modulo 2^32.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The frames for this member, in three pieces of whole frames.
    pub(crate) fn for_member(&self, member: ConnectionId) -> [&[u8]; 3] {
        match self.own.binary_search_by_key(&member, |own| own.member) {
            Err(_) => [&self.frames, &[], &[]],
            Ok(at) => {
                let Own { others, own, .. } = &self.own[at];
                [&self.frames[..others.start], &self.for_own[own.clone()], &self.frames[others.end..]]
            }
        }
    }
}
