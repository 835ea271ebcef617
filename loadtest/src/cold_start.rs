//! How long a function takes from `exec` to its first response, and what
//! it needs meanwhile.
//!
//! Each run starts a fresh instance on the local Lambda with an event waiting. The
//! clock is read by the launcher right before `exec`, after the instance has joined
//! its control group; it is read again when the first `next` and the first response
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
//! **A restore is a resumption.** With SnapStart, coldread is measured a second time: started,
//! paused when it asks for its restore, and resumed. Its clock starts with the resumption, so
//! that what the platform takes to load a snapshot is not in the figures.
//!
//! **Faults are no latency.** A run that fails is counted by its kind and leaves the
//! figures.

mod candidate;
mod deployment;
mod measure;
mod options;
mod overhead;
mod page_cache;
mod summary;

pub use candidate::{COLDREAD, Functions};
pub use measure::Sample;
pub use options::{Cache, ColdStartOptions, Condition};
pub use summary::{ColdStart, Row};

use crate::interrupt;
use crate::platform::container;
use anyhow::{Result, bail};
use candidate::Candidate;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use measure::Bench;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use summary::RunSeries;

/// A measurement that is ready to run.
pub struct Measurement {
    options: ColdStartOptions,
    candidates: Vec<Candidate>,
    bench: Bench,
    overhead_ms: f64,
}

impl Measurement {
    /// Finds the functions, or builds them, and measures the harness itself.
    pub async fn prepare(options: ColdStartOptions) -> Result<Self> {
        let candidates = candidate::find(&options.functions)?;
        for candidate in &candidates {
            if let Some(folder) = candidate.folder() {
                deployment::sweep(folder);
            }
        }
        if !options.functions.images.is_empty() {
            container::sweep(&options.functions.engine);
        }
        Ok(Self {
            bench: Bench::new(&options)?,
            overhead_ms: overhead::measure().await?,
            options,
            candidates,
        })
    }

    /// Median of what the harness itself adds to a response, in milliseconds.
    pub fn overhead_ms(&self) -> f64 {
        self.overhead_ms
    }

    /// Makes all runs, or those up to Ctrl-C.
    pub async fn run(self) -> Result<ColdStart> {
        let series = self.rounds().await?;
        Ok(ColdStart::new(&self.options, self.overhead_ms, &series))
    }

    /// Makes all runs, round by round. After Ctrl-C, those made so far are reported.
    async fn rounds(&self) -> Result<Vec<RunSeries>> {
        let ColdStartOptions {
            conditions,
            runs,
            seed,
            quiet,
            ..
        } = &self.options;
        let mut series: Vec<RunSeries> = Vec::new();
        for &condition in conditions {
            let measured = self
                .candidates
                .iter()
                // What a paused process has mapped cannot be evicted.
                .filter(|candidate| !(candidate.restored && condition.cache == Cache::Dropped));
            for candidate in measured {
                series.push(RunSeries::new(candidate, condition));
            }
        }
        let progress = progress(series.len() * (*runs as usize + 1), *quiet);
        let mut rng = ChaCha8Rng::seed_from_u64(*seed);
        let mut order: Vec<usize> = (0..series.len()).collect();
        // Round 0 deploys.
        'rounds: for round in 0..=*runs {
            order.shuffle(&mut rng);
            for &place in &order {
                let series = &mut series[place];
                progress.set_message(series.title());
                let run = async {
                    if round == 0 {
                        series.deploy(&self.bench).await
                    } else {
                        series.run(&self.bench).await
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
        if series.iter().all(RunSeries::is_empty) && !interrupt::asked() {
            let faults: Vec<String> = series.iter().filter_map(RunSeries::first_fault).collect();
            bail!("nothing was measured: {}", faults.join("; "));
        }
        Ok(series)
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
