//! The ids of the messages that a client has received in a room of a server with a message store.

use std::collections::{HashSet, VecDeque};

/// How many ids are remembered.
const MAX_IDS: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct MessageIds {
    /// The client has all messages up to this one, as far as there is no gap. `None` if the server has no store.
    last: Option<u64>,
    /// Once the client has all frames up to this `seq`, later messages have higher ids than this one.
    entered: Option<(u64, u64)>,
    /// After a crash of the server, a message may come twice.
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl MessageIds {
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// The client has entered. Messages after this `seq` have higher ids than `id`.
    pub(super) fn enter(&mut self, id: Option<u64>, seq: u64) {
        self.last = id.map(|_| self.last.unwrap_or(0));
        self.entered = id.map(|id| (seq, id));
    }

    /// The client has all frames up to this one, as far as there is no gap.
    pub(super) fn reach(&mut self, seq: u64) {
        if let Some((_, id)) = self.entered.take_if(|(entered_at, _)| *entered_at <= seq) {
            self.last = self.last.max(Some(id));
        }
    }

    /// Notes a message. Returns false if it was received before.
    pub(super) fn receive(&mut self, id: Option<u64>) -> bool {
        let (Some(last), Some(id)) = (&mut self.last, id) else { return true };
        *last = id.max(*last);
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_the_last_one_never_falls() {
        let mut ids = MessageIds::default();
        assert!(ids.receive(Some(7)) && ids.receive(Some(7)), "there is no store");
        assert_eq!(ids.last(), None);
        ids.enter(Some(10), 5);
        assert_eq!(ids.last(), Some(0));
        ids.reach(5);
        assert_eq!(ids.last(), Some(10));
        for id in [12, 11] {
            assert!(ids.receive(Some(id)) && !ids.receive(Some(id)));
        }
        assert_eq!(ids.last(), Some(12));
        ids.enter(Some(20), 8);
        ids.reach(7);
        assert_eq!(ids.last(), Some(12), "until the replayed frames have arrived");
        ids.reach(8);
        assert_eq!(ids.last(), Some(20));
        ids.enter(Some(15), 8);
        ids.reach(9);
        assert_eq!(ids.last(), Some(20));
        assert!((100..100 + MAX_IDS as u64).all(|id| ids.receive(Some(id))));
        assert!(ids.receive(Some(11)), "it is forgotten");
        ids.enter(None, 9);
        ids.reach(9);
        assert_eq!(ids.last(), None);
    }
}
