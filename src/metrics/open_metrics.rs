//! The text format OpenMetrics 1.0.

use std::fmt::Write;
use std::time::Duration;

use crate::metrics::families::{Family, Kind, Label, Value};
use crate::stats::Histogram;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn encode(families: &[Family]) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in families {
        push_family(&mut text, family);
    }
    text.push_str("# EOF\n");
    text
}

fn push_family(text: &mut String, family: &Family) {
    let Family { name, kind, unit, help, samples } = family;
    let (kind_name, suffix) = match kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
        Kind::Histogram => ("histogram", ""),
    };
    push(text, format_args!("# TYPE {name} {kind_name}\n"));
    if let Some(unit) = unit {
        push(text, format_args!("# UNIT {name} {unit}\n"));
    }
    push(text, format_args!("# HELP {name} {help}\n"));
    for sample in samples {
        match &sample.value {
            Value::Number(number) => push_sample(text, (name, suffix), sample.label, None, number),
            Value::Times(times) => push_histogram(text, name, sample.label, times),
        }
    }
}

fn push_histogram(text: &mut String, name: &str, label: Option<Label>, times: &Histogram) {
    let mut count = 0;
    for (bound, more) in times.buckets() {
        count += more;
        let bound = bound.map_or("+Inf".to_owned(), seconds);
        push_sample(text, (name, "_bucket"), label, Some(&bound), count);
    }
    push_sample(text, (name, "_sum"), label, None, seconds(times.sum()));
    push_sample(text, (name, "_count"), label, None, count);
}

fn push_sample(
    text: &mut String,
    (name, suffix): (&str, &str),
    label: Option<Label>,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    push(text, format_args!("{name}{suffix}"));
    match (label, bound) {
        (None, None) => {}
        (Some(Label { name, value }), None) => push(text, format_args!("{{{name}=\"{value}\"}}")),
        (None, Some(bound)) => push(text, format_args!("{{le=\"{bound}\"}}")),
        (Some(Label { name, value }), Some(bound)) => {
            push(text, format_args!("{{{name}=\"{value}\",le=\"{bound}\"}}"));
        }
    }
    push(text, format_args!(" {value}\n"));
}

/// Seconds as a decimal number with a fraction, which the specification requires for bounds.
fn seconds(time: Duration) -> String {
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    let digits = format!("{nanos:09}");
    let fraction = digits.trim_end_matches('0');
    format!("{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = text.write_fmt(part);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::metrics::families;
    use crate::stats::{BrokerStats, LiveHistogram, Stats};

    fn full() -> Stats {
        let times = LiveHistogram::default();
        [30, 70, 20_000_000].into_iter().for_each(|micros| times.add(Duration::from_micros(micros)));
        Stats {
            delivery: times.read(),
            hooks: [("may_send", times.read()), ("entered", times.read())].into(),
            messages: 7,
            broker: Some(BrokerStats::default()),
            ..Stats::default()
        }
    }

    #[test]
    fn seconds_are_exact_and_never_integers() {
        for (nanos, text) in [
            (0, "0.0"),
            (1, "0.000000001"),
            (10_000, "0.00001"),
            (500_000_000, "0.5"),
            (10_000_000_000, "10.0"),
            (20_000_100_000, "20.0001"),
        ] {
            assert_eq!(seconds(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn counters_gauges_and_histograms_are_written_as_the_specification_wants_them() {
        let text = full().to_open_metrics();
        assert!(text.contains(
            "# TYPE chat_rooms_messages counter\n# HELP chat_rooms_messages Messages of members that were published.\n\
             chat_rooms_messages_total 7\n"
        ));
        assert!(text.contains(
            "# TYPE chat_rooms_send_queue_bytes gauge\n# UNIT chat_rooms_send_queue_bytes bytes\n\
             # HELP chat_rooms_send_queue_bytes Bytes that wait in send queues.\nchat_rooms_send_queue_bytes 0\n"
        ));
        for line in [
            "chat_rooms_delivery_seconds_bucket{le=\"0.00002\"} 0",
            "chat_rooms_delivery_seconds_bucket{le=\"0.00005\"} 1",
            "chat_rooms_delivery_seconds_bucket{le=\"0.0001\"} 2",
            "chat_rooms_delivery_seconds_bucket{le=\"10.0\"} 2",
            "chat_rooms_delivery_seconds_bucket{le=\"+Inf\"} 3",
            "chat_rooms_delivery_seconds_sum 20.0001",
            "chat_rooms_delivery_seconds_count 3",
            "chat_rooms_hook_seconds_bucket{hook=\"may_send\",le=\"0.0001\"} 2",
            "chat_rooms_hook_seconds_sum{hook=\"entered\"} 20.0001",
            "chat_rooms_connections{state=\"pending\"} 0",
            "chat_rooms_connections_closed_total{reason=\"heartbeat_missed\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"));
    }

    #[test]
    fn names_units_and_labels_follow_the_rules() {
        let is_name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let mut names = HashSet::new();
        for Family { name, kind, unit, help, samples } in families::of(&full()) {
            assert!(is_name(name) && name.starts_with("chat_rooms_") && names.insert(name), "{name}");
            assert!(unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '"']), "{name}");
            for suffix in ["_total", "_count", "_sum", "_bucket", "_created", "_info"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            let mut labels = HashSet::new();
            for sample in samples {
                assert_eq!(matches!(sample.value, Value::Times(_)), kind == Kind::Histogram, "{name}");
                let is_valid = |label: Label| is_name(label.name) && is_name(label.value);
                assert!(sample.label.is_none_or(is_valid) && labels.insert(sample.label), "{name}");
            }
        }
    }
}
