//! Messages that the store may have without the members having had them, and what became of them.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use crate::ids::{MessageId, RoomId};

/// How many messages of each kind are remembered.
const MAX_DOUBTS: usize = 10_000;

/// What tells whether the members have had a message that the store has.
pub(super) struct Doubts {
    /// Earlier processes have stored the messages with lower ids.
    began: MessageId,
    /// The members have the messages from this id on, except those in `not_out`. For lower ids, it is not known: an
    /// earlier process has stored these messages, or they were in `not_out` and are forgotten.
    known_from: MessageId,
    /// Messages that the members do not have, although the store may have them.
    not_out: Places,
    /// Messages with lower ids than `known_from` that this process has published.
    out: Places,
    late: HashMap<RoomId, Vec<Late>>,
    /// How many there are, in all rooms.
    late_len: usize,
    /// Late messages with an `until` up to this one are forgotten.
    forgotten: Option<MessageId>,
}

/// Messages of all rooms. If there are too many, those with the lowest ids are forgotten.
#[derive(Default)]
struct Places(BTreeSet<(MessageId, RoomId)>);

/// A message that was published after others with higher ids.
#[derive(Debug, Clone, Copy)]
struct Late {
    id: MessageId,
    until: MessageId,
}

impl Doubts {
    /// `now` is the time of day at which the process began.
    pub(super) fn new(now: SystemTime) -> Doubts {
        let began = MessageId::first_at(now);
        Doubts {
            began,
            known_from: began,
            not_out: Places::default(),
            out: Places::default(),
            late: HashMap::new(),
            late_len: 0,
            forgotten: None,
        }
    }

    /// Whether the members have already had a message that the store already has. If not, the caller publishes it.
    ///
    /// The host sends its messages again after each restart. Those that an earlier process has stored count as out: the
    /// members get them from the store.
    pub(super) fn is_out(&mut self, room: &RoomId, id: MessageId, is_of_host: bool) -> bool {
        if self.not_out.remove(room, id) {
            return false;
        }
        (is_of_host && id < self.began) || id >= self.known_from || !self.out.insert(room, id).is_new
    }

    /// Notes that the store may have a message that the members do not have.
    pub(super) fn note_failed(&mut self, room: &RoomId, id: MessageId) {
        if let Some(forgotten) = self.not_out.insert(room, id).forgotten {
            // A message that goes out twice does less harm than one that never does.
            self.known_from = self.known_from.max(MessageId::next(Some(forgotten), SystemTime::UNIX_EPOCH));
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

struct Inserted {
    is_new: bool,
    /// The id of the message that was forgotten instead.
    forgotten: Option<MessageId>,
}

impl Places {
    fn insert(&mut self, room: &RoomId, id: MessageId) -> Inserted {
        let place = (id, room.clone());
        if self.0.contains(&place) {
            return Inserted { is_new: false, forgotten: None };
        }
        let is_full = self.0.len() == MAX_DOUBTS;
        let forgotten = is_full.then(|| self.0.pop_first()).flatten().map(|(id, _)| id);
        self.0.insert(place);
        Inserted { is_new: true, forgotten }
    }

    /// Returns whether the message was one of them.
    fn remove(&mut self, room: &RoomId, id: MessageId) -> bool {
        self.0.remove(&(id, room.clone()))
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

    #[test]
    fn each_failed_message_goes_out_once_if_it_is_sent_again() {
        let (mut doubts, room) = (Doubts::new(SystemTime::UNIX_EPOCH), RoomId::from("r"));
        let failed = 2 * MAX_DOUBTS as u64;
        (1..=failed).for_each(|n| doubts.note_failed(&room, id(n)));
        for n in [1, MAX_DOUBTS as u64, MAX_DOUBTS as u64 + 1, failed] {
            assert!(!doubts.is_out(&room, id(n), false), "{n} was never published");
            assert!(doubts.is_out(&room, id(n), false), "{n} is published");
        }
        assert!(doubts.is_out(&room, id(failed + 1), false));
    }
}
