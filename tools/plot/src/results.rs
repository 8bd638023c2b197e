//! Parses lines of `key=value` tokens and computes medians.

use std::collections::HashMap;

use crate::options::Options;

/// Keys whose values are names.
const NAMES_IN: [&str; 3] = ["peer", "scenario", "series"];

/// A measurement.
pub(crate) struct Line(HashMap<String, String>);

#[derive(Default)]
pub(crate) struct Results(pub(crate) Vec<Line>);

impl Line {
    pub(crate) fn parse(line: &str, options: &Options) -> Line {
        let pairs = line.split_whitespace().filter_map(|token| token.split_once('='));
        let pairs = pairs.map(|(key, value)| {
            let value = if NAMES_IN.contains(&key) { options.new_name(value) } else { value };
            (key.into(), value.into())
        });
        Line(pairs.collect())
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A number above zero, as logarithmic scales need.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0)
    }

    /// Whether other processes took more than a tenth of the measured CPU time.
    pub(crate) fn is_disturbed(&self) -> bool {
        let percent = |key| self.number(key).unwrap_or(0.0);
        percent("lg_wait_pct") > 10.0
            || (percent("wait_pct") > 10.0
                && self.0.contains_key("srv_cpu_pct")
                && percent("srv_cpu_pct") < 95.0)
    }
}

impl Results {
    /// The distinct values of a key, in order of first occurrence.
    pub(crate) fn values(&self, key: &str) -> Vec<&str> {
        let mut values = vec![];
        for value in self.0.iter().map(|line| line.text(key)) {
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// The median of the first of these keys that is present, over a peer's undisturbed rounds.
    pub(crate) fn median(&self, scenario: &str, peer: &str, keys: &[&str]) -> Option<f64> {
        let all = || self.0.iter().filter(|l| l.text("scenario") == scenario && l.text("peer") == peer);
        keys.iter().find_map(|key| {
            let quiet: Vec<_> = all().filter(|l| !l.is_disturbed()).filter_map(|l| l.number(key)).collect();
            median(if quiet.is_empty() { all().filter_map(|l| l.number(key)).collect() } else { quiet })
        })
    }

    /// The median relative to another peer's.
    pub(crate) fn ratio(&self, scenario: &str, peer: &str, baseline: &str, keys: &[&str]) -> Option<f64> {
        let base = self.median(scenario, baseline, keys)?;
        Some(self.median(scenario, peer, keys)? / base)
    }

    /// Number of messages or connections that a peer lost in all rounds.
    pub(crate) fn lost(&self, scenario: &str, peer: &str) -> f64 {
        let lines = self.0.iter().filter(|l| l.text("scenario") == scenario && l.text("peer") == peer);
        lines.flat_map(|l| ["lost", "missing", "failed"].map(|key| l.number(key).unwrap_or(0.0))).sum()
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn results(lines: &[&str]) -> Results {
        let options = Options::parse_from(["plot", "file", "--rename", "target=ours"]);
        Results(lines.iter().map(|line| Line::parse(line, &options)).collect())
    }

    #[test]
    fn medians_use_undisturbed_rounds() {
        let results = results(&[
            "# a remark",
            "peer=raw scenario=load cpu_us=2",
            "peer=target scenario=load cpu_us=3 lost=1",
            "peer=target scenario=load cpu_us=5 failed=2",
            "peer=target scenario=load cpu_us=9 lg_wait_pct=40",
            "peer=target scenario=idle cpu_us=7 lg_wait_pct=40",
        ]);
        assert_eq!(results.values("peer"), ["raw", "ours"]);
        assert_eq!(results.median("load", "ours", &["nothing", "cpu_us"]), Some(4.0));
        assert_eq!(results.median("idle", "ours", &["cpu_us"]), Some(7.0));
        assert_eq!(results.median("idle", "raw", &["cpu_us"]), None);
        assert_eq!(results.ratio("load", "ours", "raw", &["cpu_us"]), Some(2.0));
        assert_eq!(results.lost("load", "ours"), 3.0);
    }
}
