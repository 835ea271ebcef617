//! Where results of queues and streams go.

#[cfg(feature = "aws")]
mod aws;
#[cfg(any(feature = "aws", test))]
mod groups;

use crate::config::Results;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

/// A result on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What the platform calls its record; the same when it comes again.
    pub id: String,
    /// The ordered group that the record belongs to.
    pub group: Option<String>,
    /// The resource that it came from.
    pub source: Option<String>,
    /// Whether it says why the record cannot be scored.
    pub is_error: bool,
    /// The result, as JSON on one line. It has no text of a post.
    pub body: String,
}

/// For each result, in order, whether it has arrived.
pub type Arrived<'a> = Pin<Box<dyn Future<Output = Vec<bool>> + Send + 'a>>;

/// Takes results.
pub trait Sink: Send + Sync {
    /// Sends results. One that is not known to have arrived has not; why not is the
    /// sink's to log.
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a>;
}

/// The sink that was asked for. No connection is made before there is something to send.
#[cfg_attr(
    not(feature = "aws"),
    expect(clippy::unused_async, reason = "a log is opened without waiting")
)]
pub async fn open(results: &Results) -> Arc<dyn Sink> {
    match results {
        Results::Log => Arc::new(Log),
        #[cfg(feature = "aws")]
        Results::Sqs { url } => Arc::new(aws::Queue::open(url).await),
        #[cfg(feature = "aws")]
        Results::EventBridge { bus } => Arc::new(aws::Bus::open(bus).await),
        #[cfg(not(feature = "aws"))]
        Results::Sqs { .. } | Results::EventBridge { .. } => {
            unreachable!("the configuration was checked")
        }
    }
}

/// Lines on standard output, which Lambda keeps with the log.
struct Log;

impl Sink for Log {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        Box::pin(async move {
            let mut out = io::stdout().lock();
            let lines = results.iter();
            let mut arrived: Vec<bool> = lines
                .map(|result| writeln!(out, "{}", result.body).is_ok())
                .collect();
            if out.flush().is_err() {
                arrived.clear();
            }
            arrived
        })
    }
}
