//! Histograms of times.

use std::time::Duration;

use crate::stats::counter::Counter;

/// The upper bounds of the buckets: 1, 2 and 5 of each power of ten from 10 µs to 10 s.
const BOUNDS: [Duration; 19] = {
    let mut bounds = [Duration::ZERO; 19];
    let (mut at, mut micros) = (0, 10);
    while at < bounds.len() {
        bounds[at] = Duration::from_micros(micros);
        micros = if at % 3 == 1 { micros / 2 * 5 } else { micros * 2 };
        at += 1;
    }
    bounds
};

/// The last one has no bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// How long something took, and how often, since the engine was built.
///
/// All histograms have the same buckets: their bounds are 1, 2 and 5 times each power of ten from 10 µs to 10 s, and
/// the last bucket has everything that took longer. A field of [`Stats`](crate::Stats).
///
/// ```
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// use std::time::Duration;
///
/// let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
/// let delivery = rooms.stats().delivery;
/// let slow: u64 = delivery
///     .buckets()
///     .filter(|(bound, _)| bound.is_none_or(|bound| bound > Duration::from_millis(100)))
///     .map(|(_, count)| count)
///     .sum();
/// println!("{slow} of {} took over 100 ms", delivery.count());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// Returns the number of measured times.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the times.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns the buckets, the shortest times first. Each has its upper bound, which belongs to the bucket, and the
    /// number of times in it. The last bucket has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts)
    }
}

/// A histogram that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct LiveHistogram {
    counts: [Counter; BUCKETS],
    nanos: Counter,
}

impl LiveHistogram {
    pub(crate) fn add(&self, time: Duration) {
        self.counts[bucket(time)].add(1);
        self.nanos.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn read(&self) -> Histogram {
        let counts = std::array::from_fn(|at| self.counts[at].read());
        Histogram { counts, sum: Duration::from_nanos(self.nanos.read()) }
    }
}

fn bucket(time: Duration) -> usize {
    BOUNDS.partition_point(|bound| *bound < time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_1_2_and_5_of_each_power_of_ten() {
        let micros: Vec<u128> = BOUNDS.iter().map(Duration::as_micros).collect();
        assert_eq!(micros[..7], [10, 20, 50, 100, 200, 500, 1000]);
        assert_eq!(micros[15..], [1_000_000, 2_000_000, 5_000_000, 10_000_000]);
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = LiveHistogram::default();
        let nanos = Duration::from_nanos;
        let times = [nanos(0), nanos(10_000), nanos(10_001), nanos(20_000), Duration::from_secs(11)];
        times.into_iter().for_each(|time| histogram.add(time));
        let read = histogram.read();
        let filled: Vec<_> = read.buckets().filter(|(_, count)| *count > 0).collect();
        let micros = |n| Some(Duration::from_micros(n));
        assert_eq!(filled, [(micros(10), 2), (micros(20), 2), (None, 1)]);
        assert_eq!((read.count(), read.sum()), (5, Duration::from_secs(11) + nanos(40_001)));
    }

    #[test]
    fn any_time_has_a_bucket() {
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BOUNDS.len()));
    }
}
