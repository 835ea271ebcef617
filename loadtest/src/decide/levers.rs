//! What changes when memory, batch size or concurrency of an option are chosen otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Question, Tried};
use crate::cost;
use crate::cost::prices::{PriceError, Prices};
use crate::cost::target::Target;
use crate::cost::workload::Workload;
use crate::format::number;
use crate::lambda_memory::vcpus;

/// Memory sizes that are compared, MB.
const SIZES_MB: [u32; 6] = [128, 256, 512, 1_024, 1_769, 3_008];

/// One choice made otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lever {
    /// What is chosen: `memory`, `batch size` or `concurrency`.
    pub what: String,
    /// How, in words.
    pub setting: String,
    /// Whether it is the present choice.
    pub present: bool,
    /// US dollars a month.
    pub usd_per_month: f64,
    /// Milliseconds of a warm request.
    pub request_ms: f64,
    /// Whether that is within the bound of p99.
    pub in_time: bool,
    /// Milliseconds that the first post of a batch waits for the last at the mean rate.
    pub fill_ms: f64,
}

/// The levers of `best`.
pub(super) fn of(
    question: &Question,
    best: &Tried,
    prices: &Prices,
) -> Result<Vec<Lever>, PriceError> {
    let mut levers = Vec::new();
    let in_time = |workload: &Workload, target: &Target| {
        workload.service_ms(target, vcpus_of(target)) <= question.p99_ms
    };
    let mut add = |what: &str, setting: String, workload: &Workload, target: &Target| {
        let usd_per_month = cost::bill(workload, prices, target)?.usd();
        let waiting = workload.posts_per_request - 1.0;
        levers.push(Lever {
            what: what.to_owned(),
            setting,
            present: *target == best.target
                && (workload.posts_per_request - best.workload.posts_per_request).abs() < 1e-9,
            usd_per_month,
            request_ms: workload.service_ms(target, vcpus_of(target)),
            in_time: in_time(workload, target),
            fill_ms: waiting / workload.posts_per_second * 1e3,
        });
        Ok::<(), PriceError>(())
    };
    if let Target::Lambda {
        arch,
        options,
        memory_mb: present,
    } = &best.target
    {
        let mut sizes = SIZES_MB.to_vec();
        sizes.push(*present);
        sizes.sort_unstable();
        sizes.dedup();
        for memory_mb in sizes {
            let sized = Target::Lambda {
                arch: *arch,
                memory_mb,
                options: *options,
            };
            add("memory", format!("{memory_mb} MB"), &best.workload, &sized)?;
        }
    }
    let posts = best.workload.posts_per_request;
    let mut batches = vec![1.0, 8.0, 32.0];
    if !batches.contains(&posts) {
        batches.push(posts);
        batches.sort_by(f64::total_cmp);
    }
    for batch in batches {
        let batched = Workload {
            posts_per_request: batch,
            // Fewer and longer requests keep a host as busy.
            host_rps_per_vcpu: best
                .workload
                .host_rps_per_vcpu
                .map(|rps| rps * posts / batch),
            ..best.workload.clone()
        };
        let target = cheapest_size(&batched, &best.target, prices, in_time)?;
        let mut setting = match batch {
            1.0 => "1 post a request".to_owned(),
            batch => format!("{} posts a request", number(batch)),
        };
        if let (Target::Lambda { memory_mb, .. }, true) = (&target, target != best.target) {
            setting.push_str(&format!(" at {memory_mb} MB"));
        }
        add("batch size", setting, &batched, &target)?;
    }
    if let Target::Managed { auto: Some(_), .. }
    | Target::Ec2 { auto: Some(_), .. }
    | Target::Fargate { auto: Some(_), .. } = &best.target
    {
        for percent in [30, 50, 70] {
            let scaled = with_utilisation(&best.target, percent);
            let setting = format!("hosts {percent}% busy");
            add("concurrency", setting, &best.workload, &scaled)?;
        }
    }
    if let Target::Lambda { options, .. } = &best.target
        && options.provisioned == 0
        && let Some(peak) = best.ranked.instances_peak
    {
        let setting = format!(
            "one request an environment, {} environments at most (the account's limit is {})",
            number(peak),
            number(question.model.limit as f64)
        );
        add("concurrency", setting, &best.workload, &best.target)?;
    }
    Ok(levers)
}

/// `target` at the memory size that is cheapest within the bound; as it is where no size
/// is, or it has none.
fn cheapest_size(
    workload: &Workload,
    target: &Target,
    prices: &Prices,
    in_time: impl Fn(&Workload, &Target) -> bool,
) -> Result<Target, PriceError> {
    let Target::Lambda { arch, options, .. } = target else {
        return Ok(target.clone());
    };
    if in_time(workload, target) {
        return Ok(target.clone());
    }
    let mut best: Option<(f64, Target)> = None;
    for memory_mb in SIZES_MB {
        let sized = Target::Lambda {
            arch: *arch,
            memory_mb,
            options: *options,
        };
        if !in_time(workload, &sized) {
            continue;
        }
        let usd = cost::bill(workload, prices, &sized)?.usd();
        if best.as_ref().is_none_or(|(least, _)| usd < *least) {
            best = Some((usd, sized));
        }
    }
    Ok(best.map_or_else(|| target.clone(), |(_, sized)| sized))
}

fn with_utilisation(target: &Target, percent: u32) -> Target {
    let mut target = target.clone();
    if let Target::Managed { auto, .. } | Target::Ec2 { auto, .. } | Target::Fargate { auto, .. } =
        &mut target
    {
        *auto = Some(percent);
    }
    target
}

fn vcpus_of(target: &Target) -> f64 {
    match target {
        Target::Lambda { memory_mb, .. } => vcpus(*memory_mb),
        Target::MicroVm { vcpus, .. } | Target::CloudRun { vcpus, .. } => *vcpus,
        Target::AzureFlex { memory_mb, .. } => f64::from(*memory_mb) / 2_048.0,
        _ => 1.0,
    }
}
