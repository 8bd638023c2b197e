//! Maps numbers to positions in the picture.

/// Maps the numbers `low..=high` to the positions `from..=to`.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) is_log: bool,
}

impl Scale {
    /// From 0 to slightly above `high`.
    pub(crate) fn linear((from, to): (f64, f64), high: f64) -> Scale {
        Scale { from, to, low: 0.0, high: (high * 4.0).ceil() / 4.0, is_log: false }
    }

    /// Covers these values, with round ends.
    pub(crate) fn log((from, to): (f64, f64), values: impl Iterator<Item = f64>) -> Scale {
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

    pub(crate) fn at(self, value: f64) -> f64 {
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// A few round numbers within the scale.
    pub(crate) fn ticks(self) -> Vec<f64> {
        let is_inside = |n: &f64| (self.low * 0.999..=self.high * 1.001).contains(n);
        if !self.is_log {
            return (0..).map(|n| f64::from(n) * 0.5).take_while(is_inside).collect();
        }
        let digits: &[f64] = if self.high / self.low > 1e2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        steps(digits).filter(is_inside).collect()
    }
}

/// Numbers that start with these digits, in increasing order.
fn steps(digits: &[f64]) -> impl Iterator<Item = f64> {
    (-9..15).flat_map(move |power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_round_ends_and_contains_all_values() {
        let scale = Scale::log((0.0, 100.0), [3.0, 70.0].into_iter());
        assert!((scale.low - 2.0).abs() < 1e-9 && (scale.high - 100.0).abs() < 1e-9);
        assert!(scale.at(2.0).abs() < 1e-9 && (scale.at(100.0) - 100.0).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 6); // 2, 5, 10, 20, 50, 100
        let same = Scale::log((0.0, 100.0), [5.0, 5.0].into_iter());
        assert!(same.low < same.high);
    }

    #[test]
    fn clamps_values_outside() {
        let scale = Scale::linear((10.0, 20.0), 1.3);
        assert_eq!((scale.high, scale.at(-1.0), scale.at(0.75), scale.at(9.0)), (1.5, 10.0, 15.0, 20.0));
        assert_eq!(scale.ticks(), [0.0, 0.5, 1.0, 1.5]);
    }
}
