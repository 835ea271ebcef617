//! `coldread serve`: the model behind HTTP or the Lambda Runtime API.

use super::UsageError;
use super::model_source::Models;
use anyhow::Context;
use coldread::batcher::Batcher;
use coldread::config::Config;
use coldread::scorer::{PostOptions, Scorer};
use coldread::serve;
use coldread::serve::lambda::is_lambda;
use coldread::telemetry::Metrics;
use coldread::timings;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Builder;

pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    config
        .check()
        .map_err(|error| UsageError::new(error.to_string()))?;
    let metrics = Arc::new(Metrics::new());
    let mut options = config
        .limits
        .batch_options(config.model.threads, |name| std::env::var(name).ok());
    // Before the runtime takes its first request: on Lambda that is the init phase,
    // and anywhere else a model that does not load should not open a port.
    let mut models = Models::open(&config.model, &config.languages)?;
    models.set_workers(options.workers);
    let mut scorer = models.load()?;
    if config.warms_up(|name| std::env::var(name).ok()) {
        warm_up(&mut scorer)?;
    }
    // It needs the runtime of several threads.
    options.in_place = !is_lambda() && options.batch_wait.is_zero();
    let batcher = Batcher::start(scorer, options, metrics);
    // A Lambda sandbox has one request at a time: more threads would only cost start-up.
    let mut runtime = if is_lambda() {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    Ok(runtime.block_on(serve::serve(config, batcher))?)
}

/// Runs one inference, which loads every weight and allocates every buffer that a post of
/// ordinary length needs, so that the first client does not wait for that.
fn warm_up(scorer: &mut Scorer) -> anyhow::Result<()> {
    let started = Instant::now();
    let post = "what a lovely day it was, so good to see you all again after so long!";
    scorer.score(&[post], PostOptions::default())?;
    timings::inferred(started.elapsed());
    Ok(())
}
