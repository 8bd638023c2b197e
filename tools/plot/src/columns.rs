//! A table of medians with a row per peer and the chosen columns.

use clap::ValueEnum;

use crate::markdown::Table;
use crate::number::short;
use crate::options::Options;
use crate::results::Results;

/// A figure of a scenario.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    scenario: String,
    figure: Figure,
}

/// The figure of a measurement to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    Cpu,
    P50,
    P99,
    P999,
    Deliveries,
    Memory,
    IdleCpu,
    Lost,
}

impl Column {
    /// Parses `SCENARIO:FIGURE`.
    pub(crate) fn parse(text: &str) -> Result<Column, String> {
        let (scenario, figure) = text.split_once(':').ok_or("must be SCENARIO:FIGURE")?;
        let figure = Figure::from_str(figure, false).map_err(|_| format!("no such figure: {figure}"))?;
        Ok(Column { scenario: scenario.into(), figure })
    }

    fn head(&self) -> String {
        let unit = match self.figure {
            Figure::Cpu => "CPU µs",
            Figure::P50 => "p50 ms",
            Figure::P99 => "p99 ms",
            Figure::P999 => "p99.9 ms",
            Figure::Deliveries => "deliveries/s",
            Figure::Memory => "KiB/connection",
            Figure::IdleCpu => "CPU %",
            Figure::Lost => "lost",
        };
        format!("{} {unit}", self.scenario)
    }

    /// What was lost in one scenario or in all.
    fn lost(&self, results: &Results, peer: &str) -> f64 {
        match self.scenario.as_str() {
            "all" => results.values("scenario").iter().map(|scenario| results.lost(scenario, peer)).sum(),
            scenario => results.lost(scenario, peer),
        }
    }

    /// The median; CPU time also relative to the baseline.
    fn cell(&self, results: &Results, peer: &str, baseline: &str) -> String {
        let of = |peer| results.median(&self.scenario, peer, self.figure.keys());
        let value = match (self.figure, of(peer)) {
            (Figure::Lost, _) => return format!("{}", self.lost(results, peer)),
            (_, None) => return "-".into(),
            (Figure::P50 | Figure::P99 | Figure::P999, Some(us)) => us / 1e3,
            (_, Some(value)) => value,
        };
        match of(baseline) {
            Some(base) if matches!(self.figure, Figure::Cpu | Figure::IdleCpu) => {
                format!("{} ({:.2})", short(value), value / base)
            }
            _ => short(value),
        }
    }
}

impl Figure {
    /// The keys of a result that may hold it. The first one present counts.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Figure::Cpu => &["cpu_us", "cpu_us_per_conn"],
            Figure::P50 => &["p50_us"],
            Figure::P99 => &["p99_us"],
            Figure::P999 => &["p999_us"],
            Figure::Deliveries => &["dps"],
            Figure::Memory => &["kb_per_conn"],
            Figure::IdleCpu => &["idle_cpu_pct"],
            Figure::Lost => &[],
        }
    }
}

/// A row per peer; the highlighted one is bold.
pub(crate) fn table(options: &Options, results: &Results) -> Table {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(options.columns.iter().map(Column::head));
    for peer in options.choose(results.values("peer")) {
        let mut row = vec![peer.to_owned()];
        row.extend(options.columns.iter().map(|column| column.cell(results, peer, &options.baseline)));
        if options.is_highlight(peer) {
            row.iter_mut().for_each(|cell| *cell = format!("**{cell}**"));
        }
        rows.push(row);
    }
    Table(rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::results::Line;

    #[test]
    fn has_a_row_per_peer() {
        let columns = "load:cpu,load:p99,load:lost,all:lost,idle:idle-cpu";
        let flags = "plot file --table x#y --highlight ours --baseline raw --columns";
        let options = Options::parse_from(flags.split(' ').chain([columns]));
        let lines = [
            "peer=raw scenario=load cpu_us=2 p99_us=1500 lost=0",
            "peer=ours scenario=load cpu_us=3 p99_us=900 lost=4",
            "peer=ours scenario=connect failed=1",
        ];
        let results = Results(lines.iter().map(|line| Line::parse(line, &options)).collect());
        let Table(rows) = table(&options, &results);
        assert_eq!(rows[0], ["", "load CPU µs", "load p99 ms", "load lost", "all lost", "idle CPU %"]);
        assert_eq!(rows[1], ["**ours**", "**3.0 (1.50)**", "**0.90**", "**4**", "**5**", "**-**"]);
        assert_eq!(rows[2], ["raw", "2.0 (1.00)", "1.5", "0", "0", "-"]);
    }
}
