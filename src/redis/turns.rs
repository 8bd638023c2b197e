//! The order of the calls for a member, or of the host for a room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::{Mutex, lock};

/// Lets the calls with the same key have their effects in the order of the calls.
pub(super) struct Turns<K>(Arc<Mutex<HashMap<K, LatestTurn>>>);

struct LatestTurn {
    number: u64,
    is_over: oneshot::Receiver<()>,
}

pub(super) struct Turn<K: Eq + Hash> {
    turns: Turns<K>,
    key: K,
    number: u64,
    /// The one before.
    previous: Option<oneshot::Receiver<()>>,
    /// Dropped when this one is over.
    _is_over: oneshot::Sender<()>,
}

impl<K> Default for Turns<K> {
    fn default() -> Turns<K> {
        Turns(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// The turn after the latest one with this key.
    pub(super) fn next(&self, key: K) -> Turn<K> {
        let (over, is_over) = oneshot::channel();
        let mut turns = lock(&self.0);
        let number = turns.get(&key).map_or(0, |latest| latest.number + 1);
        let previous = turns.insert(key.clone(), LatestTurn { number, is_over }).map(|latest| latest.is_over);
        Turn { turns: Turns(self.0.clone()), key, number, previous, _is_over: over }
    }
}

impl<K: Eq + Hash> Turn<K> {
    pub(super) async fn begin(&mut self) {
        if let Some(previous) = self.previous.take() {
            // An error says that it is over, too.
            let _ = previous.await;
        }
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        if turns.get(&self.key).is_some_and(|latest| latest.number == self.number) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_with_the_same_key_come_one_after_the_other() {
        let turns = Turns::default();
        let (mut first, mut second, mut other) = (turns.next(1), turns.next(1), turns.next(2));
        first.begin().await;
        other.begin().await;
        let waiting = tokio::spawn(async move { second.begin().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(other);
        assert!(lock(&turns.0).is_empty());
    }
}
