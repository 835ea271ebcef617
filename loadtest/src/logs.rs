//! Figures of a real function out of its CloudWatch logs, so that what was measured on
//! AWS replaces what was emulated here.
//!
//! Any text with `REPORT` lines will do: an export of log events, `aws logs tail`,
//! `filter-log-events` as JSON (where a tab is `\t`), a query's CSV. Other lines are
//! counted and skipped; a report without a duration is an error.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{number, percent};
use crate::stats::Summary;

/// Durations kept at most; more would only fill the file. The rest are counted.
const MOST: usize = 200_000;
/// Bytes of a line at most.
const MOST_LINE: u64 = 1 << 20;

/// What a function's reports came to. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logs {
    /// The file's name.
    pub file: String,
    /// Reports in it.
    pub invocations: u64,
    /// Reports with an init phase.
    pub cold: u64,
    /// Lines that were no report.
    pub other_lines: u64,
    /// Memory size in MB; of several in the file, the last.
    pub memory_mb: u32,
    /// Largest memory used, MB.
    pub max_memory_used_mb: u32,
    /// Sum of the billed durations.
    pub billed_ms: u64,
    /// Memory times billed duration.
    pub billed_gb_seconds: f64,
    /// Durations of invocations on a running instance.
    pub warm_duration_ms: Option<Summary>,
    /// Durations of the first invocation of an instance, without its init.
    pub cold_duration_ms: Option<Summary>,
    /// Init durations.
    pub init_ms: Option<Summary>,
    /// Warm durations themselves, for simulating with them.
    pub warm_samples_ms: Vec<f64>,
    /// Init durations themselves.
    pub init_samples_ms: Vec<f64>,
}

/// One report.
#[derive(Clone, Debug, Default, PartialEq)]
struct ReportLine {
    duration: f64,
    billed: Option<f64>,
    memory: f64,
    used: f64,
    init: Option<f64>,
}

impl Logs {
    /// Reads `path`.
    pub fn read(path: &Path, seed: u64) -> Result<Self> {
        let shown = path.display().to_string();
        let file = std::fs::File::open(path).with_context(|| shown.clone())?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::parse(BufReader::new(file), &name.display().to_string(), seed)
    }

    fn parse(mut source: impl BufRead, file: &str, seed: u64) -> Result<Self> {
        let mut logs = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        let (mut cold_durations, mut bytes, mut line) = (Vec::new(), Vec::new(), 0u64);
        loop {
            bytes.clear();
            line += 1;
            let read = source
                .by_ref()
                .take(MOST_LINE)
                .read_until(b'\n', &mut bytes);
            if read.with_context(|| format!("{file}:{line}"))? == 0 {
                break;
            }
            ensure!(
                bytes.len() < MOST_LINE as usize,
                "{file}:{line}: longer than a mebibyte"
            );
            let text = String::from_utf8_lossy(&bytes);
            let Some((_, report)) = text.split_once("REPORT RequestId:") else {
                logs.other_lines += 1;
                continue;
            };
            let report = parse(report).with_context(|| format!("{file}:{line}"))?;
            logs.add(&report, &mut cold_durations);
        }
        if logs.invocations == 0 {
            bail!("{file}: no REPORT line");
        }
        logs.warm_duration_ms = Summary::from_samples(&logs.warm_samples_ms, seed);
        logs.cold_duration_ms = Summary::from_samples(&cold_durations, seed);
        logs.init_ms = Summary::from_samples(&logs.init_samples_ms, seed);
        Ok(logs)
    }

    fn add(&mut self, report: &ReportLine, cold_durations: &mut Vec<f64>) {
        self.invocations += 1;
        self.memory_mb = report.memory as u32;
        self.max_memory_used_mb = self.max_memory_used_mb.max(report.used as u32);
        let billed = report
            .billed
            .unwrap_or_else(|| (report.duration + report.init.unwrap_or(0.0)).ceil());
        self.billed_ms += billed as u64;
        self.billed_gb_seconds += billed / 1e3 * report.memory / 1_024.0;
        let samples = match report.init {
            Some(init) => {
                self.cold += 1;
                if self.init_samples_ms.len() < MOST {
                    self.init_samples_ms.push(init);
                }
                cold_durations
            }
            None => &mut self.warm_samples_ms,
        };
        if samples.len() < MOST {
            samples.push(report.duration);
        }
    }

