//! Messages that the store may have without the members having had them, and what became of them.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use crate::ids::{MessageId, RoomId};

/// How many messages of each kind are remembered.
const MAX_DOUBTS: usize = 10_000;

/// What tells whether the members have had a message that the store has.
pub(super) struct Doubts {
    /// The ids of this process are not lower.
    first: MessageId,
    /// Messages of this process that the members do not have, although the store may have them.
    not_out: HashSet<(RoomId, MessageId)>,
    /// Messages of an earlier process that this one has published.
    out: HashSet<(RoomId, MessageId)>,
    late: HashMap<RoomId, Vec<Late>>,
    /// How many there are, in all rooms.
    late_len: usize,
    /// Late messages with an `until` up to this one are forgotten.
    forgotten: Option<MessageId>,
}

/// A message that was published after others with higher ids.
#[derive(Debug, Clone, Copy)]
struct Late {
    id: MessageId,
    until: MessageId,
}

impl Doubts {
    /// `now` is the time of day at which the process began.
    pub(super) fn new(now: SystemTime) -> Doubts {
        Doubts {
            first: MessageId::first_at(now),
            not_out: HashSet::new(),
            out: HashSet::new(),
            late: HashMap::new(),
            late_len: 0,
            forgotten: None,
        }
    }

    /// Whether the members have had a message that the store has had before. If not, the caller publishes it.
    pub(super) fn is_out(&mut self, room: &RoomId, id: MessageId) -> bool {
        let place = (room.clone(), id);
        if id >= self.first {
            return !self.not_out.remove(&place);
        }
        // Another process has stored it. It has crashed before it could answer, perhaps before the members got it.
        self.out.len() < MAX_DOUBTS && !self.out.insert(place)
    }

    /// Notes that the store may have a message that the members do not have.
    pub(super) fn note_failed(&mut self, room: &RoomId, id: MessageId) {
        if self.not_out.len() < MAX_DOUBTS {
            self.not_out.insert((room.clone(), id));
        }
    }

    /// Notes a message that is published after others with higher ids. A client may have been away at that time if the id of
    /// its latest message is lower than `until`.
    pub(super) fn note_late(&mut self, room: &RoomId, id: MessageId, until: MessageId) {
        if self.late_len == MAX_DOUBTS {
            let untils = self.late.drain().flat_map(|(_, late)| late).map(|late| late.until);
            self.forgotten = self.forgotten.max(untils.max());
            self.late_len = 0;
        }
        self.late_len += 1;
        self.late.entry(room.clone()).or_default().push(Late { id, until });
    }

    /// The messages with ids up to `last` that a client may have missed whose latest message has this id. `None` if they are
    /// not known.
    pub(super) fn late_for(&self, room: &RoomId, last: MessageId) -> Option<Vec<MessageId>> {
        if Some(last) < self.forgotten {
            return None;
        }
        let late = self.late.get(room).map_or(&[][..], Vec::as_slice);
        let missed = late.iter().filter(|late| late.id <= last && last < late.until);
        let mut ids: Vec<_> = missed.map(|late| late.id).collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> MessageId {
        MessageId::from_u64(n).unwrap()
    }

    #[test]
    fn a_client_may_have_missed_what_was_published_after_its_latest_message() {
        let (mut doubts, room) = (Doubts::new(SystemTime::UNIX_EPOCH), RoomId::from("r"));
        doubts.note_late(&room, id(7), id(20));
        doubts.note_late(&room, id(5), id(30));
        for (last, want) in [(4, vec![]), (6, vec![5]), (19, vec![5, 7]), (20, vec![5]), (30, vec![])] {
            let want: Vec<_> = want.into_iter().map(id).collect();
            assert_eq!(doubts.late_for(&room, id(last)), Some(want), "{last}");
        }
        assert_eq!(doubts.late_for(&RoomId::from("s"), id(19)), Some(vec![]));
    }

    #[test]
    fn what_is_forgotten_is_not_taken_for_nothing() {
        let (mut doubts, room) = (Doubts::new(SystemTime::UNIX_EPOCH), RoomId::from("r"));
        for n in 0..=MAX_DOUBTS as u64 {
            doubts.note_late(&room, id(5), id(20 + n));
        }
        let until = 20 + MAX_DOUBTS as u64;
        assert_eq!(doubts.late_for(&room, id(until - 2)), None);
        assert_eq!(doubts.late_for(&room, id(until - 1)), Some(vec![id(5)]));
        assert_eq!(doubts.late_for(&room, id(until)), Some(vec![]));
    }
}
