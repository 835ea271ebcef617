//! An Application Load Balancer in front of hosts or of a function.

use super::bill::Bill;
use super::prices::{PriceError, Prices};
use super::workload::{HOURS, Workload};
use crate::format::number;

/// Adds a load balancer. `gb_per_lcu` is what one LCU moves in an hour.
pub fn add(
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
