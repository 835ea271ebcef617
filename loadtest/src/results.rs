//! The JSON document that every measurement writes: the facts of the run and the
//! section of the measurement. Each section's type lives in the module that
//! measures it.

use crate::cold_start::ColdStart;
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Raised when a reader of older documents would misread a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything one run found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the harness that wrote it.
    pub schema_version: u32,
    /// What it ran on.
    pub machine: Machine,
    /// The command line that repeats the run.
    pub command: Vec<String>,
    /// Seed of everything random in it.
    pub seed: u64,
    /// Command lines and machines of other runs whose sections were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    /// Found by `cold-start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStart>,
    /// Found by `warm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<crate::warm::Warm>,
    /// Found by `trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<crate::trace::TraceRun>,
    /// Read by `import-logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<crate::logs::Logs>,
    /// Found by `simulate`, and by `cost` for given arrivals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<crate::simulate::simulation::Simulation>,
    /// Found by `decide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<crate::decide::Decision>,
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
            command: without_secrets(std::env::args()),
            seed,
            merged: Vec::new(),
            cold_start: None,
            warm: None,
            trace: None,
            logs: None,
            simulation: None,
            decision: None,
            cost: None,
        }
    }

    /// Takes the sections of `other` that this document lacks; names of those that
    /// both have.
    pub fn absorb(&mut self, other: Self) -> Vec<&'static str> {
        fn take<T>(
            into: &mut Option<T>,
            from: Option<T>,
            name: &'static str,
            twice: &mut Vec<&'static str>,
        ) {
            match (&into, from) {
                (_, None) => {}
                (Some(_), Some(_)) => twice.push(name),
                (None, from) => *into = from,
            }
        }
        let mut twice = Vec::new();
        take(
            &mut self.cold_start,
            other.cold_start,
            "cold_start",
            &mut twice,
        );
        take(&mut self.warm, other.warm, "warm", &mut twice);
        take(&mut self.trace, other.trace, "trace", &mut twice);
        take(&mut self.logs, other.logs, "logs", &mut twice);
        take(
            &mut self.simulation,
            other.simulation,
            "simulation",
            &mut twice,
        );
        take(&mut self.decision, other.decision, "decision", &mut twice);
        take(&mut self.cost, other.cost, "cost", &mut twice);
        self.merged.push(format!(
            "{} ({})",
            other.command.join(" "),
            other.machine.summary()
        ));
        self.merged.extend(other.merged);
        twice
    }

    /// Writes the document to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a document that [`Results::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let results: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not a result file of coldread-loadtest",
                path.display()
            )
        })?;
        ensure!(
            results.schema_version == SCHEMA_VERSION,
            "{} has schema {}, this harness reads {SCHEMA_VERSION}",
            path.display(),
            results.schema_version
        );
        Ok(results)
    }

    /// Reads all `files` into one document; facts of the run are the first file's.
    pub fn read_merged(files: &[PathBuf]) -> Result<Self> {
        let (first, others) = files.split_first().context("no file")?;
        let mut merged = Self::read(first)?;
        for path in others {
            let twice = merged.absorb(Self::read(path)?);
            ensure!(
                twice.is_empty(),
                "{}: the section `{}` is in an earlier file already; compare shows two runs",
                path.display(),
                twice.join("`, `")
            );
        }
        Ok(merged)
    }
}

/// A command line without the values of its headers, which may be keys: whoever gets
/// the results need not get them.
fn without_secrets(command: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_header = false;
    command
        .map(|word| {
            let value = if is_header {
                Some(word.as_str())
            } else {
                word.strip_prefix("--header=")
            };
            let shown = value.map(|value| {
                let name = value.split_once(':').map_or("", |(name, _)| name);
                word.replace(value, &format!("{name}: ..."))
            });
            is_header = !is_header && word == "--header";
            shown.unwrap_or(word)
        })
        .collect()
}

/// The JSON schema of a result document, as in `loadtest/results.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Results);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `coldread-loadtest schema > loadtest/results.schema.json` renews it.
    #[test]
    fn the_committed_schema_is_current() {
        let committed = include_str!("../results.schema.json");
        assert!(committed == schema(), "results.schema.json is out of date");
    }

    #[test]
    fn no_key_is_in_the_results() {
        let words = "trace --header x-api-key:secret --header=authorization:secret --header secret";
        let shown = without_secrets(words.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(
            shown,
            "trace --header x-api-key: ... --header=authorization: ... --header : ..."
        );
    }

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
