//! `coldread-loadtest cold-start`: time from `exec` to the first response.

mod tables;

use super::options::CommonOptions;
use super::output::write;
use crate::cold_start::{Cache, ColdStartOptions, Condition, Functions, Measurement};
use crate::interrupt;
use crate::platform::cgroup::Hierarchy;
use crate::platform::instance::Settings;
use crate::report::page;
use crate::results::Results;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  coldread-loadtest cold-start                         coldread and a hello-world function
  coldread-loadtest cold-start --runs 100 --memory 512 --json cold.json
  coldread-loadtest cold-start --snapstart --memory 512,1769
  coldread-loadtest cold-start --vs 'onnx=python3 loadtest/compare/onnxruntime_lambda.py out/'
  coldread-loadtest cold-start --image coldread=localhost/coldread --image other=localhost/other";

/// Measure the time from `exec` to the first response, on a local Lambda
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(after_help = EXAMPLES)]
pub(super) struct ColdStartArgs {
    #[command(flatten)]
    common: CommonOptions,
    /// File of the HTML report
    #[arg(long, value_name = "FILE", default_value = "cold-start.html")]
    report: PathBuf,
    /// coldread binary [default: the one beside this program, built if necessary]
    #[arg(long, value_name = "FILE", env = "COLDREAD_BINARY")]
    binary: Option<PathBuf>,
    /// Another function to measure in the same run; quote the command as for a shell
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named)]
    vs: Vec<(String, String)>,
    /// Also measure coldread restored from a snapshot (SnapStart): from the resumption of a paused
    /// process; what the platform takes to load a snapshot is not included
    #[arg(long, conflicts_with = "image")]
    snapstart: bool,
    /// Measure local container images instead of coldread and hello
    #[arg(long, value_name = "NAME=IMAGE", value_parser = named)]
    image: Vec<(String, String)>,
    /// Container engine: podman or docker
    #[arg(long, default_value = "podman")]
    engine: String,
    /// Argument for `ENGINE run`, repeatable
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    engine_arg: Vec<String>,
    /// Number of cold starts per function and condition
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Memory sizes in MB, each with its share of CPU
    #[arg(long, value_delimiter = ',', default_value = "128,256,512,1024,1769", value_parser = clap::value_parser!(u32).range(64..=10_240))]
    memory: Vec<u32>,
    /// Also measure without limits
    #[arg(long)]
    unlimited: bool,
    /// Measure without limits only
    #[arg(long, conflicts_with = "unlimited")]
    no_limits: bool,
    /// Whether the function's files are in the page cache or evicted [default: both; for images,
    /// evicted only if `--evict` names their files]
    #[arg(long, value_enum)]
    cache: Option<Cache>,
    /// The same as `--cache dropped`
    #[arg(long, conflicts_with = "cache")]
    drop_cache: bool,
    /// More files and folders to evict from the page cache, such as a model or site-packages
    #[arg(long, value_name = "PATH")]
    evict: Vec<PathBuf>,
    /// vCPUs during the init phase [default: those of the memory size]
    #[arg(long, value_name = "VCPUS")]
    init_vcpus: Option<f64>,
    /// Period of the CPU quota; Lambda's own is not documented
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    cpu_period_ms: u64,
    /// Cores of this machine to pin functions to, such as `1` or `2,3`
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Posts to send in turn, one per line [default: a generated one of 24 tokens]
    #[arg(long, value_name = "FILE")]
    posts: Option<PathBuf>,
    /// Path of the requests
    #[arg(long, default_value = "/v1/sentiment")]
    path: String,
    /// Environment variable of all functions, repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = named)]
    env: Vec<(String, String)>,
    /// Timeout of a response, in seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// `NAME=VALUE`.
fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl ColdStartArgs {
    /// Measures, prints the tables and writes the document and the report.
    pub(super) fn run(self) -> Result<()> {
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
        let options = self.options()?;
        let limits = options.limits.clone();
        let measurement = Measurement::prepare(options).await?;
        println_ignoring_epipe!("{}", results.machine.summary());
        println_ignoring_epipe!("limits: {limits}");
        println_ignoring_epipe!(
            "harness's own share of a response: {:.3} ms (median)",
            measurement.overhead_ms()
        );
        let found = measurement.run().await?;
        println_ignoring_epipe!("{}", tables::render(&found).trim_end());
        if !found.complete {
            println_ignoring_epipe!("\nstopped early: some runs are missing");
        }
        results.cold_start = Some(found);
        if let Some(path) = &self.common.json {
            results.write(path)?;
        }
        write(&self.report, &page::render(&results)?)?;
        println_ignoring_epipe!("\nreport: {}", self.report.display());
        Ok(())
    }

    fn options(&self) -> Result<ColdStartOptions> {
        let (settings, limits) = self.settings()?;
        let mut conditions = self.conditions(settings.hierarchy.is_some());
        conditions.sort();
        Ok(ColdStartOptions {
            functions: Functions {
                binary: self.binary.clone(),
                commands: self.vs.clone(),
                snapstart: self.snapstart,
                images: self.image.clone(),
                engine: self.engine.clone(),
                engine_args: self.engine_arg.clone(),
            },
            conditions,
            runs: self.runs,
            settings,
            limits,
            evict: self.evict.clone(),
            posts: self.posts.clone(),
            path: self.path.clone(),
            env: self.env.clone(),
            timeout: Duration::from_secs(self.timeout),
            seed: self.common.seed,
            quiet: self.common.quiet,
        })
    }

    fn settings(&self) -> Result<(Settings, String)> {
        let launcher = std::env::current_exe().context("the harness's own binary")?;
        let mut settings = Settings::new(&launcher);
        settings.init_vcpus = self.init_vcpus;
        settings.cpu_period = Duration::from_millis(self.cpu_period_ms);
        settings.cpus.clone_from(&self.cpus);
        if self.no_limits {
            return Ok((settings, "off, as requested".to_owned()));
        }
        Ok(match Hierarchy::find() {
            Ok(hierarchy) => {
                let period = self.cpu_period_ms;
                let limits = format!("{hierarchy}, CPU quota per {period} ms");
                settings.hierarchy = Some(Arc::new(hierarchy));
                (settings, limits)
            }
            Err(error) => {
                let reason = format!("OFF, all sizes run without limits: {error:#}");
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
