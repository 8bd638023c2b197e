//! A strict reader of the text format OpenMetrics 1.0, as far as the crate uses it.

use std::collections::{BTreeMap, HashSet};

/// The metrics of a text.
#[derive(Debug, Default)]
pub(crate) struct OpenMetrics {
    /// Each sample with its labels, as in the text.
    samples: BTreeMap<String, f64>,
    /// The names of counters, gauges and histograms.
    names: Vec<String>,
}

/// A family that is being read.
struct Family {
    name: String,
    kind: String,
    /// How many of TYPE, UNIT and HELP were read.
    descriptors: usize,
    samples: Vec<(String, f64)>,
}

impl OpenMetrics {
    /// Reads a text, which must be valid.
    pub(crate) fn parse(text: &str) -> OpenMetrics {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        assert!(body.is_empty() || body.ends_with('\n'));
        let (mut metrics, mut family, mut seen) = (OpenMetrics::default(), None, HashSet::new());
        for line in body.lines() {
            match line.strip_prefix("# ").map(|rest| rest.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
                Some(["TYPE", name, kind]) => {
                    assert!(seen.insert((*name).to_owned()), "{name} is there twice");
                    assert!(["counter", "gauge", "histogram"].contains(kind), "{line}");
                    metrics.finish(family.take());
                    let (name, kind) = ((*name).to_owned(), (*kind).to_owned());
                    family = Some(Family { name, kind, descriptors: 1, samples: Vec::new() });
                }
                Some(["UNIT", name, unit]) => {
                    let family = described(&mut family, name, line);
                    assert!(family.descriptors == 1 && name.ends_with(&format!("_{unit}")), "{line}");
                    family.descriptors += 1;
                }
                Some(["HELP", name, help]) => {
                    let family = described(&mut family, name, line);
                    assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                    family.descriptors += 1;
                }
                Some(_) => panic!("{line}: not a descriptor"),
                None => family.as_mut().expect("a family begins with its type").add(line),
            }
        }
        metrics.finish(family.take());
        metrics
    }

    /// The value of a sample with its labels.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("there is no {sample}"))
    }

    /// The names of all counters, with `_total`, and of all gauges and histograms.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of samples.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    fn finish(&mut self, family: Option<Family>) {
        let Some(Family { name, kind, samples, .. }) = family else { return };
        self.names.push(if kind == "counter" { format!("{name}_total") } else { name.clone() });
        if kind == "histogram" {
            check_histograms(&name, &samples);
        }
        for (sample, value) in samples {
            assert!(self.samples.insert(sample.clone(), value).is_none(), "{sample} is there twice");
        }
    }
}

impl Family {
    fn add(&mut self, line: &str) {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}: no value"));
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end")),
            None => (sample, ""),
        };
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, text) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}: not a label"));
            let text = text.strip_suffix('"').expect("a value is quoted");
            assert!(!key.is_empty() && !text.contains(['"', '\\', '\n']), "{line}");
        }
        let suffix = name.strip_prefix(&*self.name).unwrap_or_else(|| panic!("{line}: not of {}", self.name));
        let suffixes: &[&str] = match &*self.kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}: not a number"));
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        self.samples.push((sample.to_owned(), value));
    }
}

fn described<'a>(family: &'a mut Option<Family>, name: &str, line: &str) -> &'a mut Family {
    let family = family.as_mut().expect("a family begins with its type");
    assert!(family.name == name && family.samples.is_empty(), "{line}");
    family
}

/// Checks that buckets rise, that the last one is `+Inf` and equals the count, and that bounds are canonical.
fn check_histograms(name: &str, samples: &[(String, f64)]) {
    let (mut bound, mut count) = (f64::NEG_INFINITY, 0.0);
    for (sample, value) in samples {
        if sample.starts_with(&format!("{name}_bucket")) {
            let text = sample.split_once("le=\"").unwrap().1.split_once('"').unwrap().0;
            let le: f64 = text.parse().unwrap();
            assert!(le > bound && *value >= count, "{sample}");
            assert!(text == "+Inf" || text.contains('.'), "{sample}: bounds are floats");
            (bound, count) = (le, *value);
        } else if sample.starts_with(&format!("{name}_count")) {
            assert!(bound.is_infinite() && *value == count, "{sample}");
            (bound, count) = (f64::NEG_INFINITY, 0.0);
        }
    }
    assert!(!bound.is_finite(), "{name}: the last histogram has no count");
}
