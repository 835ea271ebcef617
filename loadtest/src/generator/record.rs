//! What a run measured.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{KEPT_MS, Load};
use crate::format::number;
use crate::latency::Latency;

/// How late requests left, in milliseconds after their intended time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleError {
    /// Half were less late.
    pub p50_ms: f64,
    /// 99 of a hundred were less late.
    pub p99_ms: f64,
    /// The latest.
    pub max_ms: f64,
}

/// One run against one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// The load in words.
    pub load: String,
    /// Length of the run, seconds.
    pub seconds: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered with status 200.
    pub ok: u64,
    /// Answers with status 200 a second.
    pub ok_per_second: f64,
    /// Latency of those; in an open loop from the intended time on.
    pub latency_ms: Latency,
    /// How late the client was, in an open loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_error: Option<ScheduleError>,
    /// Whether the client offered the load it was asked for.
    pub kept_schedule: bool,
    /// Connections opened.
    pub connections: u64,
    /// Requests without status 200, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl Measured {
    /// One sentence.
    pub fn words(&self) -> String {
        let mut words = format!(
            "{}: {} answered of {} ({}/s), p50 {} ms, p99 {} ms, max {} ms",
            self.load,
            number(self.ok as f64),
            number(self.sent as f64),
            number(self.ok_per_second),
            number(self.latency_ms.p50),
            number(self.latency_ms.p99),
            number(self.latency_ms.max)
        );
        if let Some(error) = &self.schedule_error {
            words.push_str(&format!(
                "; {} its schedule (p50 {} ms late, p99 {} ms, max {} ms)",
                if self.kept_schedule {
                    "kept"
                } else {
                    "DID NOT KEEP"
                },
                number(error.p50_ms),
                number(error.p99_ms),
                number(error.max_ms)
            ));
        }
        for (fault, count) in &self.faults {
            words.push_str(&format!("; {count} {fault}"));
        }
        words
    }
}

/// What one thread counts.
pub(super) struct ThreadRecord {
    pub(super) latency: Histogram<u64>,
    late: Histogram<u64>,
    pub(super) sent: u64,
    pub(super) connections: u64,
    pub(super) elapsed: Duration,
    faults: BTreeMap<String, u64>,
}

impl ThreadRecord {
    pub(super) fn new() -> Self {
        // Microseconds up to an hour, to three digits.
        let histogram =
            || Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid");
        Self {
            latency: histogram(),
            late: histogram(),
            sent: 0,
            connections: 0,
            elapsed: Duration::ZERO,
            faults: BTreeMap::new(),
        }
    }

    pub(super) fn late(&mut self, by: Duration) {
        self.late.saturating_record((by.as_micros() as u64).max(1));
    }

    pub(super) fn answer(&mut self, latency: Duration) {
        self.latency
            .saturating_record((latency.as_micros() as u64).max(1));
    }

    pub(super) fn fault(&mut self, kind: String) {
        *self.faults.entry(kind).or_default() += 1;
    }
}

/// The threads' records as one.
pub(super) fn merge(records: Vec<ThreadRecord>, load: &Load) -> Measured {
    let mut sum = ThreadRecord::new();
    for record in records {
        sum.latency
            .add(&record.latency)
            .and_then(|()| sum.late.add(&record.late))
            .expect("all histograms have the same bounds");
        sum.sent += record.sent;
        sum.connections += record.connections;
        sum.elapsed = sum.elapsed.max(record.elapsed);
        for (kind, count) in record.faults {
            *sum.faults.entry(kind).or_default() += count;
        }
    }
    let seconds = sum.elapsed.as_secs_f64();
    let ok = sum.latency.len();
    let late = |quantile| sum.late.value_at_quantile(quantile) as f64 / 1e3;
    let (load, schedule_error) = match load {
        Load::Open(schedule) => (
            format!("open loop, {}", schedule.name),
            Some(ScheduleError {
                p50_ms: late(0.5),
                p99_ms: late(0.99),
                max_ms: sum.late.max() as f64 / 1e3,
            }),
        ),
        Load::Closed { callers, .. } => (format!("closed loop, {callers} client(s)"), None),
    };
    Measured {
        load,
        seconds,
        sent: sum.sent,
        ok,
        ok_per_second: ok as f64 / seconds.max(1e-9),
        latency_ms: Latency::from_histogram(&sum.latency, 1e-3),
        kept_schedule: schedule_error
            .as_ref()
            .is_none_or(|error| error.p99_ms <= KEPT_MS),
        schedule_error,
        connections: sum.connections,
        faults: sum.faults,
    }
}
