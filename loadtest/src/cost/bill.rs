//! A bill whose every line shows how it was computed.
//!
//! Formula and amount come out of the same factors, so they cannot disagree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prices::Price;

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
        formula.push_str(&format!(" × ${}", plain(price.usd)));
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

/// A number for people: thousands separated, four significant digits below 100.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || magnitude.fract() == 0.0 {
        let rounded = if magnitude >= 10_000.0 || magnitude.fract() == 0.0 {
            format!("{magnitude:.0}")
        } else {
            trim(&format!("{magnitude:.1}"))
        };
        let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
        let mut text = String::new();
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        if !fraction.is_empty() {
            text.push('.');
            text.push_str(fraction);
        }
        if value < 0.0 {
            text.insert(0, '-');
        }
        return text;
    }
    let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 12) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// Dollars: cents from one dollar on, else three significant digits.
pub fn dollars(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let magnitude = value.abs();
    if magnitude >= 10_000.0 {
        return format!("{sign}${}", number(magnitude.round()));
    }
    if magnitude >= 0.995 {
        let cents = (magnitude * 100.0).round() as u64;
        return format!("{sign}${}.{:02}", number((cents / 100) as f64), cents % 100);
    }
    if magnitude == 0.0 {
        return "$0".to_owned();
    }
    let decimals = (2 - magnitude.log10().floor() as i32).clamp(2, 14) as usize;
    format!("{sign}${magnitude:.decimals$}")
}

/// A unit price with all its digits and no exponent.
fn plain(value: f64) -> String {
    trim(&format!("{value:.12}"))
}

fn trim(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::prices::Prices;

    #[test]
    fn numbers_for_people() {
        for (value, expected) in [
            (0.0, "0"),
            (1_234_567.0, "1,234,567"),
            (999.94, "999.9"),
            (0.012_345, "0.01235"),
            (43.0, "43"),
            (1.5, "1.5"),
            (-2_000.0, "-2,000"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (value, expected) in [
            (0.0, "$0"),
            (2.733_338, "$2.73"),
            (1_234.5, "$1,234.50"),
            (12_345.6, "$12,346"),
            (0.004_321, "$0.00432"),
            (0.999, "$1.00"),
            (0.25, "$0.250"),
        ] {
            assert_eq!(dollars(value), expected);
        }
    }

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
