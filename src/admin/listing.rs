//! Pages of a list that is not kept in order: each request looks at all entries, and keeps those of its page.

use std::collections::BinaryHeap;

/// The first entries after a cursor, in order. It holds at most a page, no matter how many entries are offered.
#[derive(Debug)]
pub(super) struct Listing<K, V> {
    after: Option<K>,
    limit: usize,
    /// The entries of the page and one more, which shows whether there is another page. The last one is on top.
    first: BinaryHeap<Entry<K, V>>,
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<K, V> {
    pub(super) entries: Vec<(K, V)>,
    /// Whether there are entries after these.
    pub(super) has_more: bool,
}

#[derive(Debug)]
struct Entry<K, V>(K, V);

impl<K: Ord, V> Listing<K, V> {
    pub(super) fn new(after: Option<K>, limit: usize) -> Listing<K, V> {
        Listing { after, limit, first: BinaryHeap::new() }
    }

    /// Whether an entry belongs to the page, as far as is known. `compare` compares another key with that of the entry.
    pub(super) fn has_place_for(&self, compare: impl Fn(&K) -> std::cmp::Ordering) -> bool {
        self.after.as_ref().is_none_or(|after| compare(after).is_lt())
            && (self.first.len() <= self.limit
                || self.first.peek().is_none_or(|last| compare(&last.0).is_gt()))
    }

    /// Adds an entry, if it belongs to the page.
    pub(super) fn offer(&mut self, key: K, value: V) {
        if self.has_place_for(|other| other.cmp(&key)) {
            self.first.push(Entry(key, value));
            if self.first.len() > self.limit + 1 {
                self.first.pop();
            }
        }
    }

    pub(super) fn finish(self) -> Page<K, V> {
        let has_more = self.first.len() > self.limit;
        let sorted = self.first.into_sorted_vec().into_iter().take(self.limit);
        Page { entries: sorted.map(|Entry(key, value)| (key, value)).collect(), has_more }
    }
}

impl<K: Ord, V> Ord for Entry<K, V> {
    fn cmp(&self, other: &Entry<K, V>) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K: Ord, V> PartialOrd for Entry<K, V> {
    fn partial_cmp(&self, other: &Entry<K, V>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, V> PartialEq for Entry<K, V> {
    fn eq(&self, other: &Entry<K, V>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, V> Eq for Entry<K, V> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Together, the pages are the list in order, no matter in which order the entries are offered.
        #[test]
        fn pages_are_the_sorted_list(
            keys in prop::collection::hash_set(0..1000_u32, 0..60).prop_map(Vec::from_iter),
            limit in 1..9_usize,
        ) {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let mut listing = Listing::new(after, limit);
                keys.iter().for_each(|key| listing.offer(*key, ()));
                prop_assert!(listing.first.len() <= limit + 1);
                let Page { entries, has_more } = listing.finish();
                prop_assert!(entries.len() == limit || !has_more);
                seen.extend(entries.into_iter().map(|(key, ())| key));
                if !has_more {
                    break;
                }
                after = seen.last().copied();
            }
            let mut sorted = keys;
            sorted.sort_unstable();
            prop_assert_eq!(seen, sorted);
        }
    }
}
