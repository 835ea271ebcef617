//! What a workload costs a month on each target, where two targets cost the
//! same, and how far the answer depends on its inputs.
//!
//! Every amount is a [`bill::Line`] that shows its formula with the numbers
//! filled in and the date of its price. The model prices a month of traffic, not a
//! company's bill: staff, logs and data transfer (equal on every target that answers over
//! the internet) are left out, and discounts are those that are given.

pub mod bill;
pub mod breakeven;
pub mod hosts;
pub mod lambda;
pub mod load_balancer;
pub mod microvm;
mod monthly;
pub mod occupancy;
pub mod pipeline;
pub mod prices;
pub mod scaling;
pub mod sensitivity;
pub mod serverless;
pub mod target;
pub mod workload;

use crate::format::{dollars, number, percent};
use bill::Bill;
pub use monthly::bill;
use prices::{PriceError, Prices};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use target::Target;
use workload::Workload;

/// One target's month in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// The target as written on the command line.
    pub target: String,
    /// As people call it.
    pub name: String,
    /// Whether it is paid for when nothing arrives.
    pub always_on: bool,
    /// Its speed factor.
    pub speed: f64,
    /// US dollars a month.
    pub usd_per_month: f64,
    /// US dollars for a million posts at this rate.
    pub usd_per_million_posts: f64,
    /// The computation.
    pub bill: Bill,
}

/// Cost of a target over the rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// The target.
    pub target: String,
    /// Requests a second and US dollars a month, by ascending rate.
    pub points: Vec<(f64, f64)>,
}

/// Everything `cost` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostReport {
    /// The result in words.
    pub verdict: Vec<String>,
    /// What was priced.
    pub workload: Workload,
    /// A bill for each target.
    pub quotes: Vec<Quote>,
    /// Where each function costs as much as each always-on target.
    pub break_evens: Vec<breakeven::BreakEven>,
    /// Cost over rate.
    pub curves: Vec<Curve>,
    /// What changes when an input does.
    pub sensitivity: Vec<sensitivity::Case>,
    /// The hand-off pipeline, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<pipeline::Comparison>,
    /// Price rows without a full date.
    pub undated_prices: Vec<String>,
}

impl CostReport {
    /// Prices `workload` on all `targets`.
    pub fn new(
        workload: &Workload,
        prices: &Prices,
        targets: &[Target],
    ) -> Result<Self, PriceError> {
        let quotes = targets
            .iter()
            .map(|target| quote(workload, prices, target))
            .collect::<Result<Vec<_>, _>>()?;
        let mut break_evens = Vec::new();
        for on_demand in targets.iter().filter(|target| !target.always_on()) {
            for fixed in targets.iter().filter(|target| target.always_on()) {
                break_evens.push(breakeven::find(workload, prices, on_demand, fixed)?);
            }
        }
        let mut undated_prices: Vec<String> = quotes
            .iter()
            .flat_map(|quote| quote.bill.undated())
            .map(str::to_owned)
            .collect();
        undated_prices.sort_unstable();
        undated_prices.dedup();
        let mut report = Self {
            verdict: Vec::new(),
            workload: workload.clone(),
            curves: curves(workload, prices, targets)?,
            sensitivity: sensitivity::cases(workload, prices, targets)?,
            quotes,
            break_evens,
            pipeline: None,
            undated_prices,
        };
        report.verdict = report.words();
        Ok(report)
    }

    /// The result in sentences.
    fn words(&self) -> Vec<String> {
        let workload = &self.workload;
        let mut words = Vec::new();
        let costs = self
            .quotes
            .iter()
            .map(|quote| {
                format!(
                    "{} {} a month ({} per million posts)",
                    quote.target,
                    dollars(quote.usd_per_month),
                    dollars(quote.usd_per_million_posts)
                )
            })
            .collect::<Vec<_>>()
            .join("; ");
        words.push(format!(
            "At {} posts/s ({} a month, {} a request): {costs}.",
            number(workload.posts_per_second),
            number(workload.posts().round()),
            number(workload.posts_per_request)
        ));
        words.extend(self.break_evens.iter().map(|found| found.words.clone()));
        if workload.peak_to_mean > 1.0 && self.quotes.iter().any(|quote| quote.always_on) {
            words.push(format!(
                "Always-on hosts of a fixed number are sized for {} times the mean rate.",
                number(workload.peak_to_mean)
            ));
        }
        let cold = workload.cold_at(workload.rate());
        if self.quotes.iter().any(|quote| !quote.always_on) {
            words.push(format!(
                "{} of requests meet a cold start, billed {} ms each ({} ms where a snapshot is restored).",
                percent(cold),
                number(workload.init_ms),
                number(workload.restore_ms)
            ));
        }
        let speeds: Vec<String> = self
            .quotes
            .iter()
            .map(|quote| format!("{} {}", quote.target, number(quote.speed)))
            .collect();
        words.push(format!(
            "Speed relative to the machine of the measured times (1 unless set with --speed): {}.",
            speeds.join(", ")
        ));
        if !self.undated_prices.is_empty() {
            words.push(format!(
                "Prices without a full date, or not seen at the provider, to be checked before a decision: {}.",
                self.undated_prices.join(", ")
            ));
        }
        words
    }
}

fn quote(workload: &Workload, prices: &Prices, target: &Target) -> Result<Quote, PriceError> {
    let bill = bill(workload, prices, target)?;
    Ok(Quote {
        target: target.to_string(),
        name: target.words(),
        always_on: target.always_on(),
        speed: workload.speed_of(target),
        usd_per_month: bill.usd(),
        usd_per_million_posts: bill.usd() / workload.posts() * 1e6,
        bill,
    })
}

/// Two decades about the workload's own rate on either side.
fn curves(
    workload: &Workload,
    prices: &Prices,
    targets: &[Target],
) -> Result<Vec<Curve>, PriceError> {
    let rates: Vec<f64> = (-80..=80)
        .map(|step| workload.rate() * 10f64.powf(f64::from(step) / 40.0))
        .collect();
    targets
        .iter()
        .map(|target| {
            let points = rates
                .iter()
                .map(|&rate| Ok((rate, bill(&workload.at_rate(rate), prices, target)?.usd())))
                .collect::<Result<_, PriceError>>()?;
            Ok(Curve {
                target: target.to_string(),
                points,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
