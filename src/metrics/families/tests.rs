//! Each field of [`Stats`] has a metric, and the documentation says which.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::metrics::open_metrics::encode;
use crate::protocol::close::LeaveReason;
use crate::stats::{Counters, LiveHistogram};

/// A value that can be changed.
trait Change {
    fn change(&mut self);
}

impl Change for u64 {
    fn change(&mut self) {
        *self += 1;
    }
}

impl Change for usize {
    fn change(&mut self) {
        *self += 1;
    }
}

impl Change for bool {
    fn change(&mut self) {
        *self = !*self;
    }
}

impl Change for Histogram {
    fn change(&mut self) {
        let times = LiveHistogram::default();
        times.add(Duration::from_secs(1));
        *self = times.read();
    }
}

impl Change for ReasonCounts {
    fn change(&mut self) {
        let counters = Counters::default();
        counters.closed.add(LeaveReason::Lost);
        *self = counters.read().closed;
    }
}

impl Change for BTreeMap<&'static str, Histogram> {
    fn change(&mut self) {
        self.entry("may_enter").or_default().change();
    }
}

/// Numbers that are high enough to be subtracted from.
fn before() -> Stats {
    Stats {
        connections: 9,
        sessions: 9,
        entered: 9,
        refused: 9,
        hooks: [("may_enter", Histogram::default())].into(),
        broker: Some(BrokerStats::default()),
        ..Stats::default()
    }
}

/// Each field, with numbers in which only this field has changed. The compiler reports a field that is missing in a list.
fn changed_fields() -> Vec<(String, Stats)> {
    macro_rules! each {
        ($Struct:ident, $prefix:literal, $of:expr, $($field:ident)+) => {{
            let $Struct { $($field: _,)+ } = $Struct::default();
            let of: fn(&mut Stats) -> &mut $Struct = $of;
            [$({
                let mut stats = before();
                of(&mut stats).$field.change();
                (concat!($prefix, stringify!($field)).to_owned(), stats)
            }),+]
        }};
    }
    let of_node = each!(Stats, "", |stats| stats,
        connections pending rooms kept_rooms sessions users draining is_draining accepted refused refused_handshake
        refused_origin refused_auth refused_full refused_per_ip closed entered left left_by_reason moved_away messages
        deliveries received_bytes sent_bytes queued_bytes behind delivery hooks errors heartbeats_missed slow absent
        resumed not_resumed resume_unavailable replayed rate_limited flooded auth_failed lagged write_timeouts
        lifetime_over transient_dropped unavailable store_append store_page store_failures broker_enter broker_publish
        broker_lag broker
    );
    let of_broker = each!(BrokerStats, "broker.", |stats| stats.broker.as_mut().unwrap(),
        is_available reconnects events dropped_messages lost_members waiting
    );
    of_node.into_iter().filter(|(name, _)| name != "broker").chain(of_broker).collect()
}

impl Change for Option<BrokerStats> {
    fn change(&mut self) {
        *self = None;
    }
}

/// The lines of samples.
fn samples(stats: &Stats) -> BTreeSet<String> {
    let text = encode(&of(stats));
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The name of the metric that a sample belongs to.
fn metric(sample: &str) -> &str {
    let name = sample.split(['{', ' ']).next().unwrap();
    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

/// The fields from which the code computes each metric. The empty name has the fields without a metric.
fn fields_by_metric() -> BTreeMap<String, BTreeSet<String>> {
    let before = samples(&before());
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (field, stats) in changed_fields() {
        let changed = samples(&stats);
        let mut metrics: BTreeSet<&str> = changed.difference(&before).map(|sample| metric(sample)).collect();
        if metrics.is_empty() {
            metrics.insert("");
        }
        for metric in metrics {
            fields.entry(metric.to_owned()).or_default().insert(field.clone());
        }
    }
    fields
}

/// The texts in backticks, except for calls.
fn code(text: &str) -> BTreeSet<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.filter(|part| !part.contains('(')).map(str::to_owned).collect()
}

#[test]
fn the_documentation_names_the_fields_of_each_metric() {
    let docs = include_str!("../../../docs/metrics.md");
    let rows = docs.lines().filter(|line| line.starts_with("| `chat_rooms_")).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), code(cells[3]))
    });
    let documented: BTreeMap<_, _> = rows.collect();
    let mut fields = fields_by_metric();
    let without = fields.remove("").unwrap();
    for (metric, fields) in &fields {
        assert_eq!(documented.get(metric), Some(fields), "the fields of {metric}");
    }
    assert_eq!(documented.len(), fields.len(), "{documented:?}");
    let paragraph = docs.split("\n\n").find(|text| text.contains("have no metric of their own")).unwrap();
    let without_metric = code(paragraph.split("because").next().unwrap());
    assert_eq!(without_metric, without);
}
