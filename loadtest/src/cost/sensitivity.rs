//! What the answer becomes when one input changes and the rest stays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::breakeven;
use super::monthly::bill;
use super::prices::{PriceError, Prices};
use super::target::Target;
use super::workload::{AtSize, Cold, Workload};
use crate::format::{number, percent};
use crate::lambda_memory::{self, ONE_VCPU_MB};

/// Memory sizes worth comparing, MB.
pub const MEMORY_MB: [u32; 8] = [128, 256, 512, 1_024, ONE_VCPU_MB, 2_048, 3_008, 4_096];

/// One input changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// The input, e.g. `cold fraction`.
    pub input: String,
    /// Its value in words.
    pub value: String,
    /// The target.
    pub target: String,
    /// US dollars a month.
    pub usd_per_month: f64,
    /// US dollars for a million posts.
    pub usd_per_million_posts: f64,
    /// Milliseconds of a warm request, where the change bears on it.
    pub service_ms: f64,
    /// First rate at which the first always-on target is cheaper.
    pub break_even: Option<f64>,
}

/// All cases for the first function among `targets`, against the first
/// always-on target. Posts a second stay the same throughout.
pub fn cases(
    workload: &Workload,
    prices: &Prices,
    targets: &[Target],
) -> Result<Vec<Case>, PriceError> {
    let Some(function) = targets
        .iter()
        .find(|target| matches!(target, Target::Lambda { .. }))
    else {
        return Ok(Vec::new());
    };
    let host = targets.iter().find(|target| target.always_on());
    let mut cases = Vec::new();
    let mut add = |input: &str, value: String, workload: &Workload, target: &Target| {
        let bill = bill(workload, prices, target)?;
        let break_even = host
            .map(|host| breakeven::find(workload, prices, target, host))
            .transpose()?
            .and_then(|found| found.requests_per_second);
        cases.push(Case {
            input: input.to_owned(),
            value,
            target: target.to_string(),
            usd_per_month: bill.usd(),
            usd_per_million_posts: bill.usd() / workload.posts() * 1e6,
            service_ms: workload.service_ms(target, vcpus(target)),
            break_even,
        });
        Ok::<(), PriceError>(())
    };
    for fraction in [0.0, 0.001, 0.01, 0.1, 1.0] {
        let changed = Workload {
            cold: Cold::Given(fraction),
            ..workload.clone()
        };
        add("cold fraction", percent(fraction), &changed, function)?;
    }
    for batch in [1.0, 8.0, 32.0, 64.0] {
        let changed = Workload {
            posts_per_request: batch,
            // A capacity measured at one batch size says nothing of another.
            host_rps_per_vcpu: workload
                .host_rps_per_vcpu
                .filter(|_| (batch - workload.posts_per_request).abs() < 1e-9),
            ..workload.clone()
        };
        add(
            "batch size",
            format!("{} posts a request", number(batch)),
            &changed,
            function,
        )?;
    }
    for factor in [0.5, 2.0] {
        let changed = Workload {
            request_ms: workload.request_ms * factor,
            post_ms: workload.post_ms * factor,
            measured: workload
                .measured
                .iter()
                .map(|measured| AtSize {
                    request_ms: measured.request_ms * factor,
                    ..measured.clone()
                })
                .collect(),
            ..workload.clone()
        };
        add(
            "service time",
            format!("× {}", number(factor)),
            &changed,
            function,
        )?;
    }
    for memory_mb in MEMORY_MB {
        let sized = with_memory(function, memory_mb);
        add("memory", format!("{memory_mb} MB"), workload, &sized)?;
    }
    Ok(cases)
}

fn with_memory(function: &Target, memory_mb: u32) -> Target {
    match function {
        Target::Lambda { arch, options, .. } => Target::Lambda {
            arch: *arch,
            memory_mb,
            options: *options,
        },
        other => other.clone(),
    }
}

fn vcpus(target: &Target) -> f64 {
    match target {
        Target::Lambda { memory_mb, .. } => lambda_memory::vcpus(*memory_mb),
        _ => 1.0,
    }
}
