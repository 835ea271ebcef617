//! A bill whose every line shows how it was computed.
//!
//! Formula and amount come out of the same factors, so they cannot disagree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prices::Price;
use crate::format::{number, percent, unit_price};

/// One factor of a line: a number and what it counts.
pub type Factor = (f64, &'static str);

/// Shares of an amount by what it is paid for; the rest is fees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// Requests being worked on.
    pub work: f64,
    /// Environments that start from nothing.
    pub cold_starts: f64,
    /// Snapshots: kept, written and restored.
    pub restores: f64,
    /// Capacity that waits for requests.
    pub idle: f64,
}

impl Split {
    /// Nothing but work.
    pub const WORK: Self = Self {
        work: 1.0,
        cold_starts: 0.0,
        restores: 0.0,
        idle: 0.0,
    };
    /// Nothing but snapshots.
    pub const RESTORES: Self = Self {
        restores: 1.0,
        work: 0.0,
        ..Self::WORK
    };

    /// `share` of the time is work, the rest is waiting for it.
    pub fn busy(share: f64) -> Self {
        let work = share.clamp(0.0, 1.0);
        Self {
            work,
            idle: 1.0 - work,
            ..Self::default()
        }
    }
}

/// US dollars by what they are paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breakdown {
    /// Requests being worked on.
    pub work: f64,
    /// Environments that start from nothing.
    pub cold_starts: f64,
    /// Snapshots: kept, written and restored.
    pub restores: f64,
    /// Capacity that waits for requests.
    pub idle: f64,
    /// Request fees, load balancers, addresses, volumes.
    pub fees: f64,
}

impl Breakdown {
    fn new(usd: f64, split: Split) -> Self {
        let Split {
            work,
            cold_starts,
            restores,
            idle,
        } = split;
        Self {
            work: usd * work,
            cold_starts: usd * cold_starts,
            restores: usd * restores,
            idle: usd * idle,
            fees: usd * (1.0 - work - cold_starts - restores - idle),
        }
    }

    fn each(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            work: change(self.work),
            cold_starts: change(self.cold_starts),
            restores: change(self.restores),
            idle: change(self.idle),
            fees: change(self.fees),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            work: self.work + other.work,
            cold_starts: self.cold_starts + other.cold_starts,
            restores: self.restores + other.restores,
            idle: self.idle + other.idle,
            fees: self.fees + other.fees,
        }
    }
}

/// One line: factors times a price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What is paid for.
    pub what: String,
    /// The computation with its numbers, e.g. `2,000,000 requests × $0.0000002`.
    pub formula: String,
    /// US dollars a month.
    pub usd: f64,
    /// The row of the price table it used.
    pub price_item: String,
    /// That row's date, or words saying that it has none.
    pub price_date: String,
    /// What the amount is paid for.
    #[serde(default)]
    pub breakdown: Breakdown,
}

/// What one month on one target costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bill {
    /// The lines in the order they were computed.
    pub lines: Vec<Line>,
    /// Assumptions the reader must know.
    pub notes: Vec<String>,
}

impl Bill {
    /// Adds `product of factors × price`, a fee. Lines of zero are kept out.
    pub fn add(&mut self, what: &str, factors: &[Factor], price: &Price) {
        self.add_split(what, factors, price, Split::default());
    }

    /// The same, and what it is paid for.
    pub fn add_split(&mut self, what: &str, factors: &[Factor], price: &Price, split: Split) {
        let usd = factors.iter().map(|(value, _)| value).product::<f64>() * price.usd;
        if usd == 0.0 {
            return;
        }
        let mut formula = factors
            .iter()
            .map(|(value, unit)| format!("{} {unit}", number(*value)))
            .collect::<Vec<_>>()
            .join(" × ");
        formula.push_str(&format!(" × ${}", unit_price(price.usd)));
        self.lines.push(Line {
            what: what.to_owned(),
            formula,
            usd,
            price_item: price.item.clone(),
            price_date: price.date(),
            breakdown: Breakdown::new(usd, split),
        });
    }

    /// Takes `share` off the lines for processors and memory. Fees, snapshots, volumes and
    /// the premium of Managed Instances have no discount.
    pub fn discount(&mut self, share: f64) {
        for line in &mut self.lines {
            if is_compute(&line.price_item) {
                line.usd *= 1.0 - share;
                line.breakdown = line.breakdown.each(|usd| usd * (1.0 - share));
                line.formula
                    .push_str(&format!(" × (1 - {})", percent(share)));
            }
        }
    }

    /// States an assumption.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// US dollars a month.
    pub fn usd(&self) -> f64 {
        self.lines.iter().map(|line| line.usd).sum()
    }

    /// What the month is paid for.
    pub fn breakdown(&self) -> Breakdown {
        self.lines
            .iter()
            .map(|line| line.breakdown)
            .fold(Breakdown::default(), Breakdown::plus)
    }

    /// Items of the lines whose price carries no full date.
    pub fn undated(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter(|line| line.price_date.contains("undated"))
            .map(|line| line.price_item.as_str())
            .collect()
    }
}

/// Whether a row prices processors or memory, which discounts are for.
fn is_compute(item: &str) -> bool {
    let prefixes = [
        "ec2.",
        "fargate.",
        "lambda.duration.",
        "lambda.pc.",
        "azure.flex.ready.",
    ];
    let whole = ["azure.flex.gbs", "microvm.vcpu", "microvm.gb"];
    let cloud_run = item.starts_with("cloudrun.") && !item.ends_with(".request");
    cloud_run || whole.contains(&item) || prefixes.iter().any(|prefix| item.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::prices::Prices;

    #[test]
    fn formula_and_amount_come_from_the_same_factors() {
        let prices = Prices::built_in();
        let mut bill = Bill::default();
        bill.add(
            "requests",
            &[(2e6, "requests")],
            prices.get("lambda.request").unwrap(),
        );
        bill.add("objects", &[(0.0, "PUTs")], prices.get("s3.put").unwrap());
        assert_eq!(bill.lines.len(), 1, "lines of zero are kept out");
        assert_eq!(bill.lines[0].formula, "2,000,000 requests × $0.0000002");
        assert!((bill.usd() - 0.40).abs() < 1e-9);
        assert!(bill.undated().is_empty());
        bill.add("objects", &[(3.0, "PUTs")], prices.get("s3.put").unwrap());
        assert_eq!(bill.undated(), ["s3.put"]);
    }

    #[test]
    fn a_discount_is_for_processors_and_shows_in_the_formula() {
        let prices = Prices::built_in();
        let mut bill = Bill::default();
        let machine = prices.get("ec2.c7g.large").unwrap();
        bill.add_split("machines", &[(100.0, "h")], machine, Split::busy(0.25));
        bill.add(
            "requests",
            &[(1e6, "requests")],
            prices.get("lambda.request").unwrap(),
        );
        bill.discount(0.2);
        // 100 × 0.0725 × 0.8 = 5.80, and 0.20 in full.
        assert!((bill.usd() - 6.0).abs() < 1e-9);
        assert!(bill.lines[0].formula.ends_with("× $0.0725 × (1 - 20%)"));
        let parts = bill.breakdown();
        assert!((parts.work - 1.45).abs() < 1e-9 && (parts.idle - 4.35).abs() < 1e-9);
        assert!((parts.fees - 0.2).abs() < 1e-9);
    }
}
