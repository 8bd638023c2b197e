//! The ids of a session's latest messages, so that none is sent twice.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::protocol::resume::MAX_CIDS;

#[derive(Debug, Default)]
pub(super) struct MessageIds {
    hasher: RandomState,
    /// Each id is represented by a 64-bit hash, with keys that no client knows.
    seen: VecDeque<(u64, u64)>,
}

impl MessageIds {
    /// The number with which a message was acknowledged.
    pub(super) fn number_of(&self, cid: &str) -> Option<u64> {
        let hash = self.hasher.hash_one(cid);
        self.seen.iter().find(|(seen, _)| *seen == hash).map(|(_, number)| *number)
    }

    pub(super) fn add(&mut self, cid: &str, number: u64) {
        if self.seen.len() == MAX_CIDS {
            self.seen.pop_front();
        }
        self.seen.push_back((self.hasher.hash_one(cid), number));
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
        assert_eq!(ids.number_of("c0"), None);
        assert_eq!(ids.number_of("c1"), Some(8));
        assert_eq!(ids.number_of(&format!("c{MAX_CIDS}")), Some(MAX_CIDS as u64 + 7));
        assert_eq!(ids.number_of("never"), None);
        assert_eq!(ids.seen.len(), MAX_CIDS);
    }
}
