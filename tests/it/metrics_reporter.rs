//! `MetricsReporter`: the same numbers, through the recorder of the crate `metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use serde_json::json;
use tower_chat_rooms::MetricsReporter;

use crate::support::{Client, OpenMetrics, unlimited};

/// What was recorded, by names with labels as in the text.
#[derive(Default)]
struct Recorded {
    numbers: Mutex<BTreeMap<String, Arc<Number>>>,
    times: Mutex<BTreeMap<String, Arc<Times>>>,
    descriptions: Mutex<BTreeMap<String, (Option<Unit>, String)>>,
}

#[derive(Default)]
struct Number(AtomicU64);

#[derive(Default)]
struct Times(Mutex<Vec<f64>>);

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Number {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

impl HistogramFn for Times {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn name_of(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
    if labels.is_empty() { key.name().into() } else { format!("{}{{{}}}", key.name(), labels.join(",")) }
}

impl Recorded {
    fn describe(&self, key: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let before = self.descriptions.lock().unwrap().insert(key.as_str().into(), (unit, text.to_string()));
        assert!(before.is_none(), "{} is described twice", key.as_str());
    }

    fn number(&self, key: &Key) -> Arc<Number> {
        self.numbers.lock().unwrap().entry(name_of(key)).or_default().clone()
    }

    fn get(&self, name: &str) -> u64 {
        self.numbers.lock().unwrap()[name].0.load(Ordering::Relaxed)
    }

    fn times(&self, name: &str) -> Vec<f64> {
        self.times.lock().unwrap()[name].0.lock().unwrap().clone()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.times.lock().unwrap().entry(name_of(key)).or_default().clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_gets_the_same_names_and_numbers() {
    let rooms = unlimited().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let (recorded, mut reporter) = (Recorded::default(), MetricsReporter::new());
    let mut report = || with_local_recorder(&recorded, || reporter.report(&rooms.stats()));
    report();
    assert_eq!(recorded.get("chat_rooms_messages"), 0);
    for n in 0..17 {
        ann.send(json!({"event": "message", "message": n})).await;
        ann.next().await;
    }
    report();
    report();
    assert_eq!(recorded.get("chat_rooms_messages"), 17);
    assert_eq!(recorded.get("chat_rooms_connections{state=\"active\"}"), 1);
    assert_eq!(recorded.times("chat_rooms_delivery_seconds"), [0.00001, 0.00001], "each time once");
    ann.close().await;
    report();
    assert_eq!(recorded.get("chat_rooms_connections{state=\"active\"}"), 0);
    assert_eq!(recorded.get("chat_rooms_members_left{reason=\"closed\"}"), 1);

    let text = OpenMetrics::parse(&rooms.stats().to_open_metrics());
    let names: Vec<&str> = text.names().iter().map(|name| name.trim_end_matches("_total")).collect();
    let descriptions = recorded.descriptions.lock().unwrap();
    assert_eq!(names.len(), descriptions.len());
    for name in names {
        assert!(descriptions.contains_key(name), "{name} is not described");
    }
    assert_eq!(descriptions["chat_rooms_sent_bytes"].0, Some(Unit::Bytes));
    assert_eq!(descriptions["chat_rooms_store_seconds"].0, Some(Unit::Seconds));
}

#[tokio::test(start_paused = true)]
async fn without_a_recorder_nothing_happens() {
    let rooms = unlimited().build().unwrap();
    MetricsReporter::new().report(&rooms.stats());
    tokio::time::sleep(Duration::from_secs(1)).await;
}
