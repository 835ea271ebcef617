//! Bills of what is not Lambda: machines, tasks, instances, services by the call.

use super::bill::Bill;
use super::load_balancer;
use super::prices::{Price, PriceError, Prices};
use super::target::{Arch, CloudRunBilling, Target};
use super::workload::{HOURS, SECONDS, Workload};
use crate::format::{number, percent};

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
        percent(workload.rate() / (hosts * capacity) * workload_share(workload)),
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

/// Machines of one type.
#[derive(Clone, Copy, Debug)]
pub struct Machines<'a> {
    /// The type, such as `c7g.large`.
    pub machine: &'a str,
    /// How many there are at least.
    pub least: u32,
}

impl Machines<'_> {
    /// Adds as many as the busiest rate demands; returns their number and the price of one.
    fn add<'p>(
        &self,
        bill: &mut Bill,
        workload: &Workload,
        prices: &'p Prices,
        target: &Target,
    ) -> Result<(f64, &'p Price), PriceError> {
        let price = prices.get(&format!("ec2.{}", self.machine))?;
        let vcpus = price.vcpus.unwrap_or(1.0);
        let hosts = count(bill, workload, target, vcpus, self.least);
        bill.add("machines", &[(hosts, "hosts"), (HOURS, "h")], price);
        Ok((hosts, price))
    }
}

/// One month on Lambda Managed Instances.
pub fn managed_instances(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    machines: &Machines,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let (hosts, price) = machines.add(&mut bill, workload, prices, target)?;
    bill.add(
        "management fee",
        &[(hosts * HOURS * price.usd, "dollars of EC2")],
        prices.get("lambda.managed.premium")?,
    );
    bill.add(
        "requests",
        &[(workload.requests(), "requests")],
        prices.get("lambda.managed.request")?,
    );
    bill.note("volumes and addresses of the managed machines are not counted");
    Ok(bill)
}

/// One month on EC2.
pub fn ec2(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    machines: &Machines,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let (hosts, _) = machines.add(&mut bill, workload, prices, target)?;
    bill.add(
        "volumes",
        &[(hosts, "hosts"), (VOLUME_GB, "GB")],
        prices.get("ebs.gp3.gb_month")?,
    );
    if hosts > 1.0 {
        load_balancer::add(&mut bill, workload, prices, 1.0)?;
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

/// A task on Fargate.
#[derive(Clone, Copy, Debug)]
pub struct FargateTask {
    /// Its processor.
    pub arch: Arch,
    /// Its vCPUs.
    pub vcpus: f64,
    /// Its memory, GB.
    pub gb: f64,
}

/// One month on Fargate.
pub fn fargate(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    task: FargateTask,
) -> Result<Bill, PriceError> {
    let FargateTask { arch, vcpus, gb } = task;
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
        load_balancer::add(&mut bill, workload, prices, 1.0)?;
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

/// An instance on Cloud Run.
#[derive(Clone, Copy, Debug)]
pub struct CloudRunInstance {
    /// What is billed.
    pub billing: CloudRunBilling,
    /// Its vCPUs.
    pub vcpus: f64,
    /// Its memory, GiB.
    pub gib: f64,
}

/// One month on Cloud Run.
pub fn cloud_run(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    instance: CloudRunInstance,
) -> Result<Bill, PriceError> {
    let CloudRunInstance {
        billing,
        vcpus,
        gib,
    } = instance;
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
