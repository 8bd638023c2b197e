//! Draws measurements as an SVG, for a README: `cargo run --example plot -- RESULTS... -o FILE.svg`.
//!
//! A result is a line of `key=value` tokens. Bars need `peer` and `scenario`, and `cpu_us` or
//! `cpu_us_per_conn`, `p99_us`, `kb_per_conn`; with `--curve X Y` the lines that have `series`
//! and both keys become curves on logarithmic axes. Other lines are skipped. Of several lines
//! about the same, such as rounds, the median counts.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Parser;

/// Draws files of key=value results as an SVG: bars relative to one peer, or curves.
#[derive(Debug, Parser)]
struct Options {
    /// Files of results
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The picture
    #[arg(short, long, default_value = "benchmark.svg")]
    output: PathBuf,

    #[arg(long, default_value = "Benchmark")]
    title: String,

    #[arg(long, default_value = "")]
    subtitle: String,

    /// Peer or series that stands out
    #[arg(long)]
    highlight: Option<String>,

    /// Gives a peer, scenario, series or axis another name; --only, --highlight and --baseline
    /// mean the new ones
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    rename: Vec<(String, String)>,

    /// Only these peers or series, in this order [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// The peer that the others are compared to
    #[arg(long, default_value = "rawlimit")]
    baseline: String,

    /// Curves of Y over X, one for each `series`
    #[arg(long, num_args = 2, value_names = ["X", "Y"])]
    curve: Option<Vec<String>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut results = Results::default();
    for file in &options.files {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        results.0.extend(text.lines().map(|line| Line::parse(line, &options)));
    }
    let svg = match options.curve.as_deref() {
        Some([x, y]) => curves(&options, &results, x, y)?,
        _ => bars(&options, &results)?,
    };
    std::fs::write(&options.output, svg).map_err(|e| format!("{}: {e}", options.output.display()))?;
    println!("{}", options.output.display());
    Ok(())
}

fn rename(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("must be OLD=NEW")?;
    Ok((old.into(), new.into()))
}

impl Options {
    fn new_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.rename.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new)
    }

    fn is_highlight(&self, name: &str) -> bool {
        self.highlight.as_deref() == Some(name)
    }

    /// The wanted ones of these, in the order wanted; else what stands out first.
    fn choose<'a>(&self, mut names: Vec<&'a str>) -> Vec<&'a str> {
        let place = |name: &str| self.only.iter().position(|wanted| wanted == name);
        names.retain(|name| self.only.is_empty() || place(name).is_some());
        names.sort_by_key(|name| place(name).unwrap_or(usize::from(!self.is_highlight(name))));
        names
    }
}

// ---- Results -------------------------------------------------------------------------------

/// Keys whose values are names.
const NAMES_IN: [&str; 3] = ["peer", "scenario", "series"];

/// One measurement.
struct Line(HashMap<String, String>);

#[derive(Default)]
struct Results(Vec<Line>);

impl Line {
    fn parse(line: &str, options: &Options) -> Line {
        let pairs = line.split_whitespace().filter_map(|token| token.split_once('='));
        let pairs = pairs.map(|(key, value)| {
            let value = if NAMES_IN.contains(&key) { options.new_name(value) } else { value };
            (key.into(), value.into())
        });
        Line(pairs.collect())
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A number above zero; others have no place on a logarithmic scale.
    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0)
    }

    /// Other work on the machine took more than a tenth of what was measured.
    fn is_disturbed(&self) -> bool {
        let percent = |key| self.number(key).unwrap_or(0.0);
        percent("lg_wait_pct") > 10.0
            || (percent("wait_pct") > 10.0
                && self.0.contains_key("srv_cpu_pct")
                && percent("srv_cpu_pct") < 95.0)
    }
}

