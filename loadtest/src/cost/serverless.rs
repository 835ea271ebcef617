//! Bills of other providers' functions and containers, and of services by the call.

use super::bill::{Bill, Split};
use super::hosts::HostCount;
use super::lambda::overflow_share;
use super::occupancy::{Occupancy, occupancy};
use super::prices::{PriceError, Prices};
use super::target::{CloudRunBilling, Target};
use super::workload::{SECONDS, Workload};
use crate::format::{number, percent};

/// Instances busy while each request counts `billed_ms`; noted in the bill.
fn busy_instances(
    bill: &mut Bill,
    workload: &Workload,
    capacity: f64,
    billed_ms: f64,
) -> Occupancy {
    let held_s = billed_ms / 1_000.0;
    let busy = occupancy(workload, capacity, held_s);
    bill.note(busy.words(workload, held_s));
    bill.note(workload.host_rps_reason());
    busy
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
    /// How many are kept at least.
    pub least: u32,
}

/// One month on Cloud Run.
pub fn cloud_run(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    instance: CloudRunInstance,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    bill.note("Cloud Run's free tier is not subtracted");
    match instance.billing {
        CloudRunBilling::Request => {
            cloud_run_request(&mut bill, workload, prices, target, instance)?;
        }
        CloudRunBilling::Instance => {
            cloud_run_always(&mut bill, workload, prices, target, instance, "inst")?;
        }
        CloudRunBilling::WorkerPool => {
            bill.note("a worker pool receives no requests but pulls from a queue, which is not priced; its size does not follow the load");
            cloud_run_always(&mut bill, workload, prices, target, instance, "worker")?;
        }
    }
    Ok(bill)
}

/// Adds vCPUs and memory of instances for `seconds`.
fn instance_seconds(
    bill: &mut Bill,
    instance: CloudRunInstance,
    what: [&str; 2],
    seconds: f64,
    rows: [&super::prices::Price; 2],
    split: Split,
) {
    let amounts = [(instance.vcpus, "vCPU"), (instance.gib, "GiB")];
    for ((what, amount), row) in what.into_iter().zip(amounts).zip(rows) {
        bill.add_split(what, &[amount, (seconds, "s")], row, split);
    }
}

fn cloud_run_always(
    bill: &mut Bill,
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    instance: CloudRunInstance,
    rows: &str,
) -> Result<(), PriceError> {
    let count = HostCount {
        least: instance.least,
        auto: None,
    };
    let hosts = count.hosts(bill, workload, target, instance.vcpus);
    let [vcpu, gib] = [
        prices.get(&format!("cloudrun.{rows}.vcpu"))?,
        prices.get(&format!("cloudrun.{rows}.gib"))?,
    ];
    instance_seconds(
        bill,
        instance,
        ["instance vCPUs", "instance memory"],
        hosts.mean * SECONDS,
        [vcpu, gib],
        Split::busy(hosts.busy),
    );
    Ok(())
}

fn cloud_run_request(
    bill: &mut Bill,
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    instance: CloudRunInstance,
) -> Result<(), PriceError> {
    let warm = workload.service_ms(target, instance.vcpus);
    let rounded = (warm / 100.0 - 1e-9).ceil().max(1.0) * 100.0;
    // An instance that is kept is there for the requests that would start one.
    let started = match instance.least {
        0 => workload.cold_at(workload.rate()) * workload.init_ms,
        _ => 0.0,
    };
    let capacity = workload.host_rps(target, instance.vcpus);
    let busy = busy_instances(bill, workload, capacity, rounded + started);
    bill.note("billed time is rounded up to 100 ms; start-up is billed");
    bill.add(
        "requests",
        &[(workload.requests(), "requests")],
        prices.get("cloudrun.req.request")?,
    );
    let start_share = started / (rounded + started);
    instance_seconds(
        bill,
        instance,
        ["instance vCPUs", "instance memory"],
        busy.mean * SECONDS,
        [
            prices.get("cloudrun.req.vcpu")?,
            prices.get("cloudrun.req.gib")?,
        ],
        Split {
            work: 1.0 - start_share,
            cold_starts: start_share,
            ..Split::default()
        },
    );
    let idle = (f64::from(instance.least) - busy.mean).max(0.0);
    instance_seconds(
        bill,
        instance,
        ["vCPUs kept idle", "memory kept idle"],
        idle * SECONDS,
        [
            prices.get("cloudrun.idle_min.vcpu")?,
            // Memory costs the same whether a request is there or not.
            prices.get("cloudrun.req.gib")?,
        ],
        Split::busy(0.0),
    );
    Ok(())
}

/// One month on Azure Functions Flex Consumption, with `ready` instances always there.
pub fn azure_flex(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    memory_mb: u32,
    ready: u32,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    // One vCPU comes with 2,048 MB.
    let vcpus = f64::from(memory_mb) / 2_048.0;
    let gb = f64::from(memory_mb) / 1_024.0;
    let warm = workload.service_ms(target, vcpus);
    let rounded = (warm / 100.0 - 1e-9).ceil().max(10.0) * 100.0;
    bill.note("billed time is rounded up to 100 ms and is at least 1,000 ms; the free grant is not subtracted");
    let capacity = workload.host_rps(target, vcpus);
    let busy = busy_instances(&mut bill, workload, capacity, rounded);
    bill.add(
        "executions",
        &[(workload.requests(), "executions")],
        prices.get("azure.flex.exec")?,
    );
    let overflow = if ready == 0 {
        1.0
    } else {
        overflow_share(workload, 1.0 / capacity, ready)
    };
    if ready > 0 {
        let served = busy.mean * (1.0 - overflow);
        bill.add_split(
            "always ready",
            &[(f64::from(ready), "instances"), (gb, "GB"), (SECONDS, "s")],
            prices.get("azure.flex.ready.baseline")?,
            Split::busy(served / f64::from(ready)),
        );
        bill.add_split(
            "execution time, always ready",
            &[(gb, "GB"), (served * SECONDS, "s")],
            prices.get("azure.flex.ready.exec")?,
            Split::WORK,
        );
        bill.note(format!(
            "{} of requests find the {ready} instance(s) that are always ready full and run on demand",
            percent(overflow)
        ));
    }
    bill.add_split(
        "execution time",
        &[(gb, "GB"), (busy.mean * overflow * SECONDS, "s")],
        prices.get("azure.flex.gbs")?,
        Split::WORK,
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
    bill.note(format!(
        "{} characters a post; first price tier, high volumes pay less",
        number(workload.post_chars)
    ));
    Ok(bill)
}
