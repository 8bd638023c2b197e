//! The ids of the latest messages of a sender, so that none is sent twice.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::protocol::resume::MAX_CIDS;

/// `A` is with what a message was acknowledged.
#[derive(Debug)]
pub(crate) struct MessageIds<A> {
    hasher: RandomState,
    /// Each id is represented by a 64-bit hash, with keys that no sender knows.
    seen: VecDeque<(u64, A)>,
}

impl<A> Default for MessageIds<A> {
    fn default() -> MessageIds<A> {
        MessageIds { hasher: RandomState::default(), seen: VecDeque::new() }
    }
}

impl<A: Copy> MessageIds<A> {
    /// With what a message was acknowledged.
    pub(crate) fn answer_to(&self, cid: &str) -> Option<A> {
        let hash = self.hasher.hash_one(cid);
        self.seen.iter().find(|(seen, _)| *seen == hash).map(|(_, answer)| *answer)
    }

    pub(crate) fn add(&mut self, cid: &str, answer: A) {
        if self.seen.len() == MAX_CIDS {
            self.seen.pop_front();
        }
        self.seen.push_back((self.hasher.hash_one(cid), answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_messages_are_known() {
        let mut ids = MessageIds::default();
        for n in 0..MAX_CIDS as u64 + 1 {
            ids.add(&format!("c{n}"), n + 7);
        }
        assert_eq!(ids.answer_to("c0"), None);
        assert_eq!(ids.answer_to("c1"), Some(8));
        assert_eq!(ids.answer_to(&format!("c{MAX_CIDS}")), Some(MAX_CIDS as u64 + 7));
        assert_eq!(ids.answer_to("never"), None);
        assert_eq!(ids.seen.len(), MAX_CIDS);
    }
}
