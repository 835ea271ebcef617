//! What a replay saw, from a server or from the local Lambda.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generator::Measured;
use crate::latency::Latency;
use crate::simulate::Outcome;

/// What a replay saw, in the terms of the simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Requests answered.
    pub requests: u64,
    /// Requests that failed, by kind.
    pub faults: std::collections::BTreeMap<String, u64>,
    /// Requests an instance was started for; unknown for a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<u64>,
    /// Instances started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_started: Option<u64>,
    /// Most requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_peak: Option<u64>,
    /// Memory times billed time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_gb_seconds: Option<f64>,
    /// Latency from the intended time on.
    pub latency_ms: Latency,
    /// Those on a running instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_latency_ms: Option<Latency>,
    /// Those that waited for a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_latency_ms: Option<Latency>,
    /// 99th percentile of how late requests left, ms.
    pub schedule_error_p99_ms: f64,
}

impl From<Measured> for Replayed {
    fn from(measured: Measured) -> Self {
        Self {
            requests: measured.ok,
            faults: measured.faults,
            latency_ms: measured.latency_ms,
            schedule_error_p99_ms: measured.schedule_error.map_or(0.0, |error| error.p99_ms),
            ..Self::default()
        }
    }
}

/// A replay and the simulations of its arrivals.
pub(super) struct Replay {
    pub(super) replayed: Replayed,
    pub(super) simulated: Vec<Outcome>,
}
