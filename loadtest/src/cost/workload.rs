//! What is to be scored and how long it takes: the inputs of every bill.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::arrivals::profile::RateProfile;
use crate::format::number;

/// Hours in a month as the providers' own calculators count it.
pub const HOURS: f64 = 730.0;
/// Seconds in that month.
pub const SECONDS: f64 = HOURS * 3_600.0;

/// Share of requests that meet a cold start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cold {
    /// The same at every rate.
    Given(f64),
    /// By requests a second, ascending; between two points the logarithm of
    /// the rate is interpolated, outside them the nearest holds.
    ByRate(Vec<(f64, f64)>),
}

impl Cold {
    /// The fraction at `rate` requests a second, 0 to 1.
    pub fn at(&self, rate: f64) -> f64 {
        match self {
            Self::Given(fraction) => *fraction,
            Self::ByRate(points) => {
                let above = points.partition_point(|(point, _)| *point < rate);
                match (
                    above.checked_sub(1).map(|below| points[below]),
                    points.get(above),
                ) {
                    (Some(low), Some(high)) => {
                        let share = (rate / low.0).ln() / (high.0 / low.0).ln();
                        low.1 + share * (high.1 - low.1)
                    }
                    (Some(only), None) => only.1,
                    (None, Some(only)) => only.1,
                    (None, None) => 0.0,
                }
            }
        }
    }
}

impl Cold {
    /// Scales the curve of Poisson arrivals so that it has at `rate` the `fraction` that
    /// real arrivals have: burstier ones start more instances at every rate.
    pub fn meet(&mut self, rate: f64, fraction: f64) {
        let poisson = self.at(rate);
        let Self::ByRate(points) = self else {
            *self = Self::Given(fraction);
            return;
        };
        if poisson > 0.0 {
            for (_, share) in points.iter_mut() {
                *share = (*share * fraction / poisson).min(1.0);
            }
        }
        let place = points.partition_point(|(point, _)| *point < rate);
        points.insert(place, (rate, fraction));
    }
}

/// A request's time at a function's memory size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AtSize {
    /// Memory, MB.
    pub memory_mb: u32,
    /// Posts in the request.
    pub posts_per_request: f64,
    /// Mean milliseconds of a warm request.
    pub request_ms: f64,
}

/// How the number of autoscaled hosts follows the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Autoscaling {
    /// Seconds from a change of the load to the host that it asks for.
    pub reaction_s: f64,
    /// Seconds for which a lower load must last before hosts go.
    pub hold_s: f64,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            reaction_s: 180.0,
            hold_s: 900.0,
        }
    }
}

/// Traffic, service time and host capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Posts per second, averaged over the month.
    pub posts_per_second: f64,
    /// Busiest rate over the mean: always-on hosts are sized for it.
    pub peak_to_mean: f64,
    /// Posts in one request.
    pub posts_per_request: f64,
    /// Characters of a post.
    pub post_chars: f64,
    /// Bytes a request moves both ways, headers included.
    pub request_bytes: f64,
    /// Bytes of a reply, for streamed ones.
    pub reply_bytes: f64,
    /// Requests a client sends before it opens a new connection.
    pub requests_per_connection: f64,
    /// Milliseconds per request, without its posts, on one vCPU.
    pub request_ms: f64,
    /// Milliseconds of a post, on one vCPU.
    pub post_ms: f64,
    /// vCPUs that one request can use.
    pub threads: f64,
    /// Billed milliseconds of an init phase.
    pub init_ms: f64,
    /// Billed milliseconds of a restore: what the function's hooks take.
    pub restore_ms: f64,
    /// Share of requests that are cold.
    pub cold: Cold,
    /// Number of tenants with isolated environments and equal shares of the traffic.
    pub tenants: u32,
    /// Seconds without a request after which a MicroVM is suspended.
    pub suspend_after_s: f64,
    /// How autoscaled hosts follow the load.
    pub autoscaling: Autoscaling,
    /// How the rate varies; not written, for it is as long as the trace.
    #[serde(skip)]
    pub profile: RateProfile,
    /// Requests a second one vCPU of a host sustains within the latency
    /// target; `None` takes `host_load` of the service rate.
    pub host_rps_per_vcpu: Option<f64>,
    /// Utilisation a host is run at when its capacity was not measured.
    pub host_load: f64,
    /// Whether Lambda's monthly free tier is still free.
    pub free_tier: bool,
    /// Times measured at a memory size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<AtSize>,
    /// Factor of speed by target or its prefix: 2 halves the service time.
    pub speed: Vec<(String, f64)>,
    /// Share taken off processors and memory, by target or its prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<(String, f64)>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            posts_per_second: 1.0,
            peak_to_mean: 1.0,
            posts_per_request: 1.0,
            post_chars: 120.0,
            request_bytes: 1_500.0,
            reply_bytes: 500.0,
            requests_per_connection: 10.0,
            request_ms: 0.5,
            post_ms: 5.0,
            threads: 1.0,
            init_ms: 50.0,
            restore_ms: 5.0,
            cold: Cold::Given(0.01),
            tenants: 1,
            suspend_after_s: 60.0,
            autoscaling: Autoscaling::default(),
            profile: RateProfile::default(),
            host_rps_per_vcpu: None,
            host_load: 0.7,
            free_tier: false,
            measured: Vec::new(),
            speed: Vec::new(),
            discounts: Vec::new(),
        }
    }
}

