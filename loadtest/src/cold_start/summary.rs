//! The runs of one function under one condition, and what they come to.

use super::candidate::{COLDREAD, Candidate, HELLO};
use super::deployment::Deployment;
use super::measure::{Bench, Sample};
use super::options::{Cache, ColdStartOptions, Condition};
use super::page_cache::files_below;
use crate::platform::fault::{Fault, FaultCounts};
use crate::platform::function::{Function, Program, resolve};
use crate::stats::{Interval, Summary, ratio_of_medians};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// All that `cold-start` found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ColdStart {
    /// How memory and processor were limited, or why they were not.
    pub limits: String,
    /// Whether all runs were made; else it was stopped early.
    pub complete: bool,
    /// Cold starts asked for of each function under each condition.
    pub runs: u32,
    /// Processors during init, where those were not the memory size's.
    pub init_vcpus: Option<f64>,
    /// Median of what the harness itself adds to a response, in milliseconds.
    pub overhead_ms: f64,
    /// One row for each function under each condition.
    pub rows: Vec<Row>,
}

/// One function under one condition. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Name of the function.
    pub function: String,
    /// Memory size in MB; `None` is without limits.
    pub memory_mb: Option<u32>,
    /// Processors that the size comes with; `None` is without limits.
    pub vcpus: Option<f64>,
    /// State of its files before each run.
    pub cache: Cache,
    /// From `exec` to the first request for an event. `None` without a sound run.
    pub first_next_ms: Option<Summary>,
    /// From `exec` to the first response.
    pub first_answer_ms: Option<Summary>,
    /// From the first event's delivery to its response.
    pub first_event_ms: Option<Summary>,
    /// The same of the second event.
    pub second_event_ms: Option<Summary>,
    /// Median of `first_answer_ms` by that of the floor, and its interval.
    pub to_floor: Option<(f64, Interval)>,
    /// Largest resident set, in MiB.
    pub peak_rss_mib: Option<Summary>,
    /// Peak of the control group, in MiB.
    pub peak_cgroup_mib: Option<Summary>,
    /// Page faults served from memory.
    pub minor_faults: Option<Summary>,
    /// Page faults that needed the disk.
    pub major_faults: Option<Summary>,
    /// Time stopped at the processor quota.
    pub throttled_ms: Option<Summary>,
    /// Phases that the function tells of.
    pub phases: BTreeMap<String, Summary>,
    /// Runs that failed, by how.
    pub faults: FaultCounts,
    /// The first run of a fresh copy with nothing cached; not among the others.
    pub first_after_deploy: Option<Sample>,
    /// The runs themselves, in order.
    pub samples: Vec<Sample>,
}

/// Runs as they come in.
pub(super) struct RunSeries {
    candidate: Candidate,
    condition: Condition,
    files: Vec<PathBuf>,
    /// The copy that runs.
    deployed: Option<Rc<Deployment>>,
    first_after_deploy: Option<Sample>,
    samples: Vec<Sample>,
    faults: FaultCounts,
    first_fault: Option<Fault>,
}

impl RunSeries {
    pub(super) fn new(candidate: &Candidate, condition: Condition) -> Self {
        Self {
            candidate: candidate.clone(),
            condition,
            files: Vec::new(),
            deployed: None,
            first_after_deploy: None,
            samples: Vec::new(),
            faults: FaultCounts::default(),
            first_fault: None,
        }
    }

