//! The messages of one room on their way to the store: which of them are stored together, and what becomes of them.

use std::collections::VecDeque;

use crate::config::Keep;
use crate::ids::MessageId;

/// Messages in the order of the room. Those that the store works on are the first ones.
#[derive(Debug)]
pub(super) struct StoreQueue<T> {
    entries: VecDeque<Entry<T>>,
    /// How many of them the store works on.
    batch: usize,
    bytes: usize,
    /// Whether a task works on the queue.
    pub(super) is_running: bool,
    /// Messages with higher ids have been published in the order of their ids, and the store has no others. `None` until the
    /// id of the latest message in the store is known.
    pub(super) in_order_after: Option<MessageId>,
}

#[derive(Debug)]
struct Entry<T> {
    /// It has one as soon as the store gets it, or the members.
    id: Option<MessageId>,
    keep: Keep,
    is_out: bool,
    bytes: usize,
    message: T,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The members get it.
    Out(MessageId),
    /// The store has had it before, under this id.
    Known(MessageId),
    /// It could not be stored, but the store may have it nevertheless.
    Failed(MessageId),
}

impl<T> Default for StoreQueue<T> {
    fn default() -> StoreQueue<T> {
        StoreQueue { entries: VecDeque::new(), batch: 0, bytes: 0, is_running: false, in_order_after: None }
    }
}