impl Results {
    /// The different values of a key, in the order in which they first came.
    fn values(&self, key: &str) -> Vec<&str> {
        let mut values = vec![];
        for value in self.0.iter().map(|line| line.text(key)) {
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// The median of the first of these keys that is there, over a peer's undisturbed rounds.
    fn median(&self, scenario: &str, peer: &str, keys: &[&str]) -> Option<f64> {
        let all = || self.0.iter().filter(|l| l.text("scenario") == scenario && l.text("peer") == peer);
        keys.iter().find_map(|key| {
            let quiet: Vec<_> = all().filter(|l| !l.is_disturbed()).filter_map(|l| l.number(key)).collect();
            median(if quiet.is_empty() { all().filter_map(|l| l.number(key)).collect() } else { quiet })
        })
    }

    /// The same relative to another peer.
    fn ratio(&self, scenario: &str, peer: &str, baseline: &str, keys: &[&str]) -> Option<f64> {
        let base = self.median(scenario, baseline, keys)?;
        Some(self.median(scenario, peer, keys)? / base)
    }

    /// What a peer lost in all rounds: messages, or connections.
    fn lost(&self, scenario: &str, peer: &str) -> f64 {
        let lines = self.0.iter().filter(|l| l.text("scenario") == scenario && l.text("peer") == peer);
        lines.flat_map(|l| ["lost", "missing", "failed"].map(|key| l.number(key).unwrap_or(0.0))).sum()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

// ---- Bars ----------------------------------------------------------------------------------

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 32.0;
const ROW: f64 = 18.0;
const BAR: f64 = 12.0;
/// Where the names of the bars end, and the panels lie.
const NAMES: f64 = 172.0;
const LEFT: (f64, f64) = (184.0, 500.0);
const RIGHT: (f64, f64) = (590.0, 896.0);
/// Bars beyond this many times the baseline are broken off.
const MOST: f64 = 3.0;

const CPU: [&str; 2] = ["cpu_us", "cpu_us_per_conn"];
const P99: [&str; 1] = ["p99_us"];
const MEMORY: [&str; 1] = ["kb_per_conn"];

/// Numbers to places on the picture.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// From 0 to a bit more than this.
    fn linear((from, to): (f64, f64), high: f64) -> Scale {
        Scale { from, to, low: 0.0, high: (high * 4.0).ceil() / 4.0, is_log: false }
    }

    /// Around these values, with round ends.
    fn log((from, to): (f64, f64), values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values.fold((f64::MAX, 0.0), |(low, high), v| (v.min(low), v.max(high)));
        let [mut before, mut after] = [low, high];
        for step in steps(&[1.0, 2.0, 5.0]) {
            if step <= low {
                before = step;
            }
            if step >= high && step > before {
                after = step;
                break;
            }
        }
        Scale { from, to, low: before, high: after, is_log: true }
    }

    fn at(self, value: f64) -> f64 {
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// Round numbers in between, not too many.
    fn ticks(self) -> Vec<f64> {
        let is_inside = |n: &f64| (self.low * 0.999..=self.high * 1.001).contains(n);
        if !self.is_log {
            return (0..).map(|n| f64::from(n) * 0.5).take_while(is_inside).collect();
        }
        let digits: &[f64] = if self.high / self.low > 1e2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        steps(digits).filter(is_inside).collect()
    }
}

/// Numbers that begin with these digits, from small to large.
fn steps(digits: &[f64]) -> impl Iterator<Item = f64> {
    (-9..15).flat_map(move |power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
}

fn bars(options: &Options, results: &Results) -> Result<String, String> {
    let base = options.baseline.as_str();
    let peers = options.choose(results.values("peer"));
    let compared: Vec<_> = peers.iter().copied().filter(|peer| *peer != base).collect();
    let ratio = |scenario, peer, keys: &[&str]| results.ratio(scenario, peer, base, keys);
    let mut groups = vec![];
    for scenario in results.values("scenario") {
        let row = |peer| Some((peer, ratio(scenario, peer, &CPU)?, ratio(scenario, peer, &P99)));
        let rows: Vec<_> = compared.iter().copied().filter_map(row).collect();
        if !rows.is_empty() {
            groups.push((scenario, rows));
        }
    }
    if groups.is_empty() {
        return Err(format!("no CPU per delivery together with that of {base:?}; see --baseline"));
    }
    let all = || groups.iter().flat_map(|(_, rows)| rows);
    let most = all().map(|(_, cpu, _)| *cpu).fold(1.0, f64::max).min(MOST);
    let cpu_scale = Scale::linear(LEFT, most);
    let p99_scale = Scale::log(RIGHT, all().filter_map(|(_, _, p99)| *p99).chain([0.5, 2.0]));

    let mut svg = Svg::new(options);
    svg.legend(options, &format!("{base} = 1"));
    let top = svg.y + 46.0;
    svg.y = top + 36.0;
    for (scenario, rows) in &groups {
        let is_per_delivery = results.median(scenario, base, &CPU[..1]).is_some();
        let of = if is_per_delivery { "" } else { ", per connection" };
        svg.text(MARGIN, svg.y, "group", &format!("{scenario}{of}"));
        svg.y += 9.0;
        for (peer, cpu, p99) in rows {
            let class = svg.name(options, peer);
            let lost = match results.lost(scenario, peer) {
                0.0 => String::new(),
                lost => format!(" ({lost} lost)"),
            };
            svg.bar(cpu_scale, 0.0, *cpu, class, &format!("{cpu:.2}{lost}"));
            if let Some(p99) = p99 {
                svg.bar(p99_scale, 1.0, *p99, class, &short(*p99));
            }
            svg.y += ROW;
        }
        svg.y += 22.0;
    }
    let bottom = svg.y - 26.0;
    svg.axis(cpu_scale, top, bottom, "CPU per delivery", "less is better");
    svg.baseline(cpu_scale, top, bottom);
    if all().any(|(_, _, p99)| p99.is_some()) {
        svg.axis(p99_scale, top, bottom, "p99 latency", "log scale");
        svg.baseline(p99_scale, top, bottom);
    }
    memory(&mut svg, options, results, &peers);
    Ok(svg.finish())
}

/// The panel of memory per connection, if that was measured.
fn memory(svg: &mut Svg, options: &Options, results: &Results, peers: &[&str]) {
    let scenarios = results.values("scenario");
    let of = |peer| scenarios.iter().find_map(|s| results.median(s, peer, &MEMORY));
    let rows: Vec<_> = peers.iter().filter_map(|peer| Some((*peer, of(peer)?))).collect();
    if rows.is_empty() {
        return;
    }
    let scale = Scale::log((LEFT.0, RIGHT.1), rows.iter().map(|(_, kib)| *kib).chain([1.0]));
    let top = svg.y + 30.0;
    svg.y = top + 26.0;
    for (peer, kib) in &rows {
        let class = svg.name(options, peer);
        svg.bar(scale, scale.low, *kib, class, &format!("{} KiB", short(*kib)));
        svg.y += ROW;
    }
    svg.axis(scale, top, svg.y - 4.0, "Memory per idle connection", "KiB, log scale");
    svg.y += 16.0;
}

/// A number of about two digits, thousands as k and M.
fn short(value: f64) -> String {
    match value {
        0.0..0.995 => format!("{value:.2}"),
        0.995..9.95 => format!("{value:.1}"),
        9.95..995.0 => format!("{value:.0}"),
        995.0..995e3 => short(value / 1e3) + "k",
        _ => short(value / 1e6) + "M",
    }
}

/// The same for a round number.
fn round(value: f64) -> String {
    match value {
        0.0..1e3 => format!("{}", (value * 1e9).round() / 1e9),
        1e3..1e6 => round(value / 1e3) + "k",
        _ => round(value / 1e6) + "M",
    }
}

// ---- Curves --------------------------------------------------------------------------------

const COLOURS: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

/// The points of a series, and the power of x that y follows.
struct Series<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
    /// y = factor * x ^ exponent
    fit: Option<(f64, f64)>,
}

fn curves(options: &Options, results: &Results, x: &str, y: &str) -> Result<String, String> {
    let names = options.choose(results.values("series")).into_iter();
    let series = names.map(|name| Series::of(results, name, x, y)).filter(|s| !s.points.is_empty());
    let series: Vec<_> = series.collect();
    if series.is_empty() {
        return Err(format!("no line has series=, {x}= and {y}= above 0"));
    }
    let all = || series.iter().flat_map(|s| &s.points);
    let mut svg = Svg::new(options);
    let (top, height) = (svg.y + 52.0, 420.0);
    let across = Scale::log((96.0, 690.0), all().map(|p| p.0));
    let up = Scale::log((top + height, top), all().map(|p| p.1));
    let (x, y) = (options.new_name(x), options.new_name(y));
    svg.grid(across, up, x, y);

    // The names stand beside the ends of their curves, apart from each other.
    let mut ends: Vec<_> = series.iter().enumerate().map(|(n, s)| (up.at(s.end()), n)).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = top;
    for (wanted, n) in ends {
        let place = f64::max(wanted, free);
        free = place + 34.0;
        let s = &series[n];
        let class = if options.is_highlight(s.name) { "hot" } else { COLOURS[n % COLOURS.len()] };
        svg.text(706.0, place, &format!("{class} name"), s.name);
        if let Some((_, exponent)) = s.fit {
            svg.text(706.0, place + 15.0, "small", &format!("∝ {x}^{exponent:.2}"));
        }
        svg.curve(s, class, across, up);
    }
    svg.y = f64::max(top + height + 44.0, free);
    Ok(svg.finish())
}

impl<'a> Series<'a> {
    fn of(results: &Results, name: &'a str, x: &str, y: &str) -> Series<'a> {
        let lines = results.0.iter().filter(|line| line.text("series") == name);
        let mut found: Vec<(f64, Vec<f64>)> = vec![];
        for (x, y) in lines.filter_map(|line| Some((line.number(x)?, line.number(y)?))) {
            match found.iter_mut().find(|(at, _)| *at == x) {
                Some((_, values)) => values.push(y),
                None => found.push((x, vec![y])),
            }
        }
        let mut points: Vec<_> =
            found.into_iter().filter_map(|(x, values)| Some((x, median(values)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { name, fit: fit(&points), points }
    }

    /// The height at which it ends.
    fn end(&self) -> f64 {
        self.points.last().map_or(0.0, |p| p.1)
    }
}

/// Least squares on the logarithms: factor and exponent.
fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let (mean_x, mean_y) = (logs().map(|l| l.0).sum::<f64>() / n, logs().map(|l| l.1).sum::<f64>() / n);
    let spread: f64 = logs().map(|l| (l.0 - mean_x).powi(2)).sum();
    let exponent = logs().map(|l| (l.0 - mean_x) * (l.1 - mean_y)).sum::<f64>() / spread;
    (points.len() > 1 && spread > 0.0).then(|| ((mean_y - exponent * mean_x).exp(), exponent))
}

// ---- SVG -----------------------------------------------------------------------------------

/// Its own ground, so that it is readable on any page; dark where the reader's system is.
const STYLE: &str = "
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; fill: #1f2937 }
  .ground { fill: #fff; stroke: #d5dae1 } .title { font-size: 22px; font-weight: 700 } .subtitle { font-size: 14px }
  .head { font-size: 14px; font-weight: 600 } .group { font-size: 13px; font-weight: 600 }
  .subtitle, .small, .tick { fill: #5b6675 } .small, .tick { font-size: 11px }
  .end { text-anchor: end } .middle { text-anchor: middle } .strong, .name { font-weight: 600 }
  .halo { paint-order: stroke; stroke: #fff; stroke-width: 6px; stroke-linejoin: round }
  .grid { stroke: #e6e9ee } .one { stroke: #1f2937; stroke-dasharray: 3 3 } .gap { stroke: #fff; stroke-width: 3 }
  .bar, .dot, .name { fill: currentColor } .line { fill: none; stroke: currentColor; stroke-width: 2 }
  .cold { color: #b4bdc9 } .hot { color: #0f6fde } .c0 { color: #c2570c } .c1 { color: #0a7f5a } .c2 { color: #8b3fc7 }
  .c3 { color: #b0246b } .c4 { color: #7a6a00 } .c5 { color: #47566b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .ground { fill: #0d1117; stroke: #30363d } .subtitle, .small, .tick { fill: #9aa5b1 }
    .halo { stroke: #0d1117 } .grid { stroke: #21262d } .one { stroke: #e6edf3 } .gap { stroke: #0d1117 } .bar, .dot, .name { fill: currentColor }
    .cold { color: #56616e } .hot { color: #4493f8 } .c0 { color: #f0883e } .c1 { color: #3fb68b } .c2 { color: #bc8cff }
    .c3 { color: #f778ba } .c4 { color: #d2b53b } .c5 { color: #9aa5b1 }
  }
";

/// A picture that grows downwards.
struct Svg {
    body: String,
    /// What stands over everything else.
    labels: String,
    y: f64,
}

impl Svg {
    /// With title and subtitle.
    fn new(options: &Options) -> Svg {
        let mut svg = Svg { body: String::new(), labels: String::new(), y: 46.0 };
        svg.text(MARGIN, svg.y, "title", &options.title);
        if !options.subtitle.is_empty() {
            svg.y += 25.0;
            svg.text(MARGIN, svg.y, "subtitle", &options.subtitle);
        }
        svg
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = writeln!(self.body, "  {element}");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!(r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#));
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    fn rect(&mut self, class: &str, x: f64, y: f64, width: f64) {
        self.add(format_args!(
            r#"<rect class="bar {class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2"/>"#
        ));
    }

    /// A text in front of all lines and bars.
    fn label(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let body = std::mem::take(&mut self.body);
        self.text(x, y, class, text);
        self.labels += &std::mem::replace(&mut self.body, body);
    }

    /// What the colours and the broken line mean.
    fn legend(&mut self, options: &Options, baseline: &str) {
        self.y += 32.0;
        let (y, mut x) = (self.y, MARGIN);
        let highlight = options.highlight.as_deref();
        for (class, name) in highlight.map(|name| ("hot", name)).into_iter().chain([("cold", "others")]) {
            self.rect(class, x, y - 10.0, 20.0);
            self.text(x + 27.0, y, "", name);
            x += 60.0 + 7.0 * name.len() as f64;
        }
        self.line("one", (x + 6.0, y - 13.0), (x + 6.0, y + 4.0));
        self.text(x + 17.0, y, "", baseline);
    }

    /// The name of a row of bars, and the class of these.
    fn name(&mut self, options: &Options, peer: &str) -> &'static str {
        let (class, weight) = if options.is_highlight(peer) { ("hot", "strong") } else { ("cold", "") };
        self.text(NAMES, self.y + 10.0, &format!("end {weight}"), peer);
        class
    }

    /// A bar from one value to another, with the value beside it.
    fn bar(&mut self, scale: Scale, from: f64, to: f64, class: &str, label: &str) {
        let (start, end) = (scale.at(from), scale.at(to));
        let (left, right) = (start.min(end), start.max(end));
        self.rect(class, left, self.y, (right - left).max(1.5));
        if to > scale.high {
            let x = right - 16.0;
            self.line("gap", (x - 3.0, self.y + BAR + 1.0), (x + 3.0, self.y - 1.0));
        }
        let weight = if class == "hot" { "strong" } else { "" };
        if end < start {
            self.label(left - 6.0, self.y + 10.0, &format!("halo end {weight}"), label);
        } else {
            self.label(right + 6.0, self.y + 10.0, &format!("halo {weight}"), label);
        }
    }

    /// Head, ticks and lines of a panel, behind its bars.
    fn axis(&mut self, scale: Scale, top: f64, bottom: f64, head: &str, note: &str) {
        let bars = std::mem::take(&mut self.body);
        self.text(scale.from, top - 6.0, "head", head);
        self.text(scale.to, top - 6.0, "small end", note);
        for tick in scale.ticks() {
            let x = scale.at(tick);
            self.text(x, top + 12.0, "tick middle", &round(tick));
            self.line("grid", (x, top + 18.0), (x, bottom));
        }
        self.body.push_str(&bars);
    }

    /// The broken line at 1, over the bars.
    fn baseline(&mut self, scale: Scale, top: f64, bottom: f64) {
        self.line("one", (scale.at(1.0), top + 18.0), (scale.at(1.0), bottom));
    }

    /// Both axes of a panel of curves.
    fn grid(&mut self, across: Scale, up: Scale, x: &str, y: &str) {
        for tick in across.ticks() {
            let at = across.at(tick);
            self.line("grid", (at, up.from), (at, up.to));
            self.text(at, up.from + 18.0, "tick middle", &round(tick));
        }
        for tick in up.ticks() {
            let at = up.at(tick);
            self.line("grid", (across.from, at), (across.to, at));
            self.text(across.from - 8.0, at + 4.0, "tick end", &round(tick));
        }
        self.text((across.from + across.to) / 2.0, up.from + 40.0, "head middle", x);
        self.text(MARGIN, up.to - 14.0, "head", y);
    }

    /// The points, and the power that they follow.
    fn curve(&mut self, series: &Series<'_>, class: &str, across: Scale, up: Scale) {
        if let (Some((factor, exponent)), [first, .., last]) = (series.fit, &series.points[..]) {
            let place = |x: f64| (across.at(x), up.at(factor * x.powf(exponent)));
            self.line(&format!("line {class}"), place(first.0), place(last.0));
        }
        for (x, y) in &series.points {
            let (x, y) = (across.at(*x), up.at(*y));
            self.add(format_args!(r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="4.5"/>"#));
        }
    }

    fn finish(self) -> String {
        let height = self.y + 12.0;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}">
  <style>{STYLE}</style>
  <rect class="ground" x=".5" y=".5" width="{}" height="{:.0}" rx="10"/>
{}{}</svg>
"#,
            WIDTH - 1.0,
            height - 1.0,
            self.body,
            self.labels
        )
    }
}
