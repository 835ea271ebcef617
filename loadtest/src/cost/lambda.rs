//! Lambda's bill: requests, GB-seconds in tiers, the init phase or a snapshot's restores,
//! provisioned concurrency, streamed replies, durable operations, the front door.

use super::bill::{Bill, Split};
use super::load_balancer;
use super::prices::{PriceError, Prices};
use super::target::{Arch, Front, LambdaOptions, Target};
use super::workload::{HOURS, SECONDS, Workload};
use crate::format::{number, percent};
use crate::lambda_memory::{ONE_VCPU_MB, vcpus};

/// Upper ends of the first two GB-second tiers of a month.
const fn tiers(arch: Arch) -> [f64; 2] {
    match arch {
        Arch::X86 => [6e9, 15e9],
        Arch::Arm => [7.5e9, 18.75e9],
    }
}

/// What a month of on-demand use is billed for.
#[derive(Clone, Copy, Debug, Default)]
pub struct BilledUsage {
    /// Invocations.
    pub requests: f64,
    /// Memory times billed time, starts included.
    pub gb_seconds: f64,
}

/// Adds the on-demand lines for `usage`, with the free tier taken off if asked. `split`
/// says what the duration is paid for.
pub fn on_demand(
    bill: &mut Bill,
    prices: &Prices,
    arch: Arch,
    usage: BilledUsage,
    split: Split,
    free_tier: bool,
) -> Result<(), PriceError> {
    let (mut free_requests, mut free_gb_seconds) = (0.0, 0.0);
    if free_tier {
        free_requests = prices.get("lambda.free.requests")?.usd;
        free_gb_seconds = prices.get("lambda.free.gbs")?.usd;
        bill.note(format!(
            "free tier subtracted: {} requests and {} GB-s per month",
            number(free_requests),
            number(free_gb_seconds)
        ));
    }
    bill.add(
        "requests",
        &[((usage.requests - free_requests).max(0.0), "requests")],
        prices.get("lambda.request")?,
    );
    let billable = (usage.gb_seconds - free_gb_seconds).max(0.0);
    let [first, second] = tiers(arch);
    for (name, from, to) in [
        ("t1", 0.0, first),
        ("t2", first, second),
        ("t3", second, f64::INFINITY),
    ] {
        bill.add_split(
            "duration",
            &[((billable.min(to) - from).max(0.0), "GB-s")],
            prices.get(&format!("lambda.duration.{}.{name}", arch.key()))?,
            split,
        );
    }
    Ok(())
}

/// Adds provisioned concurrency: `configured_gb_seconds` kept ready and
/// `usage` served by it. The free tier does not cover it.
pub fn provisioned(
    bill: &mut Bill,
    prices: &Prices,
    arch: Arch,
    configured_gb_seconds: f64,
    usage: BilledUsage,
) -> Result<(), PriceError> {
    let busy = usage.gb_seconds / configured_gb_seconds;
    bill.add_split(
        "provisioned concurrency",
        &[(configured_gb_seconds, "GB-s configured")],
        prices.get(&format!("lambda.pc.{}", arch.key()))?,
        Split::busy(busy),
    );
    bill.add(
        "requests, provisioned",
        &[(usage.requests, "requests")],
        prices.get("lambda.request")?,
    );
    bill.add_split(
        "duration, provisioned",
        &[(usage.gb_seconds, "GB-s")],
        prices.get(&format!("lambda.pc.duration.{}", arch.key()))?,
        Split::WORK,
    );
    Ok(())
}

/// Share of Poisson arrivals that find all `servers` busy at `load` erlangs
/// (Erlang's loss formula, by its recursion).
pub fn erlang_b(load: f64, servers: u32) -> f64 {
    (1..=servers).fold(1.0, |blocked, n| {
        load * blocked / (f64::from(n) + load * blocked)
    })
}

/// The same over the minutes of the traffic, each request held for `held_s`.
pub fn overflow_share(workload: &Workload, held_s: f64, servers: u32) -> f64 {
    let (mut blocked, mut all) = (0.0, 0.0);
    for ratio in workload.profile.ratios.iter() {
        blocked += ratio * erlang_b(workload.rate() * ratio * held_s, servers);
        all += ratio;
    }
    blocked / all
}

/// Billed milliseconds of one warm request: every started millisecond counts.
pub fn billed_ms(workload: &Workload, target: &Target, memory_mb: u32) -> f64 {
    workload
        .service_ms(target, vcpus(memory_mb))
        // A mean of 6.0000001 out of floating point is 6, not 7.
        .mul_add(1.0, -1e-9)
        .ceil()
        .max(1.0)
}

/// A function as it is deployed.
#[derive(Clone, Copy, Debug)]
pub struct FunctionConfig {
    /// Its processor.
    pub arch: Arch,
    /// Its memory size, MB.
    pub memory_mb: u32,
    /// Everything else.
    pub options: LambdaOptions,
}

