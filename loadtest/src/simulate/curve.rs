//! How the share of cold requests depends on the rate of Poisson arrivals.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Model, Window};
use crate::arrivals::Schedule;
use crate::arrivals::process::Process;

/// Arrivals a point: enough that one cold start in ten thousand shows.
const ARRIVALS: f64 = 60_000.0;
/// Part of them that only fills the fleet.
const WARM_UP: f64 = 0.3;

/// Cold fraction of one tenant, with nothing kept ready, at `per_decade` rates a factor of ten over `rates` in
/// requests a second. At high rates, where a point covers less than an idle time,
/// the fleet is still growing, and the fraction is an upper bound.
pub fn cold_by_rate(
    model: &Model,
    rates: RangeInclusive<f64>,
    per_decade: u32,
    seed: u64,
) -> Vec<(f64, f64)> {
    let (from, to) = rates.into_inner();
    let unlimited = Model {
        kept: 0,
        tenants: 1,
        limit: u64::MAX,
        burst: f64::INFINITY,
        ..model.clone()
    };
    let points = ((to / from).log10() * f64::from(per_decade)).ceil() as u32;
    (0..=points)
        .map(|point| {
            let rate = from * 10f64.powf(f64::from(point) / f64::from(per_decade));
            let length = Duration::from_secs_f64(ARRIVALS / rate);
            let schedule = Schedule::from_process(Process::Poisson(rate), length);
            let warm_up = (schedule.horizon as f64 * WARM_UP) as u64;
            let outcome = super::run(
                &unlimited,
                schedule.times(seed),
                &schedule.name,
                Window {
                    horizon: schedule.horizon,
                    warm_up,
                },
                seed,
            );
            (rate, outcome.cold_fraction)
        })
        .collect()
}
