//! The distribution of latencies, as measured and as simulated.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Latencies in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Number of requests.
    pub n: u64,
    /// Mean.
    pub mean: f64,
    /// Half are below.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// 99 of a hundred are below.
    pub p99: f64,
    /// 999 of a thousand are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Shares of requests below a latency, for plots: (ms, share).
    pub cdf: Vec<(f64, f64)>,
}

impl Latency {
    /// Quantiles of a histogram whose unit is `unit_ms`.
    pub fn from_histogram(histogram: &Histogram<u64>, unit_ms: f64) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 * unit_ms;
        let shares = (0..100)
            .map(|percent| f64::from(percent) / 100.0)
            .chain([0.992, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0]);
        let mut cdf: Vec<(f64, f64)> = shares.map(|share| (at(share), share)).collect();
        // Of one value only the largest share tells something.
        cdf.dedup_by(|next, kept| {
            let same = (next.0 - kept.0).abs() < f64::EPSILON;
            if same {
                kept.1 = next.1;
            }
            same
        });
        Self {
            n: histogram.len(),
            mean: histogram.mean() * unit_ms,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 * unit_ms,
            cdf,
        }
    }
}