    pub(super) fn title(&self) -> String {
        let name = &self.candidate.name;
        match self.condition.memory_mb {
            Some(memory_mb) => format!("{name}, {memory_mb} MB"),
            None => format!("{name}, unlimited"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    fn is_complete(&self, runs: u32) -> bool {
        // The first run after the deployment may be among the faults.
        self.samples.len() as u64 + self.faults.total() >= u64::from(runs)
    }

    pub(super) fn first_fault(&self) -> Option<String> {
        let fault = self.first_fault.as_ref()?;
        Some(format!("{}: {fault}", self.title()))
    }

    /// Puts the function in place and runs it once, with nothing of it cached.
    pub(super) async fn deploy(&mut self, bench: &Bench) -> Result<()> {
        if let (true, Program::Command(command)) =
            (self.candidate.single_file, &self.candidate.program)
        {
            let copy = Deployment::copy_of(Path::new(&command[0]))?;
            self.keep(Rc::new(copy));
        } else if let Program::Command(command) = &self.candidate.program {
            let named = command.iter().filter_map(|word| resolve(Path::new(word)));
            let folders = command
                .iter()
                .map(PathBuf::from)
                .filter(|path| path.is_dir());
            self.files = files_below(&named.chain(folders).collect::<Vec<_>>())?;
        }
        let condition = Condition {
            cache: Cache::Dropped,
            ..self.condition
        };
        let mut mapped = Vec::new();
        let done = bench
            .run(
                &self.candidate,
                condition,
                &self.files,
                0,
                Some(&mut mapped),
            )
            .await?;
        match done {
            // What else it uses was not known and not evicted, so it was no first run.
            Ok(_) if !self.candidate.single_file => {
                // An engine's client maps nothing of the image.
                if matches!(self.candidate.program, Program::Command(_)) {
                    self.files.extend(mapped);
                    self.files.sort();
                    self.files.dedup();
                }
            }
            // Whatever a snapshot needs is in memory when it is restored.
            Ok(_) if self.candidate.restored => {}
            Ok(sample) => self.first_after_deploy = Some(sample),
            Err(fault) => self.fail(fault),
        }
        if let Some(fresh) = self.deployed.take() {
            self.keep(bench.keep(&self.candidate.name, self.condition.cache, fresh));
        }
        Ok(())
    }

    /// Goes on with this copy.
    fn keep(&mut self, copy: Rc<Deployment>) {
        if let Program::Command(command) = &mut self.candidate.program {
            command[0] = copy.path().into();
        }
        self.files = vec![copy.path().to_owned()];
        self.deployed = Some(copy);
    }

    /// One more run.
    pub(super) async fn run(&mut self, bench: &Bench) -> Result<()> {
        let number = self.samples.len();
        let done = bench
            .run(&self.candidate, self.condition, &self.files, number, None)
            .await?;
        match done {
            Ok(sample) => self.samples.push(sample),
            Err(fault) => self.fail(fault),
        }
        Ok(())
    }

    fn fail(&mut self, fault: Fault) {
        self.faults.count(fault.kind);
        self.first_fault.get_or_insert(fault);
    }

    fn row(&self, floor: Option<&Self>, seed: u64) -> Row {
        let all = |value: fn(&Sample) -> Option<f64>| -> Vec<f64> {
            self.samples.iter().filter_map(value).collect()
        };
        let summary = |value| Summary::from_samples(&all(value), seed);
        let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, &ms) in self.samples.iter().flat_map(|sample| &sample.phases) {
            phases.entry(name.clone()).or_default().push(ms);
        }
        let answers = |series: &Self| -> Vec<f64> {
            series
                .samples
                .iter()
                .map(|sample| sample.first_answer_ms)
                .collect()
        };
        Row {
            function: self.candidate.name.clone(),
            memory_mb: self.condition.memory_mb,
            vcpus: self.condition.memory_mb.map(|memory_mb| {
                Function::new("", self.candidate.program.clone(), memory_mb).vcpus()
            }),
            cache: self.condition.cache,
            first_next_ms: summary(|sample| Some(sample.first_next_ms)),
            first_answer_ms: summary(|sample| Some(sample.first_answer_ms)),
            first_event_ms: summary(|sample| Some(sample.first_event_ms)),
            second_event_ms: summary(|sample| Some(sample.second_event_ms)),
            to_floor: floor
                .and_then(|floor| ratio_of_medians(&answers(self), &answers(floor), seed)),
            peak_rss_mib: summary(|sample| Some(sample.usage?.peak_rss_kib as f64 / 1024.0)),
            peak_cgroup_mib: summary(|sample| Some(sample.usage?.peak_cgroup_kib? as f64 / 1024.0)),
            minor_faults: summary(|sample| Some(sample.usage?.minor_faults as f64)),
            major_faults: summary(|sample| Some(sample.usage?.major_faults as f64)),
            throttled_ms: summary(|sample| Some(sample.usage?.throttling?.throttled_ms)),
            phases: phases
                .into_iter()
                .filter_map(|(name, ms)| Some((name, Summary::from_samples(&ms, seed)?)))
                .collect(),
            faults: self.faults.clone(),
            first_after_deploy: self.first_after_deploy.clone(),
            samples: self.samples.clone(),
        }
    }
}

impl ColdStart {
    pub(super) fn new(options: &ColdStartOptions, overhead_ms: f64, series: &[RunSeries]) -> Self {
        let floor_of = |of: &RunSeries| {
            if of.candidate.name == HELLO {
                return None;
            }
            series
                .iter()
                .find(|other| other.candidate.name == HELLO && other.condition == of.condition)
        };
        Self {
            limits: options.limits.clone(),
            complete: series.iter().all(|series| series.is_complete(options.runs)),
            runs: options.runs,
            init_vcpus: options.settings.init_vcpus,
            overhead_ms,
            rows: series
                .iter()
                .map(|series| series.row(floor_of(series), options.seed))
                .collect(),
        }
    }

    /// The row of coldread itself at this size and cache.
    pub fn coldread(&self, memory_mb: Option<u32>, cache: Cache) -> Option<&Row> {
        self.rows.iter().find(|row| {
            row.function == COLDREAD && row.memory_mb == memory_mb && row.cache == cache
        })
    }
}
