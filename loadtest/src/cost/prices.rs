//! The dated price table, `loadtest/prices.csv` or a file in its format.
//!
//! A price without a date is a rumour: every row says when it was read and
//! where, and a row that cannot say so is marked wherever it is used.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::csv_input::{InputFile, RowError};

/// The table the binary carries.
const BUILT_IN: &str = include_str!("../../prices.csv");

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Price {
    /// Dotted name, e.g. `lambda.duration.arm.t1`.
    pub item: String,
    /// What one of it is, e.g. `GB-s`.
    pub unit: String,
    /// US dollars a unit; for `lambda.free.*` a count, for `*.premium` a fraction.
    pub usd: f64,
    /// `2026-09-19`; `2026-09` or `2026` when no more was recorded; or `undated`. A price
    /// that was read elsewhere than at the provider ends in ` unseen`.
    pub as_of: String,
    /// Region the price holds in.
    pub region: String,
    /// The page it was read from.
    pub source: String,
    /// Virtual CPUs, for rows that are machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<f64>,
    /// Memory in GiB, for rows that are machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gb: Option<f64>,
}

impl Price {
    /// Whether the row carries a full date and was read at the provider.
    pub fn is_dated(&self) -> bool {
        self.as_of.parse::<jiff::civil::Date>().is_ok()
    }

    /// The date, or words that say what is missing of it.
    pub fn date(&self) -> String {
        if self.is_dated() {
            return self.as_of.clone();
        }
        let (read, unseen) = match self.as_of.strip_suffix(" unseen") {
            Some(read) => (read, ", not seen at the provider"),
            None => (self.as_of.as_str(), ""),
        };
        match read {
            "undated" => format!("undated{unseen}"),
            part => format!("{part}, undated day{unseen}"),
        }
    }
}

/// Why a price table cannot be used.
#[derive(Debug, Error)]
pub enum PriceError {
    /// The file, or one of its rows, cannot be read.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// A calculation asked for a row that the table lacks.
    #[error("the price table has no row `{0}`; add it to the file of --prices")]
    Missing(String),
}

/// All prices by item.
#[derive(Clone, Debug)]
pub struct Prices {
    rows: BTreeMap<String, Price>,
}

impl Prices {
    /// The table the binary carries.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN.as_bytes(), &InputFile("prices.csv".to_owned()))
            .expect("the built-in table is tested")
    }

    /// Rows of `path` laid over the built-in table, so that a file may hold
    /// nothing but what differs (a region, a discount, a machine of one's own).
    pub fn with_file(path: &Path) -> Result<Self, PriceError> {
        let file = InputFile::new(path);
        let text = std::fs::read(path).map_err(|source| file.read_error(source))?;
        let mut prices = Self::built_in();
        prices.rows.extend(Self::parse(&text, &file)?.rows);
        Ok(prices)
    }

    fn parse(text: &[u8], file: &InputFile) -> Result<Self, RowError> {
        let mut reader = csv::Reader::from_reader(text);
        let headers = reader
            .headers()
            .map_err(|cause| file.row_error(1, cause.to_string()))?
            .clone();
        let mut rows = BTreeMap::new();
        for record in file.records(reader) {
            let (line, record) = record?;
            let price: Price = record
                .deserialize(Some(&headers))
                .map_err(|cause| file.row_error(line, cause.to_string()))?;
            if !price.usd.is_finite() || price.usd < 0.0 {
                return Err(file.row_error(line, format!("usd is {}", price.usd)));
            }
            if price.as_of.is_empty() || price.source.is_empty() {
                return Err(file.row_error(line, "as_of and source must be given"));
            }
            rows.insert(price.item.clone(), price);
        }
        Ok(Self { rows })
    }

    /// The row called `item`.
    pub fn get(&self, item: &str) -> Result<&Price, PriceError> {
        self.rows
            .get(item)
            .ok_or_else(|| PriceError::Missing(item.to_owned()))
    }

    /// Names of the machines that have a price, without their `ec2.`.
    pub fn machines(&self) -> Vec<&str> {
        self.rows
            .keys()
            .filter_map(|item| item.strip_prefix("ec2."))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_row_has_a_source_and_says_when() {
        let prices = Prices::built_in();
        assert!(prices.rows.len() > 40);
        for price in prices.rows.values() {
            assert!(price.source.starts_with("https://"), "{}", price.item);
            let read = price.as_of.trim_end_matches(" unseen");
            let part = ["%Y", "%Y-%m"]
                .iter()
                .any(|form| jiff::fmt::strtime::parse(form, read).is_ok());
            assert!(
                price.is_dated() || part || read == "undated",
                "{}: {}",
                price.item,
                price.as_of
            );
        }
        for machine in prices.machines() {
            let price = prices.get(&format!("ec2.{machine}")).unwrap();
            assert!(price.vcpus.is_some() && price.gb.is_some(), "{machine}");
        }
    }

    #[test]
    fn undated_rows_say_so() {
        let prices = Prices::built_in();
        let date = |item: &str| prices.get(item).unwrap().date();
        assert_eq!(date("lambda.request"), "2026-09-19");
        assert_eq!(date("alb.hour"), "2026, undated day");
        assert_eq!(date("s3.put"), "undated");
        assert_eq!(date("lambda.snapstart.cache"), "2026-11, undated day");
        assert_eq!(
            date("microvm.vcpu"),
            "2026-11, undated day, not seen at the provider"
        );
    }

    #[test]
    fn a_file_overrides_rows_and_errors_name_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.csv");
        let head = "item,unit,usd,as_of,region,source,vcpus,gb\n";
        std::fs::write(
            &path,
            format!("{head}lambda.request,request,0.1,2026-10-01,eu,me,,\n"),
        )
        .unwrap();
        let prices = Prices::with_file(&path).unwrap();
        assert_eq!(prices.get("lambda.request").unwrap().usd.to_string(), "0.1");
        assert!(prices.get("alb.hour").is_ok());

        for (row, reason) in [
            ("a,b,minus,2026,eu,me,,", "field 2"),
            ("a,b,-1,2026,eu,me,,", "usd is -1"),
            ("a,b,1,,eu,me,,", "as_of"),
            ("a,b,1", "fields"),
        ] {
            std::fs::write(&path, format!("{head}{row}\n")).unwrap();
            let message = Prices::with_file(&path).unwrap_err().to_string();
            assert!(message.contains("mine.csv:2: "), "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }
}
