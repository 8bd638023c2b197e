//! Fits a power law.

/// y = factor * x ^ exponent
#[derive(Debug, Clone, Copy)]
pub(crate) struct Power {
    pub(crate) factor: f64,
    pub(crate) exponent: f64,
}

impl Power {
    /// Least squares on the logarithms. Returns `None` without two different x.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Power> {
        let n = points.len() as f64;
        let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
        let (mean_x, mean_y) = (logs().map(|l| l.0).sum::<f64>() / n, logs().map(|l| l.1).sum::<f64>() / n);
        let spread: f64 = logs().map(|l| (l.0 - mean_x).powi(2)).sum();
        let exponent = logs().map(|l| (l.0 - mean_x) * (l.1 - mean_y)).sum::<f64>() / spread;
        let factor = (mean_y - exponent * mean_x).exp();
        (points.len() > 1 && spread > 0.0).then_some(Power { factor, exponent })
    }

    pub(crate) fn at(self, x: f64) -> f64 {
        self.factor * x.powf(self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_power_law() {
        for (factor, exponent) in [(3.0, 0.0), (0.5, 1.0), (7.0, 2.0), (9.0, -0.5)] {
            let points = [1.0, 10.0, 30.0, 1000.0].map(|x: f64| (x, factor * x.powf(exponent)));
            let power = Power::fit(&points).unwrap();
            assert!((power.exponent - exponent).abs() < 1e-9, "{power:?}");
            assert!((power.at(100.0) / (factor * 100_f64.powf(exponent)) - 1.0).abs() < 1e-9, "{power:?}");
        }
    }

    #[test]
    fn ignores_symmetric_scatter() {
        let power = Power::fit(&[(1.0, 2.0), (1.0, 0.5), (100.0, 200.0), (100.0, 50.0)]).unwrap();
        assert!((power.exponent - 1.0).abs() < 1e-9 && (power.factor - 1.0).abs() < 1e-9, "{power:?}");
    }

    #[test]
    fn needs_two_different_x() {
        for points in [&[][..], &[(5.0, 1.0)], &[(5.0, 1.0), (5.0, 2.0)]] {
            assert!(Power::fit(points).is_none());
        }
    }
}
