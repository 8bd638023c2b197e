//! The replica of a room whose events a broker orders that several nodes share.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::broker::{EntryId, RemoteMember, Stamp};
use crate::delivery::enter_outcome::EnterOutcome;
use crate::delivery::live_room::Handle;
use crate::delivery::room_state::RoomState;
use crate::delivery::rooms::Entrant;
use crate::ids::ConnectionId;
use crate::room::MemberElsewhere;

/// What a room has in addition if its events come from other nodes, too.
#[derive(Default)]
pub(super) struct RemoteRoom {
    /// Whether the replica follows the room's order: from the first event that this node has heard.
    is_following: bool,
    /// The members of this node that are about to enter.
    expected: HashMap<EntryId, Expected>,
    /// The members of this node.
    entries: HashMap<ConnectionId, Stay>,
}

/// A stay of a member of this node.
#[derive(Debug, Clone, Copy)]
struct Stay {
    number: u64,
    /// That of its session, or 0.
    generation: u64,
}

/// A member that is about to enter: until the event of its enter has arrived.
pub(super) struct Expected {
    pub(super) entrant: Entrant,
    pub(super) reply: oneshot::Sender<EnterOutcome>,
    /// That of its session, or 0.
    pub(super) generation: u64,
}

/// Where an event is, seen from the latest one that was applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Distance {
    Next,
    /// It was applied already.
    Before,
    /// Events before it are missing.
    Beyond,
}

impl RemoteRoom {
    pub(super) fn expect(&mut self, entry: EntryId, expected: Expected) {
        self.expected.insert(entry, expected);
    }

    /// The event of this enter has arrived.
    pub(super) fn take_expected(&mut self, entry: EntryId) -> Option<Expected> {
        self.expected.remove(&entry)
    }

    /// The enter of this member will not be waited for.
    pub(super) fn take_expected_of(&mut self, member: ConnectionId) -> Option<(EntryId, Expected)> {
        let entry = *self.expected.keys().find(|entry| entry.member == member)?;
        self.expected.remove_entry(&entry)
    }

    /// The members that are about to enter.
    pub(super) fn expected(&self) -> Vec<ConnectionId> {
        self.expected.keys().map(|entry| entry.member).collect()
    }

    /// Whether this is the current stay of a member of this node, or will be, in this generation of its session.
    pub(super) fn has_or_expects(&self, entry: EntryId, generation: u64) -> bool {
        let stay = self.entries.get(&entry.member);
        let has = stay.is_some_and(|stay| stay.number == entry.number && stay.generation == generation);
        has || self.expected.contains_key(&entry)
    }

    pub(super) fn add(&mut self, entry: EntryId, generation: u64) {
        self.entries.insert(entry.member, Stay { number: entry.number, generation });
    }

    /// Returns the current stay of a member of this node, and the generation of its session.
    pub(super) fn remove(&mut self, member: ConnectionId) -> Option<(EntryId, u64)> {
        let Stay { number, generation } = self.entries.remove(&member)?;
        Some((EntryId { member, number }, generation))
    }

    /// The current stay of a member of this node.
    pub(super) fn entry_of(&self, member: ConnectionId) -> Option<EntryId> {
        self.entries.get(&member).map(|stay| EntryId { member, number: stay.number })
    }

    /// Whether the replica follows the room's order.
    pub(super) fn is_following(&self) -> bool {
        self.is_following
    }

    /// Whether this is the current stay of a member of this node.
    pub(super) fn has(&self, entry: EntryId) -> bool {
        self.entry_of(entry.member) == Some(entry)
    }
}

impl RoomState {
    pub(super) fn distance_of(&self, stamp: Stamp) -> Distance {
        let is_following = self.remote.as_ref().is_some_and(|remote| remote.is_following);
        match stamp.event.checked_sub(self.latest.event) {
            _ if !is_following || stamp.epoch != self.latest.epoch => Distance::Beyond,
            Some(1) => Distance::Next,
            None | Some(0) => Distance::Before,
            Some(_) => Distance::Beyond,
        }
    }

    /// Follows the room's order after this event. `members` are those that the room has then or had later: later events
    /// may repeat what they tell. Returns the members of this node that have missed events.
    pub(super) fn follow_from(&mut self, stamp: Stamp, members: &[RemoteMember]) -> Vec<Handle> {
        let Some(remote) = &mut self.remote else { return Vec::new() };
        let has_missed = std::mem::replace(&mut remote.is_following, true);
        self.room.clear_elsewhere();
        // Those that enter later come with their events.
        let is_later = |member: &RemoteMember| {
            let (epoch, event) = member.entered;
            epoch == stamp.epoch && event > stamp.event
        };
        // Members of this node that the broker does not know enter again, and are moved then.
        let mut places = HashMap::new();
        for member in members {
            let RemoteMember { entry: EntryId { member: id, number: entry }, name, profile, .. } =
                member.clone();
            if remote.has(member.entry) {
                places.insert(id, self.room.next_place());
            } else if !is_later(member) {
                self.room.enter_elsewhere(MemberElsewhere { id, name, entry }, profile);
            }
        }
        self.room.set_places(&places);
        self.latest = stamp;
        self.pending.restart(stamp.seq);
        if let Some(replay) = &mut self.replay {
            replay.restart(stamp.seq);
        }
        self.transients = None;
        self.first_page.clear();
        self.announcer.restart(stamp.num);
        match has_missed {
            true => self.room.members().iter().map(|member| member.handle.clone()).collect(),
            false => Vec::new(),
        }
    }
}
