//! The rate at which a function and an always-on target cost the same.
//!
//! With one price per request the answer is `fixed dollars per hour / 3600 /
//! dollars per request`. Tiers, a free tier, rate-dependent cold fractions and
//! hosts that come in steps bend both sides, so the rate is searched on the
//! bills themselves and the formula is shown with the two sides at that rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bill::Bill;
use super::hosts::HostCount;
use super::monthly::bill;
use super::prices::{PriceError, Prices};
use super::target::Target;
use super::workload::{HOURS, SECONDS, Workload};
use crate::format::percent;
use crate::format::{dollars, number};

/// Rates looked at; twenty a factor of ten find every step of hosts that matters.
const ALL: Search = Search {
    from: 1e-5,
    to: 1e5,
    steps: 200,
};

/// Where crossings are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Lowest rate, requests a second.
    pub from: f64,
    /// Highest rate.
    pub to: f64,
    /// Equal factors between the two.
    pub steps: i32,
}

/// Where two targets cost the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BreakEven {
    /// Paid by use.
    pub on_demand: String,
    /// Paid by the hour.
    pub always_on: String,
    /// Requests a second at which `on_demand` becomes the dearer one; absent
    /// if that happens nowhere between 0.00001 and 100,000.
    pub requests_per_second: Option<f64>,
    /// Posts a second at that rate.
    pub posts_per_second: Option<f64>,
    /// Busy share of the always-on vCPUs at that rate.
    pub utilisation: Option<f64>,
    /// Further crossings: another host makes the function cheaper again.
    pub later_crossings: Vec<f64>,
    /// The computation with its numbers.
    pub formula: String,
    /// The result as a sentence.
    pub words: String,
}

/// Finds where `on_demand` and `always_on` cost the same.
pub fn find(
    workload: &Workload,
    prices: &Prices,
    on_demand: &Target,
    always_on: &Target,
) -> Result<BreakEven, PriceError> {
    let usd = |target: &Target, rate: f64| -> Result<f64, PriceError> {
        Ok(bill(&workload.at_rate(rate), prices, target)?.usd())
    };
    let difference = |rate: f64| -> Result<f64, PriceError> {
        Ok(usd(on_demand, rate)? - usd(always_on, rate)?)
    };
    let crossings = crossings(ALL, difference)?;
    let mut found = BreakEven {
        on_demand: on_demand.to_string(),
        always_on: always_on.to_string(),
        requests_per_second: None,
        posts_per_second: None,
        utilisation: None,
        later_crossings: Vec::new(),
        formula: String::new(),
        words: String::new(),
    };
    let Some((&rate, later)) = crossings.split_first() else {
        let cheaper = if difference(workload.rate())? < 0.0 {
            on_demand
        } else {
            always_on
        };
        found.words = format!(
            "{on_demand} and {always_on} never cost the same: {cheaper} is cheaper at every rate."
        );
        return Ok(found);
    };
    // Just below a step of hosts the fixed side is what one pays at the crossing.
    let fixed = usd(always_on, rate * (1.0 - 1e-6))?;
    let each = usd(on_demand, rate)? / (rate * SECONDS);
    found.formula = format!(
        "{always_on} {} a month / {HOURS} h / 3600 / {on_demand} {} a request = {} requests/s",
        dollars(fixed),
        dollars(each),
        number(rate)
    );
    found.utilisation = utilisation(&workload.at_rate(rate), prices, always_on)?;
    found.words = format!(
        "{on_demand} costs as much as {always_on} at {} requests/s{}; below that {on_demand} is cheaper, above it {always_on}{}.",
        number(rate),
        found.utilisation.map_or_else(String::new, |share| format!(
            " ({} of its vCPUs busy)",
            percent(share)
        )),
        if later.is_empty() {
            String::new()
        } else {
            format!(
                ", until a further host turns it round (again at {})",
                later
                    .iter()
                    .map(|rate| format!("{} requests/s", number(*rate)))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    );
    found.requests_per_second = Some(rate);
    found.posts_per_second = Some(rate * workload.posts_per_request);
    found.later_crossings = later.to_vec();
    Ok(found)
}

/// Rates at which `difference` changes sign, at most eight of them.
pub fn crossings(
    search: Search,
    difference: impl Fn(f64) -> Result<f64, PriceError>,
) -> Result<Vec<f64>, PriceError> {
    let Search { from, to, steps } = search;
    let ratio = (to / from).powf(1.0 / f64::from(steps));
    let mut crossings = Vec::new();
    let (mut low, mut negative) = (from, difference(from)? < 0.0);
    for step in 1..=steps {
        let high = from * ratio.powi(step);
        let now = difference(high)? < 0.0;
        if now != negative {
            let (mut below, mut above) = (low, high);
            for _ in 0..40 {
                let middle = (below * above).sqrt();
                if (difference(middle)? < 0.0) == negative {
                    below = middle;
                } else {
                    above = middle;
                }
            }
            crossings.push(above);
            if crossings.len() == 8 {
                break;
            }
        }
        (low, negative) = (high, now);
    }
    Ok(crossings)
}

/// Busy share of an always-on target's vCPUs, if it has a size.
fn utilisation(
    workload: &Workload,
    prices: &Prices,
    target: &Target,
) -> Result<Option<f64>, PriceError> {
    let machine = |machine: &str| -> Result<f64, PriceError> {
        Ok(prices.get(&format!("ec2.{machine}"))?.vcpus.unwrap_or(1.0))
    };
    let (vcpus, least, auto) = match target {
        Target::Ec2 {
            machine: name,
            least,
            auto,
        } => (machine(name)?, *least, *auto),
        Target::Managed {
            machines,
            least,
            auto,
        } => (machine(&machines[0])?, *least, *auto),
        Target::Fargate {
            vcpus, least, auto, ..
        } => (*vcpus, *least, *auto),
        Target::CloudRun { vcpus, least, .. } => (*vcpus, *least, None),
        _ => return Ok(None),
    };
    let mut aside = Bill::default();
    let hosts = HostCount { least, auto }.hosts(&mut aside, workload, target, vcpus);
    Ok(Some(hosts.busy))
}
