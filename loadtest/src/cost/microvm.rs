//! Lambda MicroVMs: paid by the second while they run, suspended to a snapshot when idle.

use super::bill::{Bill, Split};
use super::occupancy::occupancy;
use super::prices::{PriceError, Prices};
use super::target::Target;
use super::workload::{SECONDS, Workload};
use crate::format::{number, percent};

/// One month on MicroVMs of `vcpus` and `gb`.
pub fn bill(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
    vcpus: f64,
    gb: f64,
) -> Result<Bill, PriceError> {
    let mut bill = Bill::default();
    let capacity = workload.host_rps(target, vcpus);
    let service_s = workload.service_ms(target, vcpus) / 1_000.0;
    let held_s = service_s + workload.suspend_after_s;
    let running = occupancy(workload, capacity, held_s);
    let busy = occupancy(workload, capacity, service_s);
    let seconds = running.mean * SECONDS;
    let split = Split::busy(busy.mean / running.mean);
    for (what, amount, unit, row) in [
        ("running vCPUs", vcpus, "vCPU", "vcpu"),
        ("running memory", gb, "GB", "gb"),
    ] {
        bill.add_split(
            what,
            &[(amount, unit), (seconds, "s")],
            prices.get(&format!("microvm.{row}"))?,
            split,
        );
    }
    let resumes = running.starts_per_second * SECONDS;
    for (what, row) in [("snapshots written", "write"), ("snapshots read", "read")] {
        bill.add_split(
            what,
            &[(resumes, "times"), (gb, "GB")],
            prices.get(&format!("microvm.snapshot.{row}"))?,
            Split::RESTORES,
        );
    }
    bill.add_split(
        "snapshots stored",
        &[(running.most, "MicroVMs"), (gb, "GB")],
        prices.get("microvm.snapshot.stored")?,
        Split::RESTORES,
    );
    bill.note(format!(
        "{} of {} MicroVM(s) run on average, {} of that time at work; each is suspended {} s after its last request",
        number(running.mean),
        number(running.most),
        percent(busy.mean / running.mean),
        number(workload.suspend_after_s),
    ));
    bill.note("each suspension writes, and each resumption reads, all of the memory: the most that it can be");
    bill.note(workload.host_rps_reason());
    Ok(bill)
}
