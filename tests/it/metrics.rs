//! Metrics: what they count, their text, their documentation, and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::store::{MemoryStore, StoreFault};
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, Denied, Drain, EnterRequest, Entered, Histogram,
    LeaveReason, RoomEvents, RoomPolicy, SharedBroker, Stats,
};

use crate::support::{
    Client, OpenMetrics, V1Client, builder, default_rooms, enter_frame, events_arrive, leave_frame,
    recovering_rooms, run_other_tasks, skip_with_broker, unlimited, without_limits,
};

fn message(n: usize) -> Value {
    json!({"event": "message", "message": n})
}

/// Has a member send this many messages, and both members read them.
async fn exchange(sender: &mut Client, other: &mut Client, messages: usize) {
    for n in 0..messages {
        sender.send(message(n)).await;
        for client in [&mut *sender, &mut *other] {
            assert_eq!(client.next().await["message"], n);
        }
    }
}

/// In paused time, nothing takes any time.
fn count_of_short_times(times: &Histogram) -> u64 {
    let (bound, count) = times.buckets().next().unwrap();
    assert_eq!(bound, Some(Duration::from_micros(10)));
    count
}

#[tokio::test(start_paused = true)]
async fn messages_deliveries_and_bytes_are_counted() {
    let rooms = unlimited().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    let before = rooms.stats();
    exchange(&mut ann, &mut bob, 33).await;
    let stats = rooms.stats();
    assert_eq!(stats.messages - before.messages, 33);
    assert_eq!(stats.deliveries - before.deliveries, 66);
    assert_eq!(stats.delivery.count(), 3, "the first message, and one in 16 after it");
    ann.close().await;
    bob.close().await;
    events_arrive().await;
    let stats = rooms.stats();
    // A frame with "message", "name" and "num" has over 50 bytes, and its head 2.
    assert!((66 * 50..66 * 90).contains(&stats.sent_bytes), "{}", stats.sent_bytes);
    assert!((33 * 30..33 * 60).contains(&stats.received_bytes), "{}", stats.received_bytes);
    assert_eq!((stats.left, stats.left_by_reason.of(LeaveReason::Closed)), (2, 2));
    assert_eq!((stats.closed.of(LeaveReason::Closed), stats.closed.total()), (2, 2));
}

/// The clients enter at once, so several enters are delivered together.
#[tokio::test(start_paused = true)]
async fn a_frame_is_not_counted_for_members_that_enter_after_it() {
    let rooms = unlimited().build().unwrap();
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = Client::connect(&rooms).await;
        client.send(enter_frame(&format!("c-{n}"), "r")).await;
        clients.push(client);
    }
    let mut received = 0;
    for client in &mut clients {
        while client.next().await["num"] != 5 {
            received += 1;
        }
        received += 1;
    }
    run_other_tasks().await;
    assert_eq!((received, rooms.stats().deliveries), (15, 15));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_added_at_heartbeats() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    sleep(Duration::from_secs(1)).await;
    ann.answer_heartbeats().await;
    sleep(Duration::from_secs(1)).await;
    ann.answer_heartbeats().await;
    let stats = rooms.stats();
    assert!(stats.sent_bytes > 50 && stats.received_bytes > 50, "{stats:?}");
    ann.close().await;
}

