//! Bills of what is not Lambda: machines, tasks, instances, services by the call.

use super::bill::{Bill, number};
use super::prices::{PriceError, Prices};
use super::target::{Arch, CloudRunBilling, Target};
use super::workload::{HOURS, SECONDS, Workload};

/// Root volume of a machine, GB.
const VOLUME_GB: f64 = 8.0;

/// How many hosts of `vcpus` the busiest rate demands.
pub fn count(bill: &mut Bill, workload: &Workload, target: &Target, vcpus: f64, least: u32) -> f64 {
    let capacity = workload.host_rps(target, vcpus);
    let peak = workload.rate() * workload.peak_to_mean;
    let hosts = (peak / capacity - 1e-9).ceil().max(f64::from(least.max(1)));
    bill.note(format!(
        "{} host(s) = ceil({} requests/s at the peak / {} requests/s a host), {least} at least; utilisation {}",
        number(hosts),
        number(peak),
        number(capacity),
        super::lambda::percent(workload.rate() / (hosts * capacity) * workload_share(workload)),
    ));
    bill.note(workload.host_rps_reason());
    hosts
}

/// Part of a host's time that is busy when it runs at its capacity.
fn workload_share(workload: &Workload) -> f64 {
    let service_s = (workload.request_ms + workload.post_ms * workload.posts_per_request) / 1_000.0;
    workload
        .host_rps_per_vcpu
        .map_or(workload.host_load, |rps| (rps * service_s).min(1.0))
}

/// Adds a load balancer. `gb_per_lcu` is what one LCU moves in an hour.
pub fn balancer(
    bill: &mut Bill,
    workload: &Workload,
    prices: &Prices,
    gb_per_lcu: f64,
) -> Result<(), PriceError> {
    bill.add("load balancer", &[(HOURS, "h")], prices.get("alb.hour")?);
    let connections = workload.rate() / workload.requests_per_connection / 25.0;
    let gigabytes = workload.rate() * workload.request_bytes * 3_600.0 / 1e9 / gb_per_lcu;
    let lcu = connections.max(gigabytes);
    bill.add(
        "load balancer capacity",
        &[(lcu, "LCU"), (HOURS, "h")],
        prices.get("alb.lcu")?,
    );
    bill.note(format!(
        "LCU = the larger of {} (new connections/s / 25) and {} (GB/h / {gb_per_lcu})",
        number(connections),
        number(gigabytes)
    ));
    Ok(())
}

/// One month on EC2, `premium` on Managed Instances.
pub fn machines(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    (machine, least, managed): (&str, u32, bool),
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let price = prices.get(&format!("ec2.{machine}"))?;
    let vcpus = price.vcpus.unwrap_or(1.0);
    let hosts = count(&mut bill, workload, target, vcpus, least);
    bill.add("machines", &[(hosts, "hosts"), (HOURS, "h")], price);
    if managed {
        let premium = prices.get("lambda.managed.premium")?;
        bill.add(
            "management fee",
            &[(hosts * HOURS * price.usd, "dollars of EC2")],
            premium,
        );
        bill.add(
            "requests",
            &[(workload.requests(), "requests")],
            prices.get("lambda.managed.request")?,
        );
        bill.note("volumes and addresses of the managed machines are not counted");
        return Ok(bill);
    }
    bill.add(
        "volumes",
        &[(hosts, "hosts"), (VOLUME_GB, "GB")],
        prices.get("ebs.gp3.gb_month")?,
    );
    if hosts > 1.0 {
        balancer(&mut bill, workload, prices, 1.0)?;
        bill.note("several hosts: a balancer in two zones, which holds the public addresses");
    }
    bill.add(
        "public addresses",
        &[
            (if hosts > 1.0 { 2.0 } else { 1.0 }, "addresses"),
            (HOURS, "h"),
        ],
        prices.get("public_ipv4.hour")?,
    );
    Ok(bill)
}

