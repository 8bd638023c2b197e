//! Bars: CPU and p99 relative to one peer, and memory.

use crate::number::short;
use crate::options::Options;
use crate::results::Results;
use crate::scale::Scale;
use crate::svg::{MARGIN, Svg};

const ROW: f64 = 18.0;
/// Horizontal ranges of the panels.
const LEFT: (f64, f64) = (184.0, 500.0);
const RIGHT: (f64, f64) = (590.0, 896.0);
/// Bars longer than this many times the baseline are cut short.
const MAX_RATIO: f64 = 3.0;

const CPU: [&str; 2] = ["cpu_us", "cpu_us_per_conn"];
const P99: [&str; 1] = ["p99_us"];
const MEMORY: [&str; 1] = ["kb_per_conn"];

pub(crate) fn bars(options: &Options, results: &Results) -> Result<String, String> {
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
    let most = all().map(|(_, cpu, _)| *cpu).fold(1.0, f64::max).min(MAX_RATIO);
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

/// The panel with memory per connection, if that was measured.
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
