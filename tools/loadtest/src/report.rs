//! The results of a run, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::histogram::{Histogram, Row};
use crate::run::Usage;
use crate::shared::Shared;

/// Width of the longest bar.
const BAR: f64 = 40.0;

/// The results. Times are in nanoseconds.
pub(crate) struct Report {
    what: String,
    scenario: String,
    rooms: usize,
    members: usize,
    target: String,
    in_process: bool,
    interrupted: bool,
    wanted: u64,
    connected: u64,
    entered: u64,
    failed: u64,
    closed: u64,
    seconds: f64,
    messages: u64,
    expected: u64,
    delivered: u64,
    arrived: u64,
    lost: u64,
    out_of_order: u64,
    /// `None` if messages are not acknowledged.
    unacknowledged: Option<u64>,
    heartbeats: u64,
    errors: u64,
    connect: Option<Times>,
    latency: Option<Times>,
    late: Option<Times>,
    rows: Vec<Row>,
    usage: Usage,
    problems: Vec<(String, u64)>,
}

/// The usual quantiles.
#[derive(Clone, Copy)]
struct Times {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Report {
    pub(crate) fn new(shared: &Shared, usage: Usage, interrupted: bool) -> Report {
        let counters = &shared.counters;
        Report {
            what: shared.options.describe(),
            scenario: shared.options.scenario.name(),
            rooms: shared.options.rooms(),
            members: shared.options.members(),
            target: shared.describe_targets(),
            in_process: shared.options.url.is_empty(),
            interrupted,
            wanted: shared.options.connections() as u64,
            connected: counters.connected.get(),
            entered: counters.entered.get(),
            failed: counters.failed.get(),
            closed: counters.closed.get(),
            seconds: shared.measured().as_secs_f64(),
            messages: counters.messages.get(),
            expected: counters.expected.get(),
            delivered: counters.delivered(),
            arrived: (counters.arrived.get() as f64 * shared.options.members_per_reader()) as u64,
            lost: counters.lost(),
            out_of_order: counters.out_of_order.get(),
            unacknowledged: shared.options.v1.then(|| counters.unacknowledged()),
            heartbeats: counters.heartbeats.get(),
            errors: counters.errors.get(),
            connect: Times::of(&counters.connect),
            latency: Times::of(&counters.latency),
            late: Times::of(&counters.late),
            rows: counters.latency.rows(),
            usage,
            problems: counters.problems(),
        }
    }

    /// Whether all connections entered and nothing was lost or failed.
    pub(crate) fn is_clean(&self) -> bool {
        let all_in = self.interrupted || self.entered == self.wanted;
        let unacknowledged = self.unacknowledged.unwrap_or(0);
        let faults = [self.lost, self.failed, self.closed, self.errors, self.out_of_order, unacknowledged];
        all_in && faults.iter().sum::<u64>() == 0
    }

    pub(crate) fn to_json(&self) -> String {
        let json = json!({
            "scenario": self.what,
            "url": self.target,
            "in_process": self.in_process,
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "connections": {
                "wanted": self.wanted, "connected": self.connected, "entered": self.entered,
                "failed": self.failed, "closed_unexpectedly": self.closed,
            },
            "connect_us": self.connect.map(Times::to_json),
            "messages": self.messages,
            "deliveries": self.delivered,
            "deliveries_expected": self.expected,
            "deliveries_per_second": self.per_second(self.arrived),
            "lost": self.lost,
            "out_of_order": self.out_of_order,
            "unacknowledged": self.unacknowledged,
            "latency_us": self.latency.map(Times::to_json),
            "sent_late_us": self.late.map(Times::to_json),
            "heartbeats": self.heartbeats,
            "errors": self.errors,
            "problems": self.problems,
            "cpu_and_memory_of": if self.in_process { "server and load generator" } else { "server" },
            "rss_bytes_per_connection": self.usage.memory,
            "cpu_seconds": self.usage.cpu.map(|cpu| cpu.as_secs_f64()),
            "cpu_us_per_delivery": self.cpu_per(self.arrived as f64),
            "cpu_us_per_connection_second": self.cpu_per(self.connection_seconds()),
            "latency_histogram_us": self.rows.iter().map(|row| json!({
                "from": row.from / 1000, "to": row.to / 1000, "count": row.count,
            })).collect::<Value>(),
        });
        format!("{json:#}\n")
    }

    /// The results as `key=value` tokens, followed by the tags. The last token of a key counts.
    pub(crate) fn to_line(&self, tags: &[String]) -> String {
        let mut line = format!("scenario={}", self.scenario);
        let mut add = |key: &str, value: Option<f64>| {
            if let Some(value) = value {
                line += &format!(" {key}={}", (value * 1e3).round() / 1e3);
            }
        };
        let us = |of: fn(&Times) -> u64| self.latency.as_ref().map(|times| of(times) as f64 / 1e3);
        add("rooms", Some(self.rooms as f64));
        add("members", Some(self.members as f64));
        add("connections", Some(self.entered as f64));
        add("secs", Some(self.seconds));
        add("dps", Some(self.per_second(self.arrived)));
        add("p50_us", us(|t| t.p50));
        add("p99_us", us(|t| t.p99));
        add("p999_us", us(|t| t.p999));
        add("max_us", us(|t| t.max));
        add("late_p99_us", self.late.map(|t| t.p99 as f64 / 1e3));
        add("lost", Some(self.lost as f64));
        add("failed", Some((self.failed + self.closed) as f64));
        if !self.in_process {
            add("kb_per_conn", self.usage.memory.map(|bytes| bytes as f64 / 1024.0));
            add("cpu_us", self.cpu_per(self.arrived as f64));
            add("cpu_us_per_conn_s", self.cpu_per(self.connection_seconds()));
            let share = if self.scenario == "idle" { "idle_cpu_pct" } else { "srv_cpu_pct" };
            add(share, self.cpu_per(self.seconds).map(|us| us / 1e4));
        }
        tags.iter().fold(line, |line, tag| line + " " + tag)
    }

