//! Quantiles, and how far to trust them.
//!
//! Latencies have long tails, so nothing here assumes a distribution: intervals
//! are percentile bootstrap intervals (Efron and Tibshirani, *An Introduction to
//! the Bootstrap*, 1993, chapter 13). Quantiles interpolate linearly between order
//! statistics, which is the definition numpy and R (type 7) default to.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: the ends of an interval move by less than they would
/// with another seed of the run itself.
const RESAMPLES: usize = 2_000;

/// Share of the resamples that an interval holds.
const CONFIDENCE: f64 = 0.95;

/// The ends of a 95% bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One measured quantity over all runs, in the unit of its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Smallest sample.
    pub min: f64,
    /// Half of the samples are below.
    pub median: f64,
    /// Where the median of such runs lies.
    pub median_ci: Interval,
    /// Nine of ten samples are below.
    pub p90: f64,
    /// Where the 90th percentile of such runs lies.
    pub p90_ci: Interval,
    /// With fewer than a hundred samples, little else than the maximum.
    pub p99: f64,
    /// Where the 99th percentile of such runs lies; of few samples, an underestimate.
    pub p99_ci: Interval,
    /// Largest sample.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Summary {
    /// Summary of `samples`, or `None` when there are none. Samples that are not
    /// finite are a mistake of the caller and panic.
    pub fn from_samples(samples: &[f64], seed: u64) -> Option<Self> {
        let sorted = sorted(samples);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let [median_ci, p90_ci, p99_ci] = bootstrap(&sorted, seed, |resample| {
            [0.5, 0.9, 0.99].map(|q| quantile(resample, q))
        });
        Some(Self {
            n: sorted.len(),
            min,
            median: quantile(&sorted, 0.5),
            median_ci,
            p90: quantile(&sorted, 0.9),
            p90_ci,
            p99: quantile(&sorted, 0.99),
            p99_ci,
            max,
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
        })
    }
}

/// The median of `samples`, or `None` when there are none.
pub fn median(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| quantile(&sorted(samples), 0.5))
}

/// The median of `a` divided by that of `b`, and its interval; `None` when either
/// is empty. The samples are taken as independent of each other.
pub fn ratio_of_medians(a: &[f64], b: &[f64], seed: u64) -> Option<(f64, Interval)> {
    let ratio = median(a)? / median(b)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut resample_a, mut resample_b) = (Vec::new(), Vec::new());
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            draw(a, &mut resample_a, &mut rng);
            draw(b, &mut resample_b, &mut rng);
            quantile(&resample_a, 0.5) / quantile(&resample_b, 0.5)
        })
        .collect();
    Some((ratio, interval(&mut ratios)))
}

/// The `q`-quantile (0 to 1) of samples in ascending order, of which there must be
/// at least one.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    assert!(!sorted.is_empty() && (0.0..=1.0).contains(&q));
    let place = q * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// Percentile bootstrap intervals of `N` statistics of the same samples.
fn bootstrap<const N: usize>(
    samples: &[f64],
    seed: u64,
    statistics: impl Fn(&[f64]) -> [f64; N],
) -> [Interval; N] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(RESAMPLES));
    let mut resample = Vec::new();
    for _ in 0..RESAMPLES {
        draw(samples, &mut resample, &mut rng);
        for (values, value) in values.iter_mut().zip(statistics(&resample)) {
            values.push(value);
        }
    }
    values.map(|mut values| interval(&mut values))
}

/// Fills `resample` with as many of `samples`, drawn with replacement, in order.
fn draw(samples: &[f64], resample: &mut Vec<f64>, rng: &mut ChaCha8Rng) {
    resample.clear();
    resample.extend((0..samples.len()).map(|_| samples[rng.random_range(0..samples.len())]));
    resample.sort_by(f64::total_cmp);
}

fn interval(values: &mut [f64]) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval {
        low: quantile(values, (1.0 - CONFIDENCE) / 2.0),
        high: quantile(values, f64::midpoint(1.0, CONFIDENCE)),
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    assert!(samples.iter().all(|sample| sample.is_finite()));
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 10] = [3.1, 0.4, 12.7, 5.5, 5.5, 1.9, 8.8, 2.2, 40.0, 6.1];
    const Y: [f64; 7] = [1.0, 2.0, 2.5, 4.0, 3.5, 1.2, 6.6];

    fn assert_near(value: f64, expected: f64, tolerance: f64) {
        assert!(
            (value - expected).abs() <= tolerance,
            "{value} is not {expected} within {tolerance}"
        );
    }

    /// Forty samples without ties, so that the ends of intervals do not jump.
    fn spread() -> Vec<f64> {
        (0..40)
            .map(|i| 100.0 + 10.0 * f64::from(i * i).sin())
            .collect()
    }

    /// Expected values: `numpy.quantile` of numpy 2.
    #[test]
    fn quantiles_are_those_of_numpy() {
        let sorted = sorted(&X);
        for (q, expected) in [
            (0.0, 0.4),
            (0.25, 2.425),
            (0.5, 5.5),
            (0.9, 15.43),
            (0.99, 37.543),
            (1.0, 40.0),
        ] {
            assert_near(quantile(&sorted, q), expected, 1e-9);
        }
        assert_near(quantile(&[7.0], 0.99), 7.0, 0.0);
    }

    /// Expected values: 100,000 resamples with numpy's generator, so they agree as
    /// far as 2,000 resamples reach and not to the last digit.
    #[test]
    fn the_median_interval_is_that_of_numpy() {
        let summary = Summary::from_samples(&spread(), 1).unwrap();
        assert_near(summary.median, 98.110_647_958, 1e-6);
        assert_near(summary.median_ci.low, 94.82, 0.8);
        assert_near(summary.median_ci.high, 101.63, 0.8);
        assert!(summary.p90_ci.low <= summary.p90 && summary.p90 <= summary.p90_ci.high);
        assert!(summary.p99_ci.high <= summary.max);
    }

    /// Expected values: 400,000 resamples with numpy.
    #[test]
    fn the_ratio_of_medians_is_that_of_numpy() {
        let (ratio, interval) = ratio_of_medians(&X, &Y, 1).unwrap();
        assert_near(ratio, 2.2, 1e-9);
        assert_near(interval.low, 0.6625, 0.1);
        assert_near(interval.high, 5.375, 0.6);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let [once, again, other] = [1, 1, 2].map(|seed| Summary::from_samples(&spread(), seed));
        assert_eq!(once, again);
        assert_ne!(once, other);
    }

    #[test]
    fn nothing_measured_has_no_summary() {
        assert_eq!(Summary::from_samples(&[], 1), None);
        assert_eq!(median(&[]), None);
        assert_eq!(ratio_of_medians(&X, &[], 1), None);
    }

    #[test]
    #[should_panic(expected = "is_finite")]
    fn a_sample_that_is_no_number_is_a_mistake() {
        let _ = Summary::from_samples(&[1.0, f64::NAN], 1);
    }
}
