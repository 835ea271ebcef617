//! Figures of a real function out of its CloudWatch logs, so that what was measured on
//! AWS replaces what was emulated here.
//!
//! Any file with reports will do: an export of log events, `aws logs tail`,
//! `filter-log-events` as JSON, a query's CSV, in Lambda's text or JSON log format. Other
//! lines are counted and skipped; a report without a duration is an error.

mod report_line;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arrivals::Nanos;
use crate::format::{number, percent};
use crate::stats::Summary;
use report_line::ReportLine;

/// Durations kept at most; more would only fill the file. The rest are counted.
const MOST: usize = 200_000;
/// Bytes of a line at most.
const MOST_LINE: u64 = 1 << 20;

/// Why a log cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be opened or read.
    #[error("{file}: {source}")]
    Read {
        /// The file as the user named it.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line cannot be read as a report.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The file as the user named it.
        file: String,
        /// Line, counted from one.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no report in the file.
    #[error("{file} contains no REPORT line and no platform.report; export the function's log")]
    NoReport {
        /// The file as the user named it.
        file: String,
    },
    /// The reports do not say when they were logged.
    #[error(
        "{file}: the reports have no timestamps, so the arrivals are unknown; export the log with timestamps, or set --arrivals"
    )]
    NoTimes {
        /// The file as the user named it.
        file: String,
    },
    /// A function under SnapStart logs restores, which say nothing of a cold start without it.
    #[error(
        "{file}: the log has restores but no init phase; set the init of a cold start without SnapStart with --init"
    )]
    RestoreWithoutInit {
        /// The file as the user named it.
        file: String,
    },
}

/// What a function's reports came to. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logs {
    /// The file's name.
    pub file: String,
    /// Reports in it.
    pub invocations: u64,
    /// Reports with an init phase.
    pub cold: u64,
    /// Reports with a restore of a SnapStart snapshot.
    #[serde(default)]
    pub restored: u64,
    /// Lines that were no report.
    pub other_lines: u64,
    /// Memory size in MB; of several in the file, the last.
    pub memory_mb: u32,
    /// Largest memory used, MB.
    pub max_memory_used_mb: u32,
    /// Sum of the billed durations, billed restores included.
    pub billed_ms: u64,
    /// Memory times billed duration.
    pub billed_gb_seconds: f64,
    /// Durations of invocations on a running instance.
    pub warm_duration_ms: Option<Summary>,
    /// Durations of the first invocation of an instance, without its init or restore.
    pub cold_duration_ms: Option<Summary>,
    /// Init durations.
    pub init_ms: Option<Summary>,
    /// Restore durations: the snapshot's and the function's hooks.
    #[serde(default)]
    pub restore_ms: Option<Summary>,
    /// What is billed of them: the hooks.
    #[serde(default)]
    pub billed_restore_ms: Option<Summary>,
    /// Warm durations themselves, for simulating with them.
    pub warm_samples_ms: Vec<f64>,
    /// Init durations themselves.
    pub init_samples_ms: Vec<f64>,
    /// Restore durations themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_samples_ms: Vec<f64>,
    /// Billed restore durations themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub billed_restore_samples_ms: Vec<f64>,
    /// When invocations began, seconds since 1970, of the reports that say it; not written.
    #[serde(skip)]
    pub began_s: Vec<f64>,
}