/// One month on Fargate.
pub fn fargate(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    (arch, vcpus, gb): (Arch, f64, f64),
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let tasks = count(&mut bill, workload, target, vcpus, 1);
    for (what, amount, unit, row) in [
        ("task vCPUs", vcpus, "vCPU", "vcpu"),
        ("task memory", gb, "GB", "gb"),
    ] {
        bill.add(
            what,
            &[(tasks, "tasks"), (amount, unit), (HOURS, "h")],
            prices.get(&format!("fargate.{}.{row}", arch.key()))?,
        );
    }
    if tasks > 1.0 {
        balancer(&mut bill, workload, prices, 1.0)?;
    }
    bill.add(
        "public addresses",
        &[
            (if tasks > 1.0 { 2.0 } else { 1.0 }, "addresses"),
            (HOURS, "h"),
        ],
        prices.get("public_ipv4.hour")?,
    );
    Ok(bill)
}

/// Seconds a month in which instances handle something, when each request
/// counts `billed_ms` and requests overlap as Poisson arrivals do:
/// `k · (1 - e^(-load/k))` of the time for `k` instances.
fn busy_seconds(bill: &mut Bill, workload: &Workload, billed_ms: f64, instances: f64) -> f64 {
    let load = workload.rate() * billed_ms / 1_000.0;
    let busy = instances * -(-load / instances).exp_m1();
    bill.note(format!(
        "{} instance(s) busy on average = {k} × (1 - exp(-{} requests/s × {} s / {k}))",
        number(busy),
        number(workload.rate()),
        number(billed_ms / 1_000.0),
        k = number(instances),
    ));
    busy * SECONDS
}

/// One month on Cloud Run.
pub fn cloud_run(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    (billing, vcpus, gib): (CloudRunBilling, f64, f64),
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let instances = count(&mut bill, workload, target, vcpus, 1);
    bill.note("Cloud Run's own free tier is not taken off");
    let (seconds, mode) = match billing {
        CloudRunBilling::Instance => (instances * SECONDS, "inst"),
        CloudRunBilling::Request => {
            let warm = workload.service_ms(target, vcpus);
            let rounded = (warm / 100.0 - 1e-9).ceil().max(1.0) * 100.0;
            let cold = workload.cold.at(workload.rate()) * workload.init_ms;
            bill.note("billed time is rounded up to 100 ms; start-up is billed");
            let seconds = busy_seconds(&mut bill, workload, rounded + cold, instances);
            bill.add(
                "requests",
                &[(workload.requests(), "requests")],
                prices.get("cloudrun.req.request")?,
            );
            (seconds, "req")
        }
    };
    for (what, amount, unit, row) in [
        ("instance vCPUs", vcpus, "vCPU", "vcpu"),
        ("instance memory", gib, "GiB", "gib"),
    ] {
        bill.add(
            what,
            &[(amount, unit), (seconds, "s")],
            prices.get(&format!("cloudrun.{mode}.{row}"))?,
        );
    }
    Ok(bill)
}

/// One month on Azure Functions Flex Consumption, on demand.
pub fn azure_flex(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    memory_mb: u32,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    // One vCPU comes with 2,048 MB.
    let vcpus = f64::from(memory_mb) / 2_048.0;
    let instances = count(&mut bill, workload, target, vcpus, 1);
    let warm = workload.service_ms(target, vcpus);
    let rounded = (warm / 100.0 - 1e-9).ceil().max(10.0) * 100.0;
    bill.note("billed time is rounded up to 100 ms and is 1,000 ms at least; the free grant is not taken off");
    let seconds = busy_seconds(&mut bill, workload, rounded, instances);
    bill.add(
        "executions",
        &[(workload.requests(), "executions")],
        prices.get("azure.flex.exec")?,
    );
    bill.add(
        "execution time",
        &[(f64::from(memory_mb) / 1_024.0, "GB"), (seconds, "s")],
        prices.get("azure.flex.gbs")?,
    );
    Ok(bill)
}

/// One month of Amazon Comprehend: units of 100 characters, three at least.
pub fn comprehend(workload: &Workload, prices: &Prices) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let units = (workload.post_chars / 100.0).ceil().max(3.0);
    bill.add(
        "sentiment units",
        &[(workload.posts(), "posts"), (units, "units")],
        prices.get("comprehend.unit")?,
    );
    bill.note("first price tier; high volumes pay less");
    Ok(bill)
}