#[tokio::test(start_paused = true)]
async fn members_sessions_and_rooms_are_current() {
    skip_with_broker!("the numbers are looked at before events have come back");
    let (rooms, _log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let bob = V1Client::enter(&rooms, "bob").await;
    ann.connection.send(enter_frame("ann", "other")).await;
    ann.connection.next_of("entered").await;
    let metrics = OpenMetrics::parse(&rooms.stats().to_open_metrics());
    for (sample, value) in [
        ("chat_rooms_connections{state=\"active\"}", 2.0),
        ("chat_rooms_connections{state=\"pending\"}", 0.0),
        ("chat_rooms_members", 3.0),
        ("chat_rooms_sessions{state=\"attached\"}", 2.0),
        ("chat_rooms_rooms{state=\"occupied\"}", 2.0),
        ("chat_rooms_users", 0.0),
    ] {
        assert_eq!(metrics.get(sample), value, "{sample}");
    }
    let mut bob = bob;
    bob.disconnect().await;
    let metrics = OpenMetrics::parse(&rooms.stats().to_open_metrics());
    assert_eq!(metrics.get("chat_rooms_sessions{state=\"absent\"}"), 1.0);
    assert_eq!(metrics.get("chat_rooms_sessions{state=\"attached\"}"), 1.0);
    assert_eq!(metrics.get("chat_rooms_members"), 3.0, "bob is still a member");
    ann.connection.send(leave_frame("other")).await;
    ann.connection.next_of("left").await;
    let stats = rooms.stats();
    assert_eq!((stats.left_by_reason.of(LeaveReason::Left), stats.entered - stats.left), (1, 2));
    rooms.shutdown().await;
    let metrics = OpenMetrics::parse(&rooms.stats().to_open_metrics());
    for sample in ["chat_rooms_members", "chat_rooms_sessions{state=\"attached\"}", "chat_rooms_users"] {
        assert_eq!(metrics.get(sample), 0.0, "{sample}");
    }
    assert_eq!(metrics.get("chat_rooms_draining"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn resumes_are_counted_by_result_and_replayed_frames() {
    let (rooms, _log) = recovering_rooms();
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let mut ann = V1Client::enter(&rooms, "ann").await;
    bob.expect_message("ann").await;
    ann.disconnect().await;
    for n in 0..3 {
        bob.send_message(n).await;
        bob.expect_message(n).await;
    }
    ann.reconnect(&rooms).await;
    let stats = rooms.stats();
    assert_eq!((stats.resumed, stats.not_resumed, stats.replayed), (1, 0, 3));
    let (mut other, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    other.send(json!({"event": "resume", "message": ["0".repeat(32)]})).await;
    other.next().await;
    assert_eq!((rooms.stats().resumed, rooms.stats().not_resumed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn send_queues_count_until_they_are_read_or_dropped() {
    let rooms = unlimited().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut slow = Client::connect_as(&rooms, Admission::anonymous(), 300).await;
    slow.send(enter_frame("slow", "r")).await;
    assert_eq!(ann.next().await["name"], "slow");
    assert_eq!((rooms.stats().queued_bytes, rooms.stats().behind), (0, 0));
    for n in 0..20 {
        ann.send(message(n)).await;
        assert_eq!(ann.next().await["message"], n);
    }
    let stats = rooms.stats();
    assert!((600..2000).contains(&stats.queued_bytes), "{}", stats.queued_bytes);
    assert_eq!(stats.behind, 1);
    assert_eq!(slow.next().await["name"], "slow");
    for n in 0..20 {
        assert_eq!(slow.next().await["message"], n);
    }
    run_other_tasks().await;
    assert_eq!((rooms.stats().queued_bytes, rooms.stats().behind), (0, 0));
    for n in 0..20 {
        ann.send(message(n)).await;
        ann.next().await;
    }
    assert_eq!(rooms.stats().behind, 1);
    slow.disconnect().await;
    assert_eq!((rooms.stats().queued_bytes, rooms.stats().behind), (0, 0));
}

/// Hooks that take some time.
struct SlowHooks;

impl RoomPolicy for SlowHooks {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<tower_chat_rooms::Access, Denied> {
        sleep(Duration::from_millis(30)).await;
        Ok(tower_chat_rooms::Access::member())
    }
}

impl Authenticate for SlowHooks {
    async fn on_upgrade(&self, _: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        Ok(Admission::anonymous())
    }
}

impl RoomEvents for SlowHooks {
    fn entered(&self, _: &Entered) {}
}

#[tokio::test(start_paused = true)]
async fn the_times_of_hooks_are_measured() {
    let rooms = unlimited().policy(SlowHooks).events(SlowHooks).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(message(1)).await;
    ann.next().await;
    let hooks = rooms.stats().hooks;
    let called: Vec<_> = hooks.iter().map(|(name, times)| (*name, times.count())).collect();
    assert_eq!(
        called,
        [
            ("entered", 1),
            ("may_enter", 1),
            ("may_send", 1),
            ("message", 1),
            ("presence", 1),
            ("slow_consumer", 1)
        ]
    );
    assert_eq!(count_of_short_times(&hooks["may_send"]), 1);
    let filled = hooks["may_enter"].buckets().find(|(_, count)| *count > 0);
    assert_eq!(filled, Some((Some(Duration::from_millis(50)), 1)));
    assert_eq!(hooks["may_enter"].sum(), Duration::from_millis(30));
    ann.close().await;
    assert_eq!(rooms.stats().hooks["left"].count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_times_of_the_store_are_measured_and_its_failures_counted() {
    let store = MemoryStore::default();
    let rooms = without_limits(ChatRooms::builder()).store(store.clone()).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(message(1)).await;
    assert_eq!(ann.next().await["message"], 1);
    let stats = rooms.stats();
    assert_eq!((stats.store_append.count(), stats.store_page.count(), stats.store_failures), (1, 1, 0));
    assert_eq!(stats.delivery.count(), 1, "the time in the store is a part of it");
    store.set_fault(Some(StoreFault::Fail));
    ann.send(message(2)).await;
    assert_eq!(ann.next().await["code"], "unavailable");
    let stats = rooms.stats();
    assert_eq!((stats.store_failures, stats.unavailable), (1, 1));
    assert!(stats.store_append.sum() >= Duration::from_millis(250), "with repeated attempts");
}

#[tokio::test(start_paused = true)]
async fn the_times_of_the_broker_are_measured() {
    let broker = SharedBroker::new();
    let [one, other] = std::array::from_fn(|_| unlimited().broker(broker.node()).build().unwrap());
    let mut ann = Client::enter(&one, "ann", "r").await;
    let mut bob = Client::enter(&other, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    exchange(&mut ann, &mut bob, 17).await;
    run_other_tasks().await;
    let stats = one.stats();
    assert_eq!((stats.broker_enter.count(), stats.broker_publish.count()), (1, 17));
    assert_eq!((stats.messages, stats.delivery.count()), (17, 2));
    assert_eq!((stats.broker_lag.count(), other.stats().broker_lag.count()), (17, 17));
    assert_eq!((stats.deliveries, other.stats().delivery.count()), (19, 0), "two enters, and the messages");
    let available = |rooms: &ChatRooms| {
        OpenMetrics::parse(&rooms.stats().to_open_metrics()).get("chat_rooms_broker_available")
    };
    assert_eq!(available(&one), 1.0);
    broker.set_available(false);
    assert_eq!(available(&one), 0.0);
    broker.set_available(true);
    ann.close().await;
    bob.close().await;
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_shows_how_many_connections_are_left() {
    let rooms = builder().build().unwrap();
    let mut clients = [Client::enter(&rooms, "ann", "a").await, Client::enter(&rooms, "bob", "b").await];
    assert_eq!((rooms.stats().is_draining, rooms.stats().draining), (false, 0));
    let draining = rooms.drain(Drain::over(Duration::from_secs(1)));
    assert_eq!((rooms.stats().is_draining, rooms.stats().draining), (true, 2));
    for client in &mut clients {
        client.close_code().await;
    }
    draining.await;
    assert_eq!((rooms.stats().is_draining, rooms.stats().draining), (true, 0));
    assert_eq!(rooms.stats().closed.of(LeaveReason::Shutdown), 2);
}

/// The text of chat rooms with everything.
async fn full_text() -> String {
    let broker = SharedBroker::new();
    let rooms = unlimited().broker(broker.node()).events(SlowHooks).policy(SlowHooks).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(message(1)).await;
    ann.next().await;
    let text = rooms.stats().to_open_metrics();
    ann.close().await;
    rooms.shutdown().await;
    text
}

#[tokio::test(start_paused = true)]
async fn the_text_is_valid_and_its_length_does_not_depend_on_clients() {
    let text = full_text().await;
    let metrics = OpenMetrics::parse(&text);
    assert_eq!(metrics.get("chat_rooms_messages_total"), 1.0);
    assert!(!text.contains("ann"), "no name of a member is in it");
    // The hooks that are never called here have 22 series each.
    let most = metrics.len() + 9 * 22;
    assert!(most <= 620, "docs/metrics.md says how many there are: {most}");
    assert!(text.len() < 64 * 1024);
    OpenMetrics::parse(&Stats::default().to_open_metrics());
}

fn docs(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// All names of metrics in a text. Those of a histogram's parts count as the histogram.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let names = words.filter(|word| word.starts_with("chat_rooms_") && word.len() > "chat_rooms_".len());
    let parts = ["_seconds_bucket", "_seconds_sum", "_seconds_count"];
    let whole = |name: &str| match parts.iter().find_map(|part| name.strip_suffix(part)) {
        Some(start) => format!("{start}_seconds"),
        None => name.to_owned(),
    };
    names.map(whole).collect()
}

#[tokio::test(start_paused = true)]
async fn all_metrics_are_documented_and_no_others() {
    let names: BTreeSet<String> = OpenMetrics::parse(&full_text().await).names().iter().cloned().collect();
    assert_eq!(names_in(&docs("metrics.md")), names);
    for name in &names {
        let row = format!("| `{name}` |");
        assert_eq!(docs("metrics.md").matches(&row).count(), 1, "{name} has one row");
    }
}

#[tokio::test(start_paused = true)]
async fn the_dashboard_shows_all_metrics_and_no_others() {
    let names: BTreeSet<String> = OpenMetrics::parse(&full_text().await).names().iter().cloned().collect();
    let text = docs("grafana.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "two panels have the same id");
        let has_targets = panel["targets"].as_array().is_some_and(|targets| !targets.is_empty());
        assert!(panel["type"] == "row" || has_targets, "{panel}");
    }
    assert_eq!(names_in(&text), names);
}

/// The names of all samples, with the names of their labels.
fn labels_by_sample(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let names = rest.split(['{', ',']).filter_map(|part| part.split_once('=')).map(|(name, _)| name);
        labels.entry(name).or_default().extend(names);
    }
    labels
}

#[tokio::test(start_paused = true)]
async fn the_expressions_of_the_dashboard_and_of_the_alerts_fit_the_metrics() {
    let text = full_text().await;
    let samples = labels_by_sample(&text);
    let dashboard: Value = serde_json::from_str(&docs("grafana.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter();
    let targets = targets.filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut expressions: Vec<String> = targets
        .map(|target| format!("{} {}", target["expr"].as_str().unwrap(), target["legendFormat"]))
        .collect();
    let alerts = docs("metrics.md");
    let alerts =
        alerts.split("      - alert: ").skip(1).map(|alert| alert.split("```").next().unwrap().to_owned());
    expressions.extend(alerts);
    assert!(expressions.len() > 45, "the test finds only {}", expressions.len());
    for expression in &expressions {
        let words = expression.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("chat_rooms_")).collect();
        let mut labels = BTreeSet::from(["job", "instance"]);
        for name in &names {
            let of_sample = samples.get(name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
            labels.extend(of_sample);
        }
        let grouped =
            expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(", "));
        let shown = expression.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim());
        let matched =
            expression.split(['{', ',']).filter_map(|part| part.split_once('=')).map(|(name, _)| name);
        let matched =
            matched.map(|name| name.trim_end_matches(['!', '~'])).filter(|name| !name.contains(' '));
        for label in grouped.chain(shown).chain(matched) {
            let label = label.trim_start_matches("$labels.");
            assert!(labels.contains(label), "{names:?} have no label {label:?}: {expression}");
        }
    }
}

/// Needs Python with `prometheus_client`, which has the reference parser.
#[tokio::test(start_paused = true)]
#[ignore = "needs Python's prometheus_client"]
async fn prometheus_reads_the_text() {
    const READ: &str = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        for family in parse(sys.stdin.read()): print(family.name, family.type, len(family.samples))";
    let has_client = |python: &&str| {
        let import =
            Command::new(python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_client) else {
        eprintln!("skipped: Python has no module prometheus_client; install python3-prometheus-client");
        return;
    };
    let text = full_text().await;
    let mut command = Command::new(python);
    let mut child = command.args(["-c", READ]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "it does not read\n{text}");
    let read = String::from_utf8(output.stdout).unwrap();
    assert!(read.contains("chat_rooms_messages counter 1\n"), "{read}");
    assert_eq!(read.lines().count(), OpenMetrics::parse(&text).names().len());
}
