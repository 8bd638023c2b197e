//! The order of the calls for a member.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ids::ConnectionId;
use crate::sync::{Mutex, lock};

/// Lets the calls for a member have their effects in the order of the calls.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<ConnectionId, LatestTurn>>>);

struct LatestTurn {
    number: u64,
    is_over: oneshot::Receiver<()>,
}

pub(super) struct Turn {
    turns: Turns,
    member: ConnectionId,
    number: u64,
    /// The one before.
    previous: Option<oneshot::Receiver<()>>,
    /// Dropped when this one is over.
    _is_over: oneshot::Sender<()>,
}

impl Turns {
    /// The turn after the latest one of a member.
    pub(super) fn next(&self, member: ConnectionId) -> Turn {
        let (over, is_over) = oneshot::channel();
        let mut turns = lock(&self.0);
        let number = turns.get(&member).map_or(0, |latest| latest.number + 1);
        let previous = turns.insert(member, LatestTurn { number, is_over }).map(|latest| latest.is_over);
        Turn { turns: self.clone(), member, number, previous, _is_over: over }
    }
}

impl Turn {
    pub(super) async fn begin(&mut self) {
        if let Some(previous) = self.previous.take() {
            // An error says that it is over, too.
            let _ = previous.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        if turns.get(&self.member).is_some_and(|latest| latest.number == self.number) {
            turns.remove(&self.member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_for_a_member_come_one_after_the_other() {
        let (turns, id) = (Turns::default(), ConnectionId(1));
        let (mut first, mut second, mut other) =
            (turns.next(id), turns.next(id), turns.next(ConnectionId(2)));
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