/// One month on Lambda.
pub fn bill(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    function: &FunctionConfig,
) -> Result<Bill, PriceError> {
    let &FunctionConfig {
        arch,
        memory_mb,
        options,
    } = function;
    let kept = options.provisioned;
    let mut bill = Bill::default();
    let gb = f64::from(memory_mb) / 1_024.0;
    let billed = billed_ms(workload, target, memory_mb);
    let requests = workload.requests();
    let overflow = if kept == 0 {
        1.0
    } else {
        overflow_share(workload, billed / 1_000.0, kept)
    };
    if kept > 0 {
        let served = BilledUsage {
            requests: requests * (1.0 - overflow),
            gb_seconds: requests * (1.0 - overflow) * billed / 1_000.0 * gb,
        };
        provisioned(
            &mut bill,
            prices,
            arch,
            f64::from(kept) * gb * SECONDS,
            served,
        )?;
        bill.note(format!(
            "{} of requests find the {kept} provisioned environments busy (Erlang B, {} erlangs on average) and run on demand",
            percent(overflow),
            number(workload.rate() * billed / 1_000.0),
        ));
    }
    let on_demand_requests = requests * overflow;
    let cold = workload.cold_at(workload.rate() * overflow);
    let (start, start_ms) = match options.snapshots {
        0 => ("init", workload.init_ms),
        _ => ("restore hooks", workload.restore_ms),
    };
    let mean_ms = billed + cold * start_ms;
    bill.note(format!(
        "{} GB × ({} ms billed a request + {} cold × {} ms {start}) at {} vCPU",
        number(gb),
        number(billed),
        percent(cold),
        number(start_ms),
        number(vcpus(memory_mb)),
    ));
    let usage = BilledUsage {
        requests: on_demand_requests,
        gb_seconds: on_demand_requests * mean_ms / 1_000.0 * gb,
    };
    let started = cold * start_ms / mean_ms;
    let mut split = Split {
        work: 1.0 - started,
        ..Split::default()
    };
    match options.snapshots {
        0 => split.cold_starts = started,
        _ => split.restores = started,
    }
    on_demand(&mut bill, prices, arch, usage, split, workload.free_tier)?;
    if options.snapshots > 0 {
        snapshots(
            &mut bill,
            prices,
            options.snapshots,
            gb,
            on_demand_requests * cold,
        )?;
    }
    if workload.tenants > 1 {
        bill.note(format!(
            "{} tenants have isolated environments, so cold starts are as frequent as at {} requests/s; what AWS charges for a tenant's environment is not in the price table",
            workload.tenants,
            number(workload.rate() / f64::from(workload.tenants)),
        ));
    }
    if options.stream {
        streamed(&mut bill, workload, prices)?;
    }
    if options.durable > 0 {
        bill.add(
            "durable operations",
            &[
                (requests, "requests"),
                (f64::from(options.durable), "operations"),
            ],
            prices.get("lambda.durable.operation")?,
        );
    }
    front_door(&mut bill, workload, prices, options.front)?;
    Ok(bill)
}

/// Adds SnapStart: a snapshot of each published version in the cache all month, and the
/// restores.
fn snapshots(
    bill: &mut Bill,
    prices: &Prices,
    versions: u32,
    gb: f64,
    restores: f64,
) -> Result<(), PriceError> {
    bill.add_split(
        "snapshot cache",
        &[
            (f64::from(versions), "versions"),
            (gb, "GB"),
            (SECONDS, "s"),
        ],
        prices.get("lambda.snapstart.cache")?,
        Split::RESTORES,
    );
    bill.add_split(
        "snapshot restores",
        &[(restores, "restores"), (gb, "GB")],
        prices.get("lambda.snapstart.restore")?,
        Split::RESTORES,
    );
    bill.note("Java pays neither for SnapStart's cache nor for restores; that images of other runtimes pay both is an assumption");
    Ok(())
}

/// Adds the bytes of streamed replies beyond the free ones.
fn streamed(bill: &mut Bill, workload: &Workload, prices: &Prices) -> Result<(), PriceError> {
    let gib = workload.requests() * workload.reply_bytes / f64::from(1 << 30);
    let free = prices.get("lambda.stream.free")?.usd;
    bill.add(
        "streamed replies",
        &[((gib - free).max(0.0), "GiB")],
        prices.get("lambda.stream")?,
    );
    bill.note(format!(
        "{} GiB streamed, {} of them free; AWS is reported to leave the first 6 MB of each reply out, which is not counted on",
        number(gib),
        number(free)
    ));
    Ok(())
}

fn front_door(
    bill: &mut Bill,
    workload: &Workload,
    prices: &Prices,
    front: Front,
) -> Result<(), PriceError> {
    let requests = workload.requests();
    match front {
        Front::Url => {
            bill.note("called through a Function URL, an SDK or an event source: no charge");
        }
        Front::HttpApi => {
            // Metered in steps of 512 KB; a post is far below one.
            let first = requests.min(3e8);
            bill.add(
                "HTTP API",
                &[(first, "requests")],
                prices.get("apigw.http.request.t1")?,
            );
            bill.add(
                "HTTP API",
                &[(requests - first, "requests")],
                prices.get("apigw.http.request.t2")?,
            );
        }
        Front::RestApi => bill.add(
            "REST API",
            &[(requests, "requests")],
            prices.get("apigw.rest.request")?,
        ),
        // A Lambda target moves 0.4 GB an LCU-hour, other targets 1 GB.
        Front::Alb => load_balancer::add(bill, workload, prices, 0.4)?,
    }
    Ok(())
}

/// What a busy vCPU-hour of Lambda costs, US dollars.
pub fn vcpu_hour(prices: &Prices, arch: Arch) -> Result<f64, PriceError> {
    let price = prices.get(&format!("lambda.duration.{}.t1", arch.key()))?;
    Ok(f64::from(ONE_VCPU_MB) / 1_024.0 * 3_600.0 * price.usd)
}

/// What an environment kept ready for a month costs, US dollars.
pub fn provisioned_month(prices: &Prices, arch: Arch, memory_mb: u32) -> Result<f64, PriceError> {
    let price = prices.get(&format!("lambda.pc.{}", arch.key()))?;
    Ok(f64::from(memory_mb) / 1_024.0 * HOURS * 3_600.0 * price.usd)
}
