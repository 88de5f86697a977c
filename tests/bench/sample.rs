//! Repeated measurements of one thing.

use std::fmt;
use std::time::Duration;

/// Values in the order of their size; at least one.
#[derive(Clone, Debug)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn millis(times: &[Duration]) -> Self {
        Self::new(times.iter().map(|time| time.as_secs_f64() * 1000.0))
    }

    /// Round by round, so that what else the machine does is in both.
    pub fn ratio(values: &[f64], base: &[f64]) -> Self {
        Self::new(values.iter().zip(base).map(|(value, base)| value / base))
    }

    /// The nearest rank: a value that was measured.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub fn max(&self) -> f64 {
        self.percentile(100)
    }

    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// How far the median would stray in 95 of 100 repetitions (the notch of a box plot).
    pub fn stray(&self) -> f64 {
        1.57 * (self.percentile(75) - self.percentile(25)) / (self.0.len() as f64).sqrt()
    }
}

/// A median of ratios with its noise: `0.973 ±0.8 %`.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ±{:.1} %", self.median(), self.stray() * 100.0)
    }
}
