//! How the rate of arrivals varies over time, minute by minute.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::Schedule;

/// Longest interval, seconds.
const MINUTE_S: f64 = 60.0;
/// Intervals that a short run has at least.
const LEAST: f64 = 10.0;

/// Rates in intervals of one length, over their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct RateProfile {
    /// Length of an interval, seconds.
    pub interval_s: f64,
    /// Rate of each interval over the mean rate: their mean is 1.
    pub ratios: Arc<[f64]>,
}

impl Default for RateProfile {
    /// One rate forever.
    fn default() -> Self {
        Self {
            interval_s: MINUTE_S,
            ratios: Arc::new([1.0]),
        }
    }
}

impl RateProfile {
    /// Minutes of `schedule`; of runs below ten minutes, tenths.
    pub fn from_schedule(schedule: &Schedule, seed: u64) -> Result<Self> {
        let seconds = schedule.horizon as f64 / 1e9;
        let interval_s = (seconds / LEAST).min(MINUTE_S);
        let mut counts = vec![0.0; ((seconds / interval_s).ceil() as usize).max(1)];
        for time in schedule.times(seed) {
            let place = (time as f64 / 1e9 / interval_s) as usize;
            // The last interval may be cut short by rounding.
            let place = place.min(counts.len() - 1);
            counts[place] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        (mean > 0.0)
            .then(|| Self {
                interval_s,
                ratios: counts.iter().map(|count| count / mean).collect(),
            })
            .context("there is no arrival before the end of the run; raise --duration or the rate")
    }

    /// Whether there is one rate forever.
    pub fn is_steady(&self) -> bool {
        self.ratios.len() == 1
    }

    /// Largest ratio, 1 or more.
    pub fn peak(&self) -> f64 {
        self.ratios.iter().copied().fold(1.0, f64::max)
    }

    /// Share of the intervals whose rate is more than double what it was five minutes
    /// before, when that was at least a tenth of the mean.
    pub fn doublings(&self) -> f64 {
        let back = (300.0 / self.interval_s).round() as usize;
        let pairs = self.ratios.iter().zip(self.ratios.iter().skip(back.max(1)));
        let doubled = pairs
            .filter(|(before, now)| **before >= 0.1 && **now > 2.0 * **before)
            .count();
        doubled as f64 / self.ratios.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::duration;

    #[test]
    fn a_profile_has_the_shape_of_its_arrivals() {
        let schedule =
            Schedule::from_process("constant:10".parse().unwrap(), duration("1h").unwrap());
        let steady = RateProfile::from_schedule(&schedule, 1).unwrap();
        assert_eq!(steady.ratios.len(), 60);
        assert!(steady.ratios.iter().all(|ratio| (ratio - 1.0).abs() < 0.01));
        assert!((steady.peak() - 1.0).abs() < 0.01 && steady.doublings() == 0.0);
        assert!(RateProfile::default().is_steady() && !steady.is_steady());

        let rising = RateProfile {
            interval_s: 60.0,
            ratios: [vec![0.5; 30], vec![1.5; 30]].concat().into(),
        };
        // Only the first five minutes of the second half had a half before them.
        assert!((rising.doublings() - 5.0 / 60.0).abs() < 1e-12);
    }
}