    /// The answer in sentences.
    pub fn words(&self) -> String {
        let mut words = format!(
            "{}: {} invocations at {} MB, {} cold ({}), {} GB-s billed, at most {} MB used.",
            self.file,
            number(self.invocations as f64),
            self.memory_mb,
            number(self.cold as f64),
            percent(self.cold as f64 / self.invocations as f64),
            number(self.billed_gb_seconds),
            self.max_memory_used_mb
        );
        for (name, summary) in [
            ("warm duration", &self.warm_duration_ms),
            ("cold duration", &self.cold_duration_ms),
            ("init", &self.init_ms),
        ] {
            if let Some(summary) = summary {
                let _ = write!(
                    words,
                    "\n{name}: median {} ms [{}, {}], p90 {} ms, p99 {} ms, n = {}",
                    number(summary.median),
                    number(summary.median_ci.low),
                    number(summary.median_ci.high),
                    number(summary.p90),
                    number(summary.p99),
                    summary.n
                );
            }
        }
        words
    }
}

/// The fields behind `REPORT RequestId:`, in any order.
fn parse(report: &str) -> Result<ReportLine> {
    let report = report.replace("\\t", "\t");
    let value = |name: &str| -> Result<Option<f64>> {
        // "Duration" is also the end of two other names.
        let field = report
            .split('\t')
            .map(str::trim_start)
            .find_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
        let Some(field) = field else {
            return Ok(None);
        };
        let word = field.split_whitespace().next().unwrap_or_default();
        let number = word
            .parse()
            .ok()
            .filter(|value| (0.0..=1e9).contains(value));
        Ok(Some(number.with_context(|| {
            format!("`{name}` of the report is no number")
        })?))
    };
    Ok(ReportLine {
        duration: value("Duration")?.context("the report has no duration")?,
        billed: value("Billed Duration")?,
        memory: value("Memory Size")?.context("the report has no memory size")?,
        used: value("Max Memory Used")?.unwrap_or(0.0),
        init: match value("Init Duration")? {
            Some(init) => Some(init),
            None => value("Restore Duration")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Logs> {
        Logs::parse(text.as_bytes(), "log.txt", 1)
    }

    const WARM: &str = "REPORT RequestId: 1\tDuration: 6.25 ms\tBilled Duration: 7 ms\tMemory Size: 512 MB\tMax Memory Used: 60 MB\t\n";
    const COLD: &str = "2026-01-01T00:00:00 REPORT RequestId: 2\tDuration: 9.5 ms\tBilled Duration: 60 ms\tMemory Size: 512 MB\tMax Memory Used: 61 MB\tInit Duration: 50.25 ms\t\n";

    #[test]
    fn reports_are_found_among_other_lines() {
        let logs = read(&format!("START RequestId: 1\n{WARM}{COLD}{WARM}")).unwrap();
        assert_eq!((logs.invocations, logs.cold, logs.other_lines), (3, 1, 1));
        assert_eq!(
            (logs.memory_mb, logs.max_memory_used_mb, logs.billed_ms),
            (512, 61, 74)
        );
        assert!((logs.billed_gb_seconds - 0.037).abs() < 1e-12);
        assert_eq!(logs.warm_samples_ms, [6.25, 6.25]);
        assert_eq!(logs.init_samples_ms, [50.25]);
        assert!(logs.words().contains("3 invocations at 512 MB, 1 cold"));
    }

    #[test]
    fn exports_as_json_and_without_a_billed_duration() {
        let json = "{\"message\": \"REPORT RequestId: 3\\tDuration: 1.2 ms\\tMemory Size: 128 MB\\tInit Duration: 3.4 ms\\t\\n\"}\n";
        let logs = read(json).unwrap();
        assert_eq!((logs.cold, logs.billed_ms), (1, 5));
    }

    #[test]
    fn a_broken_report_is_named_by_its_line() {
        for (report, reason) in [
            (
                "REPORT RequestId: 1\tDuration: soon\tMemory Size: 128 MB",
                "log.txt:2",
            ),
            (
                "REPORT RequestId: 1\tBilled Duration: 3 ms\tMemory Size: 128 MB",
                "no duration",
            ),
            ("REPORT RequestId: 1\tDuration: 3 ms", "no memory size"),
            (
                "REPORT RequestId: 1\tDuration: -3 ms\tMemory Size: 1 MB",
                "`Duration`",
            ),
        ] {
            let error = read(&format!("{WARM}{report}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        assert_eq!(
            read("nothing\n").unwrap_err().to_string(),
            "log.txt: no REPORT line"
        );
        let endless = "x".repeat(2 << 20);
        assert!(
            read(&endless)
                .unwrap_err()
                .to_string()
                .contains("log.txt:1")
        );
    }
}
