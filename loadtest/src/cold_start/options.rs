//! What is measured, and how.

use super::candidate::Functions;
use crate::platform::instance::Settings;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct ColdStartOptions {
    /// The functions.
    pub functions: Functions,
    /// What each is measured under.
    pub conditions: Vec<Condition>,
    /// Number of cold starts per function and condition.
    pub runs: u32,
    /// How instances are started and limited.
    pub settings: Settings,
    /// The limits in words, or why there are none.
    pub limits: String,
    /// Further files and folders to evict.
    pub evict: Vec<PathBuf>,
    /// Posts to send, one a line, in turn; else a made-up one.
    pub posts: Option<PathBuf>,
    /// Path of the requests.
    pub path: String,
    /// Environment variable of all functions, repeatable.
    pub env: Vec<(String, String)>,
    /// Longest time a response may take.
    pub timeout: Duration,
    /// Seed of everything random.
    pub seed: u64,
    /// No progress bar.
    pub quiet: bool,
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

/// What a run is done under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// State of the function's files.
    pub cache: Cache,
    /// Memory size; `None` is without limits.
    pub memory_mb: Option<u32>,
}
