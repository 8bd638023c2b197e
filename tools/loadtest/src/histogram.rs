//! A log-linear histogram with fixed memory and a precision of 1.6 %, filled from any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each power of two is divided into `1 << BITS` buckets of equal width.
const BITS: u32 = 6;
/// The longest time that is distinguished (18 minutes).
const MAX: u64 = 1 << 40;
/// Bounds of the printed buckets: 1, 2 and 5 of each decade, from 1 µs.
const STEPS: [u64; 3] = [1, 2, 5];

/// Times in nanoseconds.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

/// The number of times in `from..to` (nanoseconds).
pub(crate) struct Row {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
}

impl Histogram {
    pub(crate) fn record(&self, nanos: u64) {
        self.buckets[index(nanos)].fetch_add(1, Relaxed);
        self.max.fetch_max(nanos, Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Relaxed)).sum()
    }

    pub(crate) fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// The time that this share of all does not exceed; 0 if there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let mut left = ((self.count() as f64 * share).ceil() as u64).max(1);
        for (n, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Relaxed);
            if count >= left {
                return top(n).min(self.max());
            }
            left -= count;
        }
        self.max()
    }

    /// The histogram in a few wide buckets, without the empty ones at both ends.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let bounds = (3..12).flat_map(|decade| STEPS.map(|step| step * 10_u64.pow(decade)));
        let mut rows = vec![];
        let mut from = 0;
        for to in bounds.chain([u64::MAX]) {
            rows.push(Row { from, to, count: 0 });
            from = to;
        }
        for (n, bucket) in self.buckets.iter().enumerate() {
            let at = rows.partition_point(|row| row.to <= top(n));
            rows[at].count += bucket.load(Relaxed);
        }
        let is_filled = |row: &Row| row.count > 0;
        let first = rows.iter().position(is_filled).unwrap_or(rows.len());
        let end = rows.iter().rposition(is_filled).map_or(first, |last| last + 1);
        rows.drain(first..end).collect()
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = (0..=index(MAX)).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, max: AtomicU64::new(0) }
    }
}

fn index(nanos: u64) -> usize {
    let nanos = nanos.min(MAX);
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS + 1);
    ((u64::from(shift) << BITS) + (nanos >> shift)) as usize
}

/// The longest time in bucket `n`.
fn top(n: usize) -> u64 {
    let shift = (n as u64 >> BITS).saturating_sub(1);
    ((n as u64 - (shift << BITS) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_adjacent_and_narrow() {
        for n in 1..index(MAX) {
            let (bottom, top) = (top(n - 1) + 1, top(n));
            assert_eq!((index(bottom), index(top)), (n, n));
            assert!((top - bottom) as f64 <= bottom as f64 / 64.0);
        }
    }

    #[test]
    fn quantiles_and_rows() {
        let h = Histogram::default();
        assert_eq!((h.count(), h.quantile(0.5), h.rows().len()), (0, 0, 0));
        (1..=1000).for_each(|us| h.record(us * 1000));
        let near = |share: f64, us: f64| (h.quantile(share) as f64 / 1000.0 / us - 1.0).abs() < 0.02;
        assert!(near(0.5, 500.0) && near(0.99, 990.0));
        assert_eq!(h.quantile(1.0), 1_000_000);
        assert_eq!(h.rows().iter().map(|r| r.count).sum::<u64>(), 1000);
    }
}
