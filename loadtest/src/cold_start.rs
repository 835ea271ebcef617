//! `cold-start`: how long a function takes from `exec` to its first answer, and what
//! it needs meanwhile.
//!
//! Each run starts a fresh instance on the local Lambda with an event waiting. The
//! clock is read by the launcher right before `exec`, after the instance has joined
//! its control group; it is read again when the first `next` and the first answer
//! arrive. A second event shows what was left for the first one to pay.
//!
//! **Fairness.** All functions are measured in one run, round by round in an order
//! drawn anew each round, so that a neighbour's noise and a warming processor meet
//! them all alike. `hello` is the floor: the same runtime crate without a model.
//!
//! **Cold is cold.** For the dropped page cache, the files of the function are
//! evicted before each run and looked at with `mincore`; what stayed is in the
//! results. Executables run from copies of their own, which nobody else has mapped.
//! The first run of a fresh copy is kept apart, as the first run after a deployment
//! is on Lambda.
//!
//! **Faults are no latency.** A run that fails is counted by its kind and leaves the
//! figures.

mod args;
mod candidate;
mod deployment;
mod measure;
mod overhead;
mod page_cache;
mod summary;
mod table;

pub use args::ColdStartArgs;
pub use candidate::COLDREAD;
pub use measure::Sample;
pub use summary::{ColdStart, Row};

use crate::interrupt;
use crate::platform::cgroup::Hierarchy;
use crate::platform::container;
use crate::platform::instance::Settings;
use crate::results::Results;
use anyhow::{Context, Result, bail};
pub use args::Cache;
use candidate::Candidate;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use measure::{Bench, Condition};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;
use summary::Series;

impl ColdStartArgs {
    /// Measures, prints the tables and writes the document.
    pub fn run(self) -> Result<()> {
        interrupt::listen();
        // One thread: the harness wakes for what it must and leaves the processor to
        // the function. Instances also die with the thread that started them.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.measure())
    }

    async fn measure(self) -> Result<()> {
        let mut results = Results::new(self.common.seed);
        let (settings, limits) = self.settings()?;
        let mut conditions = self.conditions(settings.hierarchy.is_some());
        conditions.sort();
        let candidates = candidate::find(&self)?;
        for candidate in &candidates {
            if let Some(folder) = candidate.folder() {
                deployment::sweep(folder);
            }
        }
        if !self.image.is_empty() {
            container::sweep(&self.engine);
        }
        let bench = Bench::new(&self, settings)?;
        let overhead = overhead::measure().await?;
        println!("{}", results.machine.summary());
        println!("limits: {limits}");
        println!("harness's own share of an answer: {overhead:.3} ms (median)");
        let series = self.rounds(&bench, &candidates, &conditions).await?;
        let found = ColdStart::new(&self, limits, overhead, &series);
        print!("{}", table::render(&found));
        if !found.complete {
            println!("\nstopped early: not all runs were made");
        }
        results.cold_start = Some(found);
        if let Some(path) = &self.common.json {
            results.write(path)?;
        }
        crate::report::page_of(&results, &self.report)?;
        println!("\nreport: {}", self.report.display());
        Ok(())
    }

