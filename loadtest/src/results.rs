//! The JSON document that every sub-command writes: the facts of the run and the
//! section of the measurement. Each section's type lives in the module that
//! measures it.

use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Raised when a reader of older documents would misread a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything one run found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the harness that wrote it.
    pub schema_version: u32,
    /// What it ran on.
    pub machine: Machine,
    /// The command line that repeats the run.
    pub command: Vec<String>,
    /// Seed of everything random in it.
    pub seed: u64,
    /// Found by `warm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<crate::warm::Warm>,
    /// Found by `trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<serde_json::Value>,
    /// Found by `simulate`, and by `cost` for given arrivals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<crate::simulate::cli::Simulation>,
    /// Found by `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<crate::cost::CostReport>,
}

impl Results {
    /// A document without a section, for this process and machine, now.
    pub fn new(seed: u64) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            machine: Machine::read(),
            command: std::env::args().collect(),
            seed,
            warm: None,
            trace: None,
            simulation: None,
            cost: None,
        }
    }

    /// Writes the document to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a document that [`Results::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let results: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no result document", path.display()))?;
        ensure!(
            results.schema_version == SCHEMA_VERSION,
            "{} has schema {}, this harness reads {SCHEMA_VERSION}",
            path.display(),
            results.schema_version
        );
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let results = Results::new(7);
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
    }

    #[test]
    fn another_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let mut results = Results::new(7);
        results.schema_version = SCHEMA_VERSION + 1;
        results.write(&path).unwrap();
        let error = Results::read(&path).unwrap_err();
        assert!(error.to_string().contains("schema"), "{error}");
        fs::write(&path, "[]").unwrap();
        assert!(Results::read(&path).is_err());
    }
}
