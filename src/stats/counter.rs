//! Counters and gauges that many tasks change.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cells of a [`Striped`] counter.
const STRIPES: usize = 8;

/// A counter that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

/// A counter that busy tasks add to. Those that choose different cells do not slow each other down.
#[derive(Debug, Default)]
pub(crate) struct Striped([Padded; STRIPES]);

/// Each cell has its own cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(Counter);

/// A number that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Striped {
    /// Adds to the cell that belongs to this hash.
    pub(crate) fn add(&self, hash: u64, n: u64) {
        self.0[hash as usize % STRIPES].0.add(n);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.read()).sum()
    }
}

impl Gauge {
    /// Replaces what the caller has contributed before.
    pub(crate) fn replace(&self, before: u64, now: u64) {
        if before != now {
            // The sum is right, whatever its parts are in between.
            self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> u64 {
        // A part may be missing at the moment.
        u64::try_from(self.0.load(Ordering::Relaxed).cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_the_sum_of_what_its_contributors_have() {
        let gauge = Gauge::default();
        gauge.replace(0, 7);
        gauge.replace(0, 5);
        gauge.replace(7, 1);
        assert_eq!(gauge.read(), 6);
        gauge.replace(1, 0);
        gauge.replace(5, 0);
        assert_eq!(gauge.read(), 0);
        gauge.replace(3, 0);
        assert_eq!(gauge.read(), 0, "never negative");
    }

    #[test]
    fn a_striped_counter_is_the_sum_of_its_cells() {
        let counter = Striped::default();
        for hash in [0, 1, 9, u64::MAX] {
            counter.add(hash, 10);
        }
        assert_eq!(counter.read(), 40);
    }
}