impl<T> StoreQueue<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message waits that the members do not have yet: no later one may overtake it.
    pub(super) fn has_waiting(&self) -> bool {
        self.entries.back().is_some_and(|entry| !entry.is_out)
    }

    /// The ids of the messages that have one although the members do not have them yet, the lowest first.
    pub(super) fn to_come(&self) -> impl Iterator<Item = MessageId> {
        self.entries.iter().take(self.batch).filter(|entry| !entry.is_out).filter_map(|entry| entry.id)
    }

    /// The messages that the members have, but perhaps not the store.
    pub(super) fn out(&self) -> impl Iterator<Item = (MessageId, &T)> {
        self.entries.iter().filter(|entry| entry.is_out).filter_map(|entry| Some((entry.id?, &entry.message)))
    }

    /// Adds the room's next message. With an `id`, the members have it already.
    pub(super) fn push(&mut self, keep: Keep, id: Option<MessageId>, bytes: usize, message: T) {
        self.bytes += bytes;
        self.entries.push_back(Entry { id, keep, is_out: id.is_some(), bytes, message });
    }

    /// Begins with the next messages, and returns those that are to be stored.
    pub(super) fn begin(
        &mut self,
        max: usize,
        max_bytes: usize,
        mut next_id: impl FnMut() -> MessageId,
    ) -> Vec<(MessageId, &T)> {
        let (mut stored, mut bytes) = (Vec::new(), 0);
        self.batch = 0;
        for entry in self.entries.iter_mut().take(max) {
            bytes += entry.bytes;
            if self.batch > 0 && bytes > max_bytes {
                break;
            }
            self.batch += 1;
            let id = *entry.id.get_or_insert_with(&mut next_id);
            if entry.keep != Keep::Never {
                stored.push((id, &entry.message));
            }
        }
        stored
    }

    /// Finishes the batch. `stored` has the ids under which the store has the messages, and `None` for those that it
    /// refuses. It is `None` itself if the store has failed. Messages that the members have before the store does stay
    /// in the queue until they are stored or refused. Returns the others.
    #[must_use = "they hold values of the host, and must not be dropped under a lock"]
    pub(super) fn finish(
        &mut self,
        stored: Option<Vec<Option<MessageId>>>,
        mut then: impl FnMut(&mut T, Outcome),
    ) -> Vec<T> {
        let has_failed = stored.is_none();
        let mut stored = stored.into_iter().flatten();
        let (mut again, mut done) = (Vec::new(), Vec::new());
        for mut entry in self.entries.drain(..std::mem::take(&mut self.batch)) {
            let Some(id) = entry.id else { continue };
            let stored = if entry.keep == Keep::Never { None } else { stored.next().flatten() };
            let outcome = match stored {
                Some(stored) if stored != id => Outcome::Known(stored),
                None if entry.keep == Keep::First => Outcome::Failed(id),
                Some(_) | None => Outcome::Out(id),
            };
            if !entry.is_out {
                then(&mut entry.message, outcome);
            }
            if has_failed && entry.keep == Keep::Behind {
                entry.is_out = true;
                again.push(entry);
            } else {
                self.bytes -= entry.bytes;
                done.push(entry.message);
            }
        }
        again.into_iter().rev().for_each(|entry| self.entries.push_front(entry));
        done
    }

    /// Removes the messages that the members have already, except those that the store works on, and returns them.
    #[must_use = "they hold values of the host, and must not be dropped under a lock"]
    pub(super) fn take_out(&mut self) -> Vec<T> {
        self.remove(|entry| entry.is_out)
    }

    /// Removes the messages that the members do not have yet, except those that the store works on, and returns them.
    #[must_use = "they hold values of the host, and must not be dropped under a lock"]
    pub(super) fn refuse(&mut self) -> Vec<T> {
        self.remove(|entry| !entry.is_out)
    }

    /// Removes all messages except those that the store works on, and returns them.
    #[must_use = "they hold values of the host, and must not be dropped under a lock"]
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.remove(|_| true)
    }

    /// Nobody works on the queue any more. Removes the messages that the members do not have, and returns them.
    #[must_use = "they hold values of the host, and must not be dropped under a lock"]
    pub(super) fn abandon(&mut self) -> Vec<T> {
        self.is_running = false;
        self.batch = 0;
        self.refuse()
    }

    fn remove(&mut self, which: impl FnMut(&Entry<T>) -> bool) -> Vec<T> {
        let (removed, kept): (Vec<_>, Vec<_>) =
            self.entries.split_off(self.batch).into_iter().partition(which);
        self.entries.extend(kept);
        self.bytes -= removed.iter().map(|entry| entry.bytes).sum::<usize>();
        removed.into_iter().map(|entry| entry.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> MessageId {
        MessageId::from_u64(n).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Keep),
        Begin(usize),
        Finish(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let keep = prop_oneof![Just(Keep::First), Just(Keep::Behind), Just(Keep::Never)];
        let step = prop_oneof![
            keep.prop_map(Step::Push),
            (1..4_usize).prop_map(Step::Begin),
            any::<bool>().prop_map(Step::Finish)
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        #[test]
        fn ids_rise_on_the_way_out_and_in_the_store(steps in steps()) {
            let (mut queue, mut last, mut pushed) = (StoreQueue::default(), 0, 0);
            let (mut out, mut stored, mut failed) = (Vec::new(), Vec::new(), Vec::new());
            let (mut batch, mut done_len) = (None, 0);
            for step in steps.into_iter().chain([Step::Begin(99), Step::Finish(true), Step::Begin(99), Step::Finish(true)]) {
                match step {
                    Step::Push(keep) => {
                        pushed += 1;
                        let is_out = keep == Keep::Behind && !queue.has_waiting();
                        let id = is_out.then(|| { last += 1; id(last) });
                        out.extend(id.map(|id| (id, pushed)));
                        queue.push(keep, id, 1, (pushed, keep));
                    }
                    Step::Begin(max) if batch.is_none() => {
                        let begun = queue.begin(max, 99, || { last += 1; id(last) });
                        batch = Some(begun.into_iter().map(|(id, (n, _))| (id, *n)).collect::<Vec<_>>());
                    }
                    Step::Finish(is_ok) => {
                        let Some(batch) = batch.take() else { continue };
                        let ids = is_ok.then(|| batch.iter().map(|(id, _)| Some(*id)).collect());
                        if is_ok {
                            stored.extend(batch);
                        }
                        let done = queue.finish(ids, |(n, keep), outcome| match outcome {
                            Outcome::Out(id) => {
                                assert!(*keep != Keep::First || stored.contains(&(id, *n)), "{n} was not stored first");
                                out.push((id, *n));
                            }
                            Outcome::Failed(_) => failed.push(*n),
                            Outcome::Known(_) => panic!("{n} is new"),
                        });
                        done_len += done.len();
                    }
                    Step::Begin(_) => {}
                }
            }
            prop_assert!(queue.is_empty() && queue.bytes() == 0 && done_len == pushed);
            prop_assert!(out.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{:?}", out);
            prop_assert!(stored.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{:?}", stored);
            prop_assert_eq!(out.len() + failed.len(), pushed);
        }
    }

    #[test]
    fn a_message_that_the_store_has_had_before_is_known() {
        let mut queue = StoreQueue::default();
        for name in ["a", "b", "c"] {
            queue.push(Keep::First, None, 1, name);
        }
        let mut next = 6;
        let begun = queue.begin(2, 99, || {
            next += 1;
            id(next)
        });
        assert_eq!(begun, [(id(7), &"a"), (id(8), &"b")]);
        let mut seen = Vec::new();
        let done =
            queue.finish(Some(vec![Some(id(7)), Some(id(3))]), |name, outcome| seen.push((*name, outcome)));
        assert_eq!(done, ["a", "b"]);
        assert_eq!(seen, [("a", Outcome::Out(id(7))), ("b", Outcome::Known(id(3)))]);
        assert!(queue.has_waiting() && queue.bytes() == 1);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_has_at_least_one_message() {
        let mut queue = StoreQueue::default();
        for bytes in [90, 10, 10] {
            queue.push(Keep::First, None, bytes, bytes);
        }
        assert_eq!(queue.begin(9, 50, || id(1)).len(), 1);
        assert_eq!(queue.finish(None, |_, _| {}), [90]);
        assert_eq!(queue.begin(9, 50, || id(2)).len(), 2);
    }
}