impl Workload {
    /// Requests a second, mean.
    pub fn rate(&self) -> f64 {
        self.posts_per_second / self.posts_per_request
    }

    /// The same work at `rate` requests a second.
    #[must_use]
    pub fn at_rate(&self, rate: f64) -> Self {
        Self {
            posts_per_second: rate * self.posts_per_request,
            ..self.clone()
        }
    }

    /// Posts a month.
    pub fn posts(&self) -> f64 {
        self.posts_per_second * SECONDS
    }

    /// Requests a month.
    pub fn requests(&self) -> f64 {
        self.rate() * SECONDS
    }

    /// Speed of `target` against the machine the times were taken on: the
    /// longest prefix given with `--speed`, else 1.
    pub fn speed_of(&self, target: &Target) -> f64 {
        by_prefix(&self.speed, target).unwrap_or(1.0)
    }

    /// Share taken off the processors and memory of `target`.
    pub fn discount_of(&self, target: &Target) -> f64 {
        by_prefix(&self.discounts, target).unwrap_or(0.0)
    }

    /// Share of requests that meet a cold start when the function is asked `rate` times a
    /// second by all tenants together.
    pub fn cold_at(&self, rate: f64) -> f64 {
        self.cold.at(rate / f64::from(self.tenants))
    }

    /// Milliseconds of one request on `vcpus` of `target`: what was measured at this
    /// memory size, else the time on one vCPU divided by the share there is.
    ///
    /// Short requests fit into the processor quota of one period, so that small sizes
    /// are often faster than their share says; only a measurement tells.
    pub fn service_ms(&self, target: &Target, vcpus: f64) -> f64 {
        if let Target::Lambda { memory_mb, .. } = target {
            let at_size = self.measured.iter().find(|measured| {
                measured.memory_mb == *memory_mb
                    && (measured.posts_per_request - self.posts_per_request).abs() < 1e-9
            });
            if let Some(measured) = at_size {
                return measured.request_ms / self.speed_of(target);
            }
        }
        let one = self.request_ms + self.post_ms * self.posts_per_request;
        one / self.speed_of(target) / vcpus.min(self.threads)
    }

    /// Requests a second that a host with `vcpus` sustains within the latency target.
    pub fn host_rps(&self, target: &Target, vcpus: f64) -> f64 {
        let speed = self.speed_of(target);
        let per_vcpu = self.host_rps_per_vcpu.unwrap_or_else(|| {
            self.host_load * 1_000.0 / (self.request_ms + self.post_ms * self.posts_per_request)
        });
        per_vcpu * speed * vcpus
    }

    /// Requests a second that `vcpus` serve when they are never idle.
    pub fn full_rps(&self, target: &Target, vcpus: f64) -> f64 {
        let service_ms = self.request_ms + self.post_ms * self.posts_per_request;
        vcpus * self.speed_of(target) * 1_000.0 / service_ms
    }