    /// The server's CPU time in microseconds, divided by `n`.
    fn cpu_per(&self, n: f64) -> Option<f64> {
        self.usage.cpu.filter(|_| n > 0.0).map(|cpu| cpu.as_secs_f64() * 1e6 / n)
    }

    fn connection_seconds(&self) -> f64 {
        self.entered as f64 * self.seconds
    }

    /// The server's CPU time in words.
    fn describe_cpu(&self, cpu: Duration) -> String {
        let percent = cpu.as_secs_f64() / self.seconds * 100.0;
        let share = match self.cpu_per(self.arrived as f64) {
            Some(us) => format!("{us:.2} µs per delivery"),
            None => format!(
                "{:.2} µs per connection and second",
                self.cpu_per(self.connection_seconds()).unwrap_or(0.0)
            ),
        };
        format!("{percent:.1} % of a core, {share}")
    }

    /// Whether much of the latency comes from the load generator.
    fn is_late(&self) -> bool {
        let (Some(late), Some(latency)) = (self.late, self.latency) else { return false };
        late.p99 > 10_000_000 && late.p99 > latency.p99 / 2
    }

    fn per_second(&self, n: u64) -> f64 {
        if self.seconds > 0.0 { n as f64 / self.seconds } else { 0.0 }
    }

    fn write_histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.rows.iter().map(|row| row.count).max().unwrap_or(1);
        let mut so_far = 0;
        writeln!(f, "\n  latency up to           deliveries   cumulative")?;
        for row in &self.rows {
            so_far += row.count;
            let share = so_far as f64 / self.delivered as f64 * 100.0;
            let to = if row.to == u64::MAX { "more".into() } else { time(row.to) };
            let bar = bar(row.count as f64 / most as f64);
            writeln!(f, "  {to:>13}  {:>20}  {share:>10.3} %  {bar}", grouped(row.count))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<18}  {value}");
        let times = |times: Option<Times>| times.map_or(format!("{:>12}", "-"), |t| t.to_string());
        let rate = |n, per_second| format!("{:>12}  {:>10}/s", grouped(n), grouped(per_second as u64));
        let place = if self.in_process { " (in this process)" } else { "" };
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        line("scenario", self.what.clone())?;
        line("server", format!("{}{place}", self.target))?;
        line("measured", format!("{:.2} s{interrupted}", self.seconds))?;
        line("connections", format!("{} of {}", grouped(self.entered), grouped(self.wanted)))?;
        line("connect time", times(self.connect))?;
        line("messages sent", rate(self.messages, self.per_second(self.messages)))?;
        line("deliveries", rate(self.delivered, self.per_second(self.arrived)))?;
        line("lost", format!("{:>12}", grouped(self.lost)))?;
        line("out of order", format!("{:>12}", grouped(self.out_of_order)))?;
        if let Some(n) = self.unacknowledged {
            line("unacknowledged", format!("{:>12}", grouped(n)))?;
        }
        line("latency", times(self.latency))?;
        line("sent late by", times(self.late))?;
        line("heartbeats", format!("{:>12}", grouped(self.heartbeats)))?;
        line("errors", format!("{:>12}", grouped(self.errors)))?;
        line("failed connections", format!("{:>12}", grouped(self.failed)))?;
        line("unexpected closes", format!("{:>12}", grouped(self.closed)))?;
        let ends = if self.in_process { ", server and load generator together" } else { "" };
        if let Some(bytes) = self.usage.memory {
            line("memory", format!("{:.1} KiB RSS per connection{ends}", bytes as f64 / 1024.0))?;
        }
        if let Some(cpu) = self.usage.cpu.filter(|_| self.seconds > 0.0) {
            line("CPU", format!("{}{ends}", self.describe_cpu(cpu)))?;
        }
        if self.is_late() {
            let text = "messages were sent late: the load generator was overloaded or blocked";
            line("!", text.into())?;
        }
        for (text, n) in &self.problems {
            line("!", format!("{} x {text}", grouped(*n)))?;
        }
        if !self.rows.is_empty() {
            self.write_histogram(f)?;
        }
        Ok(())
    }
}

impl Times {
    /// Returns `None` for an empty histogram.
    fn of(histogram: &Histogram) -> Option<Times> {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| histogram.quantile(share));
        (histogram.count() > 0).then(|| Times { p50, p90, p99, p999, max: histogram.max() })
    }

    fn to_json(self) -> Value {
        let us = |nanos: u64| nanos as f64 / 1e3;
        json!({
            "p50": us(self.p50), "p90": us(self.p90), "p99": us(self.p99), "p999": us(self.p999),
            "max": us(self.max),
        })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p999, max] = [self.p50, self.p90, self.p99, self.p999, self.max].map(time);
        write!(f, "p50 {p50:>8}   p90 {p90:>8}   p99 {p99:>8}   p99.9 {p999:>8}   max {max:>8}")
    }
}

/// Formats nanoseconds with three digits, in a suitable unit.
fn time(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Formats a number with separated thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar with a resolution of an eighth of a character, never empty for a share above 0.
fn bar(share: f64) -> String {
    let eighths = (share * BAR * 8.0).ceil() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}
