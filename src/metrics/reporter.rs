//! Reports the metrics to the recorder that the host has installed (feature `metrics`).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use metrics::{SharedString, Unit};

use crate::metrics::families::{self, Family, Kind, Label, Value};
use crate::stats::{Histogram, Stats};

/// Reports the numbers of [`Stats`] to the recorder of the [`metrics`] crate that your application has installed.
///
/// The names are those of [`Stats::to_open_metrics`], without the suffixes `_total`, `_bucket`, `_sum` and `_count`. This
/// crate installs no recorder. Without one, nothing happens.
///
/// Counters and gauges have the same values as in [`Stats`]. The `metrics` crate takes single values instead of
/// histograms, so each time is reported as the upper bound of its bucket, or as 20 s if it is over 10 s. If your
/// recorder has buckets with the same bounds, their numbers are exact.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// use std::time::Duration;
/// use tower_chat_rooms::{ChatRooms, MetricsReporter};
///
/// let rooms = ChatRooms::builder().build()?;
/// tokio::spawn(async move {
///     let mut reporter = MetricsReporter::new();
///     loop {
///         reporter.report(&rooms.stats());
///         tokio::time::sleep(Duration::from_secs(5)).await;
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
#[derive(Default)]
pub struct MetricsReporter {
    has_described: bool,
    /// What was reported of histograms.
    reported: HashMap<(&'static str, Option<Label>), Histogram>,
}

impl MetricsReporter {
    /// Creates a reporter. Use exactly one for each [`ChatRooms`](crate::ChatRooms): two reporters would report each
    /// measured time twice.
    #[must_use]
    pub fn new() -> MetricsReporter {
        MetricsReporter::default()
    }

    /// Reports the numbers. Call it every few seconds, or before each export.
    ///
    /// At the first call, it also describes the metrics to the recorder, so install the recorder before it.
    pub fn report(&mut self, stats: &Stats) {
        let families = families::of(stats);
        if !self.has_described {
            self.has_described = true;
            families.iter().for_each(describe);
        }
        for Family { name, kind, samples, .. } in families {
            for sample in samples {
                match sample.value {
                    Value::Number(number) => report_number(name, kind, sample.label, number),
                    Value::Times(times) => {
                        let before = self.reported.insert((name, sample.label), *times);
                        report_times(name, sample.label, &before.unwrap_or_default(), &times);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for MetricsReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsReporter").finish_non_exhaustive()
    }
}

fn describe(family: &Family) {
    let (name, help) = (family.name, SharedString::const_str(family.help));
    let unit = match family.unit {
        Some(families::BYTES) => Unit::Bytes,
        Some(_) => Unit::Seconds,
        None => Unit::Count,
    };
    match family.kind {
        Kind::Counter => metrics::describe_counter!(name, unit, help),
        Kind::Gauge => metrics::describe_gauge!(name, unit, help),
        Kind::Histogram => metrics::describe_histogram!(name, unit, help),
    }
}

fn report_number(name: &'static str, kind: Kind, label: Option<Label>, number: u64) {
    let labels = labels(label);
    match kind {
        Kind::Counter => metrics::counter!(name, labels).absolute(number),
        _ => metrics::gauge!(name, labels).set(number as f64),
    }
}

fn report_times(name: &'static str, label: Option<Label>, before: &Histogram, now: &Histogram) {
    let histogram = metrics::histogram!(name, labels(label));
    for ((bound, now), (_, before)) in now.buckets().zip(before.buckets()) {
        let more = now.saturating_sub(before);
        if more > 0 {
            let time = bound.unwrap_or(BEYOND);
            histogram.record_many(time, usize::try_from(more).unwrap_or(usize::MAX));
        }
    }
}

/// What is reported for times that exceed the last bound.
const BEYOND: Duration = Duration::from_secs(20);

fn labels(label: Option<Label>) -> Vec<metrics::Label> {
    let label = label.map(|Label { name, value }| metrics::Label::from_static_parts(name, value));
    label.into_iter().collect()
}
