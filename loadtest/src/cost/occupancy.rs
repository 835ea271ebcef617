//! How many instances are held by requests, when the rate varies over time.

use super::workload::Workload;
use crate::format::number;

/// Instances held.
#[derive(Clone, Copy, Debug)]
pub struct Occupancy {
    /// On average.
    pub mean: f64,
    /// In the busiest interval there are so many to be held.
    pub most: f64,
    /// How often a second an instance that nobody held is taken.
    pub starts_per_second: f64,
}

/// Instances of `capacity` requests a second each, held for `held_s` by every request.
///
/// Arrivals are Poisson within an interval of the profile: of `k` instances that share
/// `load = rate × held` evenly, `k × (1 - exp(-load / k))` are held, and one is taken up
/// `rate × exp(-load / k)` times a second.
pub fn occupancy(workload: &Workload, capacity: f64, held_s: f64) -> Occupancy {
    let profile = &workload.profile;
    // Without a profile, the stated peak says how many instances there are.
    let peak = if profile.is_steady() {
        workload.peak_to_mean
    } else {
        1.0
    };
    let mut found = Occupancy {
        mean: 0.0,
        most: 1.0,
        starts_per_second: 0.0,
    };
    for ratio in profile.ratios.iter() {
        let rate = workload.rate() * ratio;
        let instances = (rate * peak / capacity - 1e-9).ceil().max(1.0);
        let load = rate * held_s / instances;
        found.mean += instances * -(-load).exp_m1();
        found.starts_per_second += rate * (-load).exp();
        found.most = found.most.max(instances);
    }
    let count = profile.ratios.len() as f64;
    found.mean /= count;
    found.starts_per_second /= count;
    found
}

impl Occupancy {
    /// How it came about, in words.
    pub fn words(&self, workload: &Workload, held_s: f64) -> String {
        if workload.profile.is_steady() {
            return format!(
                "{} instance(s) busy on average = {k} × (1 - exp(-{} requests/s × {} s / {k}))",
                number(self.mean),
                number(workload.rate()),
                number(held_s),
                k = number(self.most),
            );
        }
        format!(
            "{} of at most {} instance(s) busy on average: k × (1 - exp(-rate × {} s / k)) over the minutes of the traffic",
            number(self.mean),
            number(self.most),
            number(held_s),
        )
    }
}
