//! Bills of hosts that are paid by the hour, in a fixed or an autoscaled number.

use super::bill::{Bill, Split};
use super::load_balancer;
use super::prices::{PriceError, Prices};
use super::scaling::autoscale;
use super::target::{Arch, Target};
use super::workload::{HOURS, Workload};
use crate::format::{number, percent};

/// Root volume of a machine, GB.
const VOLUME_GB: f64 = 8.0;

/// How the number of hosts is found.
#[derive(Clone, Copy, Debug)]
pub struct HostCount {
    /// Hosts kept at least.
    pub least: u32,
    /// Utilisation in percent that the number follows; fixed without.
    pub auto: Option<u32>,
}

/// Hosts of a month.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    /// Their mean number.
    pub mean: f64,
    /// Their largest number.
    pub most: f64,
    /// Share of their time that is work.
    pub busy: f64,
}

impl HostCount {
    /// Hosts of `vcpus` for `workload`; how many, and why, is noted in the bill.
    pub fn hosts(self, bill: &mut Bill, workload: &Workload, target: &Target, vcpus: f64) -> Hosts {
        match self.auto {
            None => fixed(bill, workload, target, vcpus, self.least),
            Some(percent) => autoscaled(bill, workload, target, vcpus, self.least, percent),
        }
    }
}

/// As many hosts all month as the busiest rate demands.
fn fixed(bill: &mut Bill, workload: &Workload, target: &Target, vcpus: f64, least: u32) -> Hosts {
    let capacity = workload.host_rps(target, vcpus);
    let peak = workload.rate() * workload.peak_to_mean;
    let hosts = (peak / capacity - 1e-9).ceil().max(f64::from(least.max(1)));
    let busy = (workload.rate() / (hosts * workload.full_rps(target, vcpus))).min(1.0);
    bill.note(format!(
        "{} host(s) = ceil({} requests/s at the peak / {} requests/s a host), {least} at least; utilisation {}",
        number(hosts),
        number(peak),
        number(capacity),
        percent(busy),
    ));
    bill.note(workload.host_rps_reason());
    Hosts {
        mean: hosts,
        most: hosts,
        busy,
    }
}

/// As many hosts as `target_percent` of utilisation asks for, a reaction time later.
fn autoscaled(
    bill: &mut Bill,
    workload: &Workload,
    target: &Target,
    vcpus: f64,
    least: u32,
    target_percent: u32,
) -> Hosts {
    let full = workload.full_rps(target, vcpus);
    let wanted = f64::from(target_percent) / 100.0 * full / workload.rate();
    let fleet = autoscale(&workload.profile, &workload.autoscaling, wanted, least);
    let busy = (workload.rate() / (fleet.mean * full)).min(1.0);
    bill.note(format!(
        "{} to {} hosts, {} on average: as many as are {target_percent}% busy, {} s after the load has risen, kept for {} s after it has fallen; utilisation {}",
        number(f64::from(fleet.fewest)),
        number(f64::from(fleet.most)),
        number(fleet.mean),
        number(workload.autoscaling.reaction_s),
        number(workload.autoscaling.hold_s),
        percent(busy),
    ));
    let short = fleet.short(&workload.profile, full / workload.rate());
    bill.note(format!(
        "{} of the requests come in minutes that ask for more than all hosts can do, and wait",
        percent(short)
    ));
    if workload.profile.is_steady() {
        bill.note("no trace was given: the rate is assumed to be constant all month");
    }
    Hosts {
        mean: fleet.mean,
        most: f64::from(fleet.most),
        busy,
    }
}

/// Machines of one type.
#[derive(Clone, Copy, Debug)]
pub struct Machines<'a> {
    /// The type, such as `c7g.large`.
    pub machine: &'a str,
    /// How many there are.
    pub count: HostCount,
}

impl Machines<'_> {
    /// Adds as many as the workload demands; returns them and the dollars of one.
    fn add(
        &self,
        bill: &mut Bill,
        workload: &Workload,
        prices: &Prices,
        target: &Target,
    ) -> Result<(Hosts, f64), PriceError> {
        let price = prices.get(&format!("ec2.{}", self.machine))?;
        let vcpus = price.vcpus.unwrap_or(1.0);
        let hosts = self.count.hosts(bill, workload, target, vcpus);
        bill.add_split(
            "machines",
            &[(hosts.mean, "hosts"), (HOURS, "h")],
            price,
            Split::busy(hosts.busy),
        );
        Ok((hosts, price.usd))
    }
}

/// One month on Lambda Managed Instances: of the machines that are allowed, the dearest,
/// for AWS chooses among them.
pub fn managed_instances(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    machines: &[String],
    count: HostCount,
) -> Result<Bill, PriceError> {
    let mut dearest = Bill::default();
    for machine in machines {
        let bill = managed_machine(workload, prices, target, &Machines { machine, count })?;
        if bill.usd() > dearest.usd() {
            dearest = bill;
        }
    }
    if machines.len() > 1 {
        dearest.note("AWS chooses among the allowed machines: this is the dearest choice");
    }
    let doublings = workload.profile.doublings();
    if doublings > 0.0 {
        dearest.note(format!(
            "the traffic more than doubles within five minutes in {} of its minutes, which AWS may throttle",
            percent(doublings)
        ));
    }
    Ok(dearest)
}

fn managed_machine(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    machines: &Machines,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let (hosts, usd) = machines.add(&mut bill, workload, prices, target)?;
    bill.add_split(
        "management fee",
        &[(hosts.mean * HOURS * usd, "dollars of EC2")],
        prices.get("lambda.managed.premium")?,
        Split::busy(hosts.busy),
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
        &[(hosts.mean, "hosts"), (VOLUME_GB, "GB")],
        prices.get("ebs.gp3.gb_month")?,
    );
    network(&mut bill, workload, prices, hosts, machines.count)?;
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
    count: HostCount,
) -> Result<Bill, PriceError> {
    let FargateTask { arch, vcpus, gb } = task;
    let mut bill = Bill::default();
    let tasks = count.hosts(&mut bill, workload, target, vcpus);
    for (what, amount, unit, row) in [
        ("task vCPUs", vcpus, "vCPU", "vcpu"),
        ("task memory", gb, "GB", "gb"),
    ] {
        bill.add_split(
            what,
            &[(tasks.mean, "tasks"), (amount, unit), (HOURS, "h")],
            prices.get(&format!("fargate.{}.{row}", arch.key()))?,
            Split::busy(tasks.busy),
        );
    }
    network(&mut bill, workload, prices, tasks, count)?;
    Ok(bill)
}

/// Adds a load balancer where there are, or may be, several hosts, and public addresses.
fn network(
    bill: &mut Bill,
    workload: &Workload,
    prices: &Prices,
    hosts: Hosts,
    count: HostCount,
) -> Result<(), PriceError> {
    let balanced = hosts.most > 1.0 || count.auto.is_some();
    if balanced {
        load_balancer::add(bill, workload, prices, 1.0)?;
        bill.note("several hosts: a balancer in two zones, which holds the public addresses");
    }
    bill.add(
        "public addresses",
        &[
            (if balanced { 2.0 } else { 1.0 }, "addresses"),
            (HOURS, "h"),
        ],
        prices.get("public_ipv4.hour")?,
    );
    Ok(())
}
