//! The ids of the latest messages of a sender, so that none is sent twice.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::protocol::receipt::Receipt;
use crate::protocol::resume::MAX_CIDS;
use crate::sync::{Mutex, lock};

/// `A` is what a message was acknowledged with.
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
    /// What a message was acknowledged with.
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

/// The ids of a session's latest messages, and of those that wait to be stored. Its lock comes after all others.
#[derive(Default)]
pub(crate) struct SentIds(Mutex<Sent>);

#[derive(Default)]
struct Sent {
    answered: MessageIds<Receipt>,
    waiting: Vec<Box<str>>,
}

/// The id of a message that waits to be stored. Until it is dropped, the session cannot have another one stored.
pub(crate) struct WaitingId {
    ids: Arc<SentIds>,
    cid: Box<str>,
}

impl SentIds {
    /// What a message was acknowledged with.
    pub(crate) fn answer_to(&self, cid: &str) -> Option<Receipt> {
        lock(&self.0).answered.answer_to(cid)
    }

    pub(crate) fn add(&self, cid: &str, receipt: Receipt) {
        lock(&self.0).answered.add(cid, receipt);
    }

    /// Notes that a message waits. `None` if one with this id waits already, or has been answered.
    pub(crate) fn wait(self: &Arc<Self>, cid: &str) -> Option<WaitingId> {
        let mut sent = lock(&self.0);
        if sent.answered.answer_to(cid).is_some() || sent.waiting.iter().any(|waiting| **waiting == *cid) {
            return None;
        }
        sent.waiting.push(cid.into());
        Some(WaitingId { ids: self.clone(), cid: cid.into() })
    }
}

impl WaitingId {
    /// The message has its place.
    pub(in crate::delivery) fn remember(self, receipt: Receipt) {
        self.ids.add(&self.cid, receipt);
    }
}

impl Drop for WaitingId {
    fn drop(&mut self) {
        lock(&self.ids.0).waiting.retain(|waiting| *waiting != self.cid);
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
