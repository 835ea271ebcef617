//! What `cold-start` can be told.

use crate::cli::Common;
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  coldread-loadtest cold-start                         coldread and a hello-world function
  coldread-loadtest cold-start --runs 100 --memory 512 --json cold.json
  coldread-loadtest cold-start --vs 'onnx=python3 loadtest/compare/onnxruntime_lambda.py out/'
  coldread-loadtest cold-start --image coldread=localhost/coldread --image other=localhost/other";

/// Time from `exec` to the first answer, on a local Lambda
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ColdStartArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// The page that the report goes to
    #[arg(long, value_name = "FILE", default_value = "cold-start.html")]
    pub report: PathBuf,
    /// The coldread binary; else the one beside this, which is built if need be
    #[arg(long, value_name = "FILE", env = "COLDREAD_BINARY")]
    pub binary: Option<PathBuf>,
    /// Another function to measure beside it, quoted as a shell would want it
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named)]
    pub vs: Vec<(String, String)>,
    /// Measure container images instead of coldread and hello; they must be there
    #[arg(long, value_name = "NAME=IMAGE", value_parser = named)]
    pub image: Vec<(String, String)>,
    /// What runs images
    #[arg(long, default_value = "podman")]
    pub engine: String,
    /// Passed on to `ENGINE run`, once each
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub engine_arg: Vec<String>,
    /// Cold starts of each function under each condition
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Memory sizes in MB, each with its share of the processor
    #[arg(long, value_delimiter = ',', default_value = "128,256,512,1024,1769", value_parser = clap::value_parser!(u32).range(64..=10_240))]
    pub memory: Vec<u32>,
    /// Measure without limits as well
    #[arg(long)]
    pub unlimited: bool,
    /// Set no limits at all
    #[arg(long, conflicts_with = "unlimited")]
    pub no_limits: bool,
    /// Files in the page cache or evicted from it; both if not given, and for images only
    /// if `--evict` says where their files are
    #[arg(long, value_enum)]
    pub cache: Option<Cache>,
    /// The same as `--cache dropped`
    #[arg(long, conflicts_with = "cache")]
    pub drop_cache: bool,
    /// Further files and folders to evict, such as a model or site-packages
    #[arg(long, value_name = "PATH")]
    pub evict: Vec<PathBuf>,
    /// Processors during init, if not those of the memory size
    #[arg(long, value_name = "VCPUS")]
    pub init_vcpus: Option<f64>,
    /// Period of the processor quota; Lambda's own is undocumented
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub cpu_period_ms: u64,
    /// Processors of this machine that functions stay on, such as `1` or `2,3`
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Posts to send, one a line, in turn; else a made-up one of 24 tokens
    #[arg(long, value_name = "FILE")]
    pub posts: Option<PathBuf>,
    /// Path that posts are sent to
    #[arg(long, default_value = "/v1/sentiment")]
    pub path: String,
    /// Variables for all functions
    #[arg(long, value_name = "NAME=VALUE", value_parser = named)]
    pub env: Vec<(String, String)>,
    /// Longest time an answer may take, in seconds
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
}

/// State of a function's files before a run.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    ValueEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// As the run before left them, which is in memory.
    Warm,
    /// Evicted from memory.
    Dropped,
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
