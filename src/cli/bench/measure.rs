//! Repetitions and their statistics.

use std::time::{Duration, Instant};

/// How long one figure is measured.
const BUDGET: Duration = Duration::from_millis(1500);
/// Repetitions even where one takes longer than the budget,
const MIN_REPETITIONS: usize = 3;
/// and at most, since more do not move a median.
const MAX_REPETITIONS: usize = 2000;

/// What repetitions of the same work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Median seconds.
    pub(super) seconds: f64,
    /// The distance between the 10th and 90th percentile, as a share of the median.
    pub(super) spread: f64,
}

/// Repeats `work`, after once unmeasured: the first time touches memory and grows buffers.
pub(super) fn measure<E>(mut work: impl FnMut() -> Result<(), E>) -> Result<Measured, E> {
    work()?;
    let started = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < MIN_REPETITIONS
        || (started.elapsed() < BUDGET && seconds.len() < MAX_REPETITIONS)
    {
        let started = Instant::now();
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(Measured::of(seconds))
}

impl Measured {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| seconds[(share * (seconds.len() - 1) as f64).round() as usize];
        Self {
            seconds: at(0.5),
            spread: (at(0.9) - at(0.1)) / at(0.5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let measured = Measured::of((1..=11).rev().map(f64::from).collect());
        assert!((measured.seconds - 6.0).abs() < 1e-12);
        assert!((measured.spread - 8.0 / 6.0).abs() < 1e-12);
        let one = Measured::of(vec![2.0]);
        assert!((one.seconds - 2.0).abs() < 1e-12);
        assert!(one.spread.abs() < 1e-12);
    }

    #[test]
    fn failures_end_the_measurement() {
        let mut runs = 0;
        let result = measure(|| {
            runs += 1;
            if runs == 2 { Err("broken") } else { Ok(()) }
        });
        assert_eq!(result, Err("broken"));
    }
}