    /// All runs, round by round. Ctrl-C ends them; what there is is reported.
    async fn rounds(
        &self,
        bench: &Bench,
        candidates: &[Candidate],
        conditions: &[Condition],
    ) -> Result<Vec<Series>> {
        let mut series: Vec<Series> = Vec::new();
        for &condition in conditions {
            for candidate in candidates {
                series.push(Series::new(candidate, condition));
            }
        }
        let progress = progress(series.len() * (self.runs as usize + 1), self.common.quiet);
        let mut rng = ChaCha8Rng::seed_from_u64(self.common.seed);
        let mut order: Vec<usize> = (0..series.len()).collect();
        // Round 0 deploys.
        'rounds: for round in 0..=self.runs {
            order.shuffle(&mut rng);
            for &place in &order {
                let series = &mut series[place];
                progress.set_message(series.title());
                let run = async {
                    if round == 0 {
                        series.deploy(bench).await
                    } else {
                        series.run(bench).await
                    }
                };
                tokio::select! {
                    done = run => done?,
                    () = interrupt::wait() => break 'rounds,
                }
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
        if series.iter().all(Series::is_empty) && !interrupt::asked() {
            let faults: Vec<String> = series.iter().filter_map(Series::first_fault).collect();
            bail!("nothing was measured: {}", faults.join("; "));
        }
        Ok(series)
    }

    fn settings(&self) -> Result<(Settings, String)> {
        let launcher = std::env::current_exe().context("the harness's own binary")?;
        let mut settings = Settings::new(&launcher);
        settings.init_vcpus = self.init_vcpus;
        settings.cpu_period = Duration::from_millis(self.cpu_period_ms);
        settings.cpus.clone_from(&self.cpus);
        if self.no_limits {
            return Ok((settings, "off, as asked".to_owned()));
        }
        Ok(match Hierarchy::find() {
            Ok(hierarchy) => {
                let period = self.cpu_period_ms;
                let limits = format!("{hierarchy}, processor quota each {period} ms");
                settings.hierarchy = Some(Arc::new(hierarchy));
                (settings, limits)
            }
            Err(error) => {
                let reason = format!("OFF, every size runs unlimited: {error:#}");
                (settings, reason)
            }
        })
    }

    fn conditions(&self, limited: bool) -> Vec<Condition> {
        let mut sizes: Vec<Option<u32>> = self.memory.iter().copied().map(Some).collect();
        if self.unlimited || !limited {
            sizes.push(None);
        }
        if !limited {
            // Sizes that change nothing would look like a comparison.
            sizes.retain(Option::is_none);
        }
        sizes.sort_unstable();
        sizes.dedup();
        let caches = match self.cache {
            Some(cache) => vec![cache],
            None if self.drop_cache => vec![Cache::Dropped],
            // Where an image's files are is the engine's secret.
            None if !self.image.is_empty() && self.evict.is_empty() => vec![Cache::Warm],
            None => vec![Cache::Warm, Cache::Dropped],
        };
        let mut conditions = Vec::new();
        for memory_mb in sizes {
            for &cache in &caches {
                conditions.push(Condition { cache, memory_mb });
            }
        }
        conditions
    }
}

fn progress(runs: usize, quiet: bool) -> ProgressBar {
    let target = if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr_with_hz(4)
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left  {msg}")
        .expect("the template is sound");
    ProgressBar::with_draw_target(Some(runs as u64), target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: ColdStartArgs,
    }

    /// Memory sizes and caches, as `512 warm` or `- dropped`.
    fn conditions(words: &str, limited: bool) -> Vec<String> {
        let words = std::iter::once("cold-start").chain(words.split_whitespace());
        let conditions = CommandLine::parse_from(words).args.conditions(limited);
        let describe = |condition: Condition| {
            let size = condition
                .memory_mb
                .map_or("-".to_owned(), |mb| mb.to_string());
            format!("{size} {:?}", condition.cache).to_lowercase()
        };
        conditions.into_iter().map(describe).collect()
    }

    #[test]
    fn sizes_and_caches_are_combined() {
        assert_eq!(conditions("", true).len(), 10);
        assert_eq!(
            conditions("--memory 512,128,512 --cache warm", true),
            ["128 warm", "512 warm"]
        );
        assert_eq!(
            conditions("--memory 512 --unlimited --drop-cache", true),
            ["- dropped", "512 dropped"]
        );
        assert_eq!(conditions("--image a=b --memory 512", true), ["512 warm"]);
    }

    #[test]
    fn without_limits_there_is_one_size() {
        assert_eq!(conditions("", false), ["- warm", "- dropped"]);
    }
}
