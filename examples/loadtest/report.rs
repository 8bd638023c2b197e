//! The results of a run, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::histogram::{Histogram, Row};
use crate::world::World;

/// Width of the longest bar.
const BAR: f64 = 40.0;

/// What a run has shown. Times are in nanoseconds.
pub(crate) struct Report {
    what: String,
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
    disordered: u64,
    heartbeats: u64,
    errors: u64,
    connect: Option<Times>,
    latency: Option<Times>,
    late: Option<Times>,
    rows: Vec<Row>,
    memory: Option<u64>,
    complaints: Vec<(String, u64)>,
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
    pub(crate) fn new(world: &World, memory: Option<u64>, interrupted: bool) -> Report {
        let tally = &world.tally;
        Report {
            what: world.options.describe(),
            target: world.target.uri.to_string(),
            in_process: world.options.url.is_none(),
            interrupted,
            wanted: world.options.connections() as u64,
            connected: tally.connected.get(),
            entered: tally.entered.get(),
            failed: tally.failed.get(),
            closed: tally.closed.get(),
            seconds: world.measured().as_secs_f64(),
            messages: tally.messages.get(),
            expected: tally.expected.get(),
            delivered: tally.delivered(),
            arrived: tally.arrived.get(),
            lost: tally.lost(),
            disordered: tally.disordered.get(),
            heartbeats: tally.heartbeats.get(),
            errors: tally.errors.get(),
            connect: Times::of(&tally.connect),
            latency: Times::of(&tally.latency),
            late: Times::of(&tally.late),
            rows: tally.latency.rows(),
            memory,
            complaints: tally.complaints(),
        }
    }

    /// Whether everything has gone as it should.
    pub(crate) fn is_clean(&self) -> bool {
        let all_in = self.interrupted || self.entered == self.wanted;
        let faults = [self.lost, self.failed, self.closed, self.errors, self.disordered];
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
            "out_of_order": self.disordered,
            "latency_us": self.latency.map(Times::to_json),
            "sent_late_us": self.late.map(Times::to_json),
            "heartbeats": self.heartbeats,
            "errors": self.errors,
            "complaints": self.complaints,
            "rss_bytes_per_connection": self.memory,
            "latency_histogram_us": self.rows.iter().map(|row| json!({
                "from": row.from / 1000, "to": row.to / 1000, "count": row.count,
            })).collect::<Value>(),
        });
        format!("{json:#}\n")
    }

    /// Whether a good part of the latency arose before the messages were on their way.
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
        writeln!(f, "\n  latency up to           deliveries   up to here")?;
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
        let broken_off = if self.interrupted { ", interrupted" } else { "" };
        line("scenario", self.what.clone())?;
        line("server", format!("{}{place}", self.target))?;
        line("measured", format!("{:.2} s{broken_off}", self.seconds))?;
        line("connections", format!("{} of {}", grouped(self.entered), grouped(self.wanted)))?;
        line("connect time", times(self.connect))?;
        line("messages sent", rate(self.messages, self.per_second(self.messages)))?;
        line("deliveries", rate(self.delivered, self.per_second(self.arrived)))?;
        line("lost", format!("{:>12}", grouped(self.lost)))?;
        line("out of order", format!("{:>12}", grouped(self.disordered)))?;
        line("latency", times(self.latency))?;
        line("of it sent late", times(self.late))?;
        line("heartbeats", format!("{:>12}", grouped(self.heartbeats)))?;
        line("errors", format!("{:>12}", grouped(self.errors)))?;
        line("failed connections", format!("{:>12}", grouped(self.failed)))?;
        line("unexpected closes", format!("{:>12}", grouped(self.closed)))?;
        if let Some(bytes) = self.memory {
            let ends = if self.in_process { ", of both its ends together" } else { "" };
            line("memory", format!("{:.1} KiB RSS per connection{ends}", bytes as f64 / 1024.0))?;
        }
        if self.is_late() {
            let text =
                "what was due was sent late: the load generator could not keep up, or was kept waiting";
            line("!", text.into())?;
        }
        for (text, n) in &self.complaints {
            line("!", format!("{} x {text}", grouped(*n)))?;
        }
        if !self.rows.is_empty() {
            self.write_histogram(f)?;
        }
        Ok(())
    }
}

impl Times {
    /// Those of a histogram that isn't empty.
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

/// Nanoseconds with three digits, in the unit that fits.
fn time(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A number with its thousands apart.
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

/// A bar of eighths of a character; nothing that has happened is without one.
fn bar(share: f64) -> String {
    let eighths = (share * BAR * 8.0).ceil() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}
