//! A bill whose every line shows how it was computed.
//!
//! Formula and amount come out of the same factors, so they cannot disagree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prices::Price;
use crate::format::{number, unit_price};

/// One factor of a line: a number and what it counts.
pub type Factor = (f64, &'static str);

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
    /// Adds `product of factors × price`. Lines of zero are kept out.
    pub fn add(&mut self, what: &str, factors: &[Factor], price: &Price) {
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
        });
    }

    /// States an assumption.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// US dollars a month.
    pub fn usd(&self) -> f64 {
        self.lines.iter().map(|line| line.usd).sum()
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
}
