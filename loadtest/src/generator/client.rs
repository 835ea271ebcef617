//! The client of one server: how requests are sent, and whether it can be reached.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use tokio::task::LocalSet;

use super::bodies::Bodies;
use super::endpoint::Endpoint;
use crate::arrivals::duration;

/// How requests are sent.
#[derive(Debug, Clone, Args)]
pub struct ClientOptions {
    /// Path of the requests
    #[arg(long, default_value = "/v1/sentiment")]
    pub path: String,
    /// Posts to send: .txt with one per line, .tsv and .csv with a column `text` or the post in the last column [default: generated posts]
    #[arg(long, value_name = "FILE")]
    pub posts: Option<PathBuf>,
    /// Posts per request
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Header of every request, e.g. "x-api-key: ..."; its value is not recorded
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Maximum number of connections
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Threads of the client
    #[arg(long, default_value_t = 1)]
    pub client_threads: usize,
    /// Timeout of a request
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// One server under load.
#[derive(Clone)]
pub struct Client {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) bodies: Arc<Bodies>,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) timeout: Duration,
    pub(super) quiet: bool,
}

impl Client {
    /// A client of `url` (scheme, host and port; the path comes from `options`).
    pub fn new(options: &ClientOptions, url: &str, seed: u64, quiet: bool) -> Result<Self> {
        ensure!(
            (1..=65_536).contains(&options.connections)
                && (1..=64).contains(&options.client_threads),
            "--connections must be 1 to 65536 and --client-threads 1 to 64"
        );
        Ok(Self {
            endpoint: Arc::new(Endpoint::new(url, &options.path, &options.headers)?),
            bodies: Arc::new(Bodies::new(options.posts.as_deref(), options.batch, seed)?),
            connections: options.connections,
            threads: options.client_threads,
            timeout: options.timeout,
            quiet,
        })
    }

    /// Fails if there is no connection to the server: a certificate that is rejected, for
    /// example, would fail every request of a run.
    pub fn check(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let connected = LocalSet::new().block_on(&runtime, async {
            // Made here, where there is a runtime to tell the time.
            tokio::time::timeout(self.timeout, self.endpoint.connect()).await
        });
        match connected {
            Ok(Ok(_connection)) => Ok(()),
            Ok(Err(unreachable)) => bail!("{}: {unreachable}", self.endpoint),
            Err(_elapsed) => bail!("{}: no connection within {:?}", self.endpoint, self.timeout),
        }
    }

    /// Mean number of characters in a post.
    pub fn mean_chars(&self) -> f64 {
        self.bodies.mean_chars
    }
}
