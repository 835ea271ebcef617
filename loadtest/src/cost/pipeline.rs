//! A chatty pipeline: many small functions that hand each item on through a
//! workflow and an object store, against one process that does it all.
//!
//! In 2023 Prime Video's stream monitoring reached a hard limit at about 5% of
//! the expected load and cut its cost by more than 90% by moving from Step
//! Functions, Lambda and S3 into one ECS task. The team published no absolute
//! figures; what it named was a state transition for every second of stream and
//! object-store calls for every frame. Pricing each hop shows why that shape
//! costs what it does: the hand-offs, not the GB-seconds.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bill::{Bill, Split};
use super::hosts::FargateTask;
use super::lambda::{self, BilledUsage};
use super::prices::{PriceError, Prices};
use super::target::{Arch, Target};
use super::workload::{HOURS, SECONDS};
use crate::format::{dollars, percent};
use crate::lambda_memory::{ONE_VCPU_MB, vcpus};

/// What one item costs in hand-offs and work.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[group(skip)]
pub struct Pipeline {
    /// Items a second, mean over the month (a second of stream, a post)
    #[arg(long, default_value_t = 1.0)]
    pub items_per_second: f64,
    /// Function invocations an item
    #[arg(long, default_value_t = 3.0)]
    pub hops: f64,
    /// Workflow state transitions an item
    #[arg(long, default_value_t = 5.0)]
    pub transitions: f64,
    /// Objects written an item
    #[arg(long, default_value_t = 2.0)]
    pub puts: f64,
    /// Objects read an item
    #[arg(long, default_value_t = 4.0)]
    pub gets: f64,
    /// Queue requests an item (send, receive and delete are three)
    #[arg(long, default_value_t = 0.0)]
    pub queue_requests: f64,
    /// Busy milliseconds of one hop on one vCPU
    #[arg(long, default_value_t = 20.0)]
    pub hop_ms: f64,
    /// Milliseconds of each hop spent on fetching and storing what the single process keeps in memory
    #[arg(long, default_value_t = 30.0)]
    pub transfer_ms: f64,
    /// Memory of each function, MB
    #[arg(long, default_value_t = ONE_VCPU_MB)]
    pub hop_memory_mb: u32,
    /// Share of hops that meet a cold start
    #[arg(long, default_value_t = 0.01)]
    pub hop_cold_fraction: f64,
    /// Billed init of a cold hop, ms
    #[arg(long, default_value_t = 150.0)]
    pub hop_init_ms: f64,
}

/// Both designs priced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The inputs.
    pub pipeline: Pipeline,
    /// The functions with their hand-offs.
    pub chatty: Bill,
    /// One always-on process.
    pub single: Bill,
    /// The single process's task.
    pub single_target: String,
    /// Part of the chatty bill that is hand-offs: transitions, objects, queues.
    pub orchestration_share: f64,
    /// Saving of the single process over the chatty design; negative if it is dearer.
    pub saving: f64,
    /// The result as a sentence.
    pub words: String,
}

/// Prices `pipeline` as functions and as one process in tasks on Fargate.
pub fn compare(
    pipeline: &Pipeline,
    prices: &Prices,
    task: FargateTask,
) -> Result<Comparison, PriceError> {
    let FargateTask { arch, vcpus, gb } = task;
    let items = pipeline.items_per_second * SECONDS;
    let chatty = chatty(pipeline, prices, items)?;
    let handed_over: f64 = chatty
        .lines
        .iter()
        .filter(|line| !line.price_item.starts_with("lambda."))
        .map(|line| line.usd)
        .sum();
    let single_target = Target::Fargate {
        arch,
        vcpus,
        gb,
        least: 1,
        auto: None,
    };
    let mut single = Bill::default();
    // Seven tenths busy: the rest is head room for bursts.
    let busy = pipeline.items_per_second * pipeline.hops * pipeline.hop_ms / 1_000.0 / 0.7;
    let tasks = (busy / vcpus - 1e-9).ceil().max(1.0);
    single.note("tasks = ceil(busy vCPUs / 0.7 / vCPUs a task); frames stay in memory");
    for (what, amount, unit, row) in [
        ("task vCPUs", vcpus, "vCPU", "vcpu"),
        ("task memory", gb, "GB", "gb"),
    ] {
        single.add(
            what,
            &[(tasks, "tasks"), (amount, unit), (HOURS, "h")],
            prices.get(&format!("fargate.{}.{row}", arch.key()))?,
        );
    }
    let orchestration_share = handed_over / chatty.usd();
    let saving = 1.0 - single.usd() / chatty.usd();
    let words = format!(
        "The pipeline costs {} a month, of which {} is hand-offs and {} functions; one process on {single_target} costs {}: {}.",
        dollars(chatty.usd()),
        percent(orchestration_share),
        percent(1.0 - orchestration_share),
        dollars(single.usd()),
        if saving >= 0.0 {
            format!("{} less", percent(saving))
        } else {
            format!("{} more", percent(-saving))
        }
    );
    Ok(Comparison {
        pipeline: pipeline.clone(),
        chatty,
        single,
        single_target: single_target.to_string(),
        orchestration_share,
        saving,
        words,
    })
}

fn chatty(pipeline: &Pipeline, prices: &Prices, items: f64) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let vcpus = vcpus(pipeline.hop_memory_mb);
    let busy_ms = (pipeline.hop_ms / vcpus.min(1.0) + pipeline.transfer_ms).ceil();
    let hop_ms = busy_ms + pipeline.hop_cold_fraction * pipeline.hop_init_ms;
    let requests = items * pipeline.hops;
    bill.note(format!(
        "a hop is billed {busy_ms} ms and {} of hops a cold start of {} ms",
        percent(pipeline.hop_cold_fraction),
        pipeline.hop_init_ms
    ));
    for (what, count, unit, row) in [
        (
            "state transitions",
            pipeline.transitions,
            "transitions",
            "stepfunctions.standard.transition",
        ),
        ("objects written", pipeline.puts, "PUTs", "s3.put"),
        ("objects read", pipeline.gets, "GETs", "s3.get"),
        (
            "queue requests",
            pipeline.queue_requests,
            "requests",
            "sqs.standard.request",
        ),
    ] {
        bill.add(what, &[(items, "items"), (count, unit)], prices.get(row)?);
    }
    let usage = BilledUsage {
        requests,
        gb_seconds: requests * hop_ms / 1_000.0 * f64::from(pipeline.hop_memory_mb) / 1_024.0,
    };
    lambda::on_demand(&mut bill, prices, Arch::Arm, usage, Split::WORK, false)?;
    Ok(bill)
}
