//! The destinations of the results of queues and streams.

#[cfg(feature = "aws")]
mod aws;
#[cfg(any(feature = "aws", test))]
mod groups;

use crate::config::ResultDestination;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

/// A result to be sent to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The id that the platform gave the record; the same when the record is retried.
    pub id: String,
    /// The ordered group that the record belongs to.
    pub group: Option<String>,
    /// The resource that it came from.
    pub source: Option<String>,
    /// Whether it is an error instead of scores.
    pub is_error: bool,
    /// The result, as JSON on one line, without the text of the post.
    pub body: String,
}

/// For each result, in order, whether the sink confirmed it.
pub type Arrived<'a> = Pin<Box<dyn Future<Output = Vec<bool>> + Send + 'a>>;

/// A destination of results.
pub trait Sink: Send + Sync {
    /// Sends results. The sink logs why it could not deliver a result.
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a>;
}

/// Opens the configured sink. It connects when there is something to send.
#[cfg_attr(
    not(feature = "aws"),
    expect(clippy::unused_async, reason = "a log is opened without waiting")
)]
pub async fn open(results: &ResultDestination) -> Arc<dyn Sink> {
    match results {
        ResultDestination::Log => Arc::new(Log),
        #[cfg(feature = "aws")]
        ResultDestination::Sqs { url } => Arc::new(aws::Queue::open(url).await),
        #[cfg(feature = "aws")]
        ResultDestination::EventBridge { bus } => Arc::new(aws::Bus::open(bus).await),
        #[cfg(not(feature = "aws"))]
        ResultDestination::Sqs { .. } | ResultDestination::EventBridge { .. } => {
            unreachable!("the configuration was checked")
        }
    }
}

/// Writes lines to standard output, which Lambda stores in the log.
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