    /// How the capacity of a host came about, in words.
    pub fn host_rps_reason(&self) -> String {
        match self.host_rps_per_vcpu {
            Some(rps) => format!(
                "a host's capacity is the measured {} requests/s per vCPU within the latency target",
                number(rps)
            ),
            None => format!(
                "a host's capacity is {} of the service rate, an assumption: measure it with `warm`",
                number(self.host_load)
            ),
        }
    }
}

/// What is given for the longest prefix of `target`'s name.
fn by_prefix(values: &[(String, f64)], target: &Target) -> Option<f64> {
    let name = target.to_string();
    values
        .iter()
        .filter(|(prefix, _)| name.starts_with(prefix.as_str()))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_gives_the_speed() {
        let workload = Workload {
            speed: vec![("lambda".to_owned(), 0.5), ("lambda:arm".to_owned(), 0.8)],
            ..Workload::default()
        };
        let speed = |name: &str| workload.speed_of(&name.parse().unwrap());
        assert_eq!(speed("lambda:arm:512").to_string(), "0.8");
        assert_eq!(speed("lambda:x86:512").to_string(), "0.5");
        assert_eq!(speed("ec2:c7g.large").to_string(), "1");
    }

    #[test]
    fn less_than_a_vcpu_takes_longer_and_more_helps_only_threads() {
        let workload = Workload {
            request_ms: 1.0,
            post_ms: 4.0,
            posts_per_request: 2.0,
            ..Workload::default()
        };
        let target = Target::Comprehend;
        let ms = |vcpus| workload.service_ms(&target, vcpus);
        assert!((ms(1.0) - 9.0).abs() < 1e-12);
        assert!((ms(0.5) - 18.0).abs() < 1e-12);
        assert!((ms(4.0) - 9.0).abs() < 1e-12);
        let threads = Workload {
            threads: 3.0,
            ..workload.clone()
        };
        assert!((threads.service_ms(&target, 4.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_measured_at_a_size_counts_at_that_size() {
        let workload = Workload {
            measured: vec![AtSize {
                memory_mb: 512,
                posts_per_request: 1.0,
                request_ms: 3.0,
            }],
            ..Workload::default()
        };
        let ms = |name: &str, batch| {
            let workload = Workload {
                posts_per_request: batch,
                ..workload.clone()
            };
            workload.service_ms(&name.parse().unwrap(), 0.25)
        };
        assert!((ms("lambda:arm:512", 1.0) - 3.0).abs() < 1e-12);
        assert!((ms("lambda:arm:256", 1.0) - 22.0).abs() < 1e-12);
        assert!((ms("lambda:arm:512", 2.0) - 42.0).abs() < 1e-12);
    }

    #[test]
    fn cold_fractions_are_interpolated_over_the_logarithm_of_the_rate() {
        let cold = Cold::ByRate(vec![(0.01, 1.0), (1.0, 0.5), (100.0, 0.0)]);
        for (rate, expected) in [
            (0.001, 1.0),
            (0.1, 0.75),
            (1.0, 0.5),
            (10.0, 0.25),
            (1e4, 0.0),
        ] {
            assert!((cold.at(rate) - expected).abs() < 1e-12, "{rate}");
        }
        assert!((Cold::ByRate(Vec::new()).at(1.0)).abs() < 1e-12);
    }

    #[test]
    fn the_curve_meets_the_simulated_fraction() {
        let mut cold = Cold::ByRate(vec![(0.01, 1.0), (1.0, 0.02), (100.0, 0.0)]);
        cold.meet(1.0, 0.04);
        for (rate, expected) in [(0.001, 1.0), (1.0, 0.04), (1e3, 0.0)] {
            assert!((cold.at(rate) - expected).abs() < 1e-12, "{rate}");
        }
        let mut quiet = Cold::ByRate(vec![(0.01, 0.0), (100.0, 0.0)]);
        quiet.meet(1.0, 0.5);
        assert!((quiet.at(1.0) - 0.5).abs() < 1e-12);
    }
}