impl Logs {
    /// Reads `path`.
    pub fn read(path: &Path, seed: u64) -> Result<Self, LogError> {
        let shown = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|source| LogError::Read {
            file: shown,
            source,
        })?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::parse(BufReader::new(file), &name.display().to_string(), seed)
    }

    fn parse(mut source: impl BufRead, file: &str, seed: u64) -> Result<Self, LogError> {
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
                .read_until(b'\n', &mut bytes)
                .map_err(|source| LogError::Read {
                    file: file.to_owned(),
                    source,
                })?;
            if read == 0 {
                break;
            }
            let broken = |reason: String| LogError::Line {
                file: file.to_owned(),
                line,
                reason,
            };
            if bytes.len() >= MOST_LINE as usize {
                return Err(broken("longer than a mebibyte".to_owned()));
            }
            let text = String::from_utf8_lossy(&bytes);
            let found = report_line::reports(&text).map_err(broken)?;
            logs.other_lines += u64::from(found.is_empty());
            for report in &found {
                logs.add(report, &mut cold_durations);
            }
        }
        if logs.invocations == 0 {
            return Err(LogError::NoReport {
                file: file.to_owned(),
            });
        }
        let summary = |samples: &[f64]| Summary::from_samples(samples, seed);
        logs.warm_duration_ms = summary(&logs.warm_samples_ms);
        logs.cold_duration_ms = summary(&cold_durations);
        logs.init_ms = summary(&logs.init_samples_ms);
        logs.restore_ms = summary(&logs.restore_samples_ms);
        logs.billed_restore_ms = summary(&logs.billed_restore_samples_ms);
        Ok(logs)
    }

    fn add(&mut self, report: &ReportLine, cold_durations: &mut Vec<f64>) {
        self.invocations += 1;
        self.memory_mb = report.memory as u32;
        self.max_memory_used_mb = self.max_memory_used_mb.max(report.used as u32);
        let billed = report
            .billed
            .unwrap_or_else(|| (report.duration + report.init.unwrap_or(0.0)).ceil())
            + report.billed_restore.unwrap_or(0.0);
        self.billed_ms += billed as u64;
        self.billed_gb_seconds += billed / 1e3 * report.memory / 1_024.0;
        let keep = |samples: &mut Vec<f64>, value: f64| {
            if samples.len() < MOST {
                samples.push(value);
            }
        };
        match (report.init, report.restore) {
            (None, None) => keep(&mut self.warm_samples_ms, report.duration),
            (init, restore) => {
                keep(cold_durations, report.duration);
                if let Some(init) = init {
                    self.cold += 1;
                    keep(&mut self.init_samples_ms, init);
                }
                if let Some(restore) = restore {
                    self.restored += 1;
                    keep(&mut self.restore_samples_ms, restore);
                    keep(
                        &mut self.billed_restore_samples_ms,
                        report.billed_restore.unwrap_or(0.0),
                    );
                }
            }
        }
        if let Some(logged_at) = report.logged_at {
            let took = report.duration + report.init.unwrap_or(0.0) + report.restore.unwrap_or(0.0);
            self.began_s.push(logged_at - took / 1e3);
        }
    }

    /// When invocations arrived, from the first on, in the order of time.
    pub fn arrivals(&self) -> Result<Vec<Nanos>, LogError> {
        if (self.began_s.len() as u64) < self.invocations {
            return Err(LogError::NoTimes {
                file: self.file.clone(),
            });
        }
        let mut began = self.began_s.clone();
        began.sort_by(f64::total_cmp);
        let first = began[0];
        Ok(began
            .iter()
            .map(|at| ((at - first) * 1e9) as Nanos)
            .collect())
    }

    /// The result in sentences.
    pub fn words(&self) -> String {
        let restored = match self.restored {
            0 => String::new(),
            restored => format!(
                ", {} restored ({})",
                number(restored as f64),
                percent(restored as f64 / self.invocations as f64)
            ),
        };
        let mut words = format!(
            "{}: {} invocations at {} MB, {} cold ({}){restored}, {} GB-s billed, at most {} MB used.",
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
            ("restore", &self.restore_ms),
            ("billed restore", &self.billed_restore_ms),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Logs, LogError> {
        Logs::parse(text.as_bytes(), "log.txt", 1)
    }

    const WARM: &str = "REPORT RequestId: 1\tDuration: 6.25 ms\tBilled Duration: 7 ms\tMemory Size: 512 MB\tMax Memory Used: 60 MB\t\n";
    const COLD: &str = "2026-01-01T00:00:00 REPORT RequestId: 2\tDuration: 9.5 ms\tBilled Duration: 60 ms\tMemory Size: 512 MB\tMax Memory Used: 61 MB\tInit Duration: 50.25 ms\t\n";
    const RESTORED: &str = "2026-01-01T00:00:10 REPORT RequestId: 3 Duration: 9.5 ms Billed Duration: 10 ms Memory Size: 512 MB Max Memory Used: 61 MB Restore Duration: 400.5 ms Billed Restore Duration: 8 ms\n";

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
    fn restores_are_billed_and_are_no_inits() {
        let logs = read(&format!("{RESTORED}{WARM}")).unwrap();
        assert_eq!((logs.cold, logs.restored, logs.billed_ms), (0, 1, 25));
        assert!(logs.init_samples_ms.is_empty());
        assert_eq!(logs.restore_samples_ms, [400.5]);
        assert_eq!(logs.billed_restore_samples_ms, [8.0]);
        assert_eq!(logs.warm_samples_ms, [6.25]);
        assert!(
            logs.words().contains("1 restored (50%)"),
            "{}",
            logs.words()
        );
    }

    #[test]
    fn arrivals_are_when_invocations_began() {
        let logs = read(&format!("{RESTORED}{COLD}")).unwrap();
        // Logged at 0 s after 59.75 ms and at 10 s after 410 ms.
        let gap = logs.arrivals().unwrap()[1] as f64 / 1e9;
        assert!((gap - (10.0 - 0.41 + 0.059_75)).abs() < 1e-6, "{gap}");
        let error = read(WARM).unwrap().arrivals().unwrap_err();
        assert!(matches!(error, LogError::NoTimes { .. }), "{error}");
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
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(matches!(read("nothing\n"), Err(LogError::NoReport { .. })));
        let endless = "x".repeat(2 << 20);
        let error = read(&endless).unwrap_err();
        assert!(error.to_string().contains("log.txt:1"), "{error}");
    }
}
