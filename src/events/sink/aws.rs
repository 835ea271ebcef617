//! Amazon's queues and buses.
//!
//! Clients take region and credentials from the environment, as Lambda sets them, and
//! connect when there is something to send.

use super::groups::CallLimits;
use super::{Arrived, Outgoing, Sink};
use aws_config::{ConfigLoader, Region};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use std::error::Error;
use tokio::task::JoinSet;

/// What events on a bus say that they come from.
const EVENT_SOURCE: &str = "coldread";
const SCORED: &str = "Post Scored";
const NOT_SCORED: &str = "Post Not Scored";

/// `SendMessageBatch` takes ten messages of 1 MiB together. What an entry has beside its
/// body, ids and names, is counted generously.
const MESSAGES: CallLimits = CallLimits {
    entries: 10,
    bytes: 1_048_576,
    overhead: 2048,
};

/// `PutEvents` takes ten events of 256 KB together.
const EVENTS: CallLimits = CallLimits {
    bytes: 256_000,
    ..MESSAGES
};

/// The places of results that have arrived out of one call's.
type Places = Vec<usize>;

/// A queue of SQS.
pub(super) struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    pub(super) async fn open(url: &str) -> Self {
        let mut config = aws_config::from_env();
        if let Some(region) = region(url) {
            config = config.region(Region::new(region.to_owned()));
        }
        Self {
            client: aws_sdk_sqs::Client::new(&config.load().await),
            url: url.to_owned(),
        }
    }

    fn is_fifo(&self) -> bool {
        self.url
            .rsplit_once('.')
            .is_some_and(|(_, suffix)| suffix == "fifo")
    }

    /// One call.
    fn call(
        &self,
        results: &[&Outgoing],
        places: &[usize],
    ) -> impl Future<Output = Places> + Send + use<> {
        let entries = places.iter().map(|&place| {
            let result = results[place];
            let entry = SendMessageBatchRequestEntry::builder()
                // The id that the response refers to.
                .id(place.to_string())
                .message_body(&result.body);
            let entry = if self.is_fifo() {
                let group = result.group.as_deref().unwrap_or(EVENT_SOURCE);
                entry
                    .message_group_id(group)
                    .message_deduplication_id(&result.id)
            } else {
                entry
            };
            entry.build().expect("an id and a body are all it needs")
        });
        let call = self.client.send_message_batch();
        let call = call
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()));
        async move {
            let answer = match call.send().await {
                Ok(answer) => answer,
                Err(error) => return undelivered(&error),
            };
            for failed in answer.failed() {
                not_taken(failed.code());
            }
            let arrived = answer.successful().iter();
            arrived
                .filter_map(|entry| entry.id().parse().ok())
                .collect()
        }
    }
}

impl Sink for Queue {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        Box::pin(async move {
            let groups = MESSAGES.group(results);
            let mut arrived = vec![false; results.len()];
            if !self.is_fifo() {
                let calls = groups.iter().map(|places| self.call(results, places));
                mark(
                    &mut arrived,
                    calls.collect::<JoinSet<_>>().join_all().await.concat(),
                );
                return arrived;
            }
            // In order, and none behind one that failed.
            for places in groups {
                let taken = self.call(results, &places).await;
                let is_whole = taken.len() == places.len();
                mark(&mut arrived, taken);
                if !is_whole {
                    break;
                }
            }
            arrived
        })
    }
}

/// A bus of `EventBridge`.
pub(super) struct Bus {
    client: aws_sdk_eventbridge::Client,
    name: String,
}

impl Bus {
    pub(super) async fn open(name: &str) -> Self {
        let config: ConfigLoader = aws_config::from_env();
        Self {
            client: aws_sdk_eventbridge::Client::new(&config.load().await),
            name: name.to_owned(),
        }
    }

    fn call(
        &self,
        results: &[&Outgoing],
        places: Places,
    ) -> impl Future<Output = Places> + Send + use<> {
        let entries = places.iter().map(|&place| {
            let result = results[place];
            let kind = if result.is_error { NOT_SCORED } else { SCORED };
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(EVENT_SOURCE)
                .detail_type(kind)
                .set_resources(result.source.clone().map(|source| vec![source]))
                .detail(&result.body)
                .build()
        });
        let call = self
            .client
            .put_events()
            .set_entries(Some(entries.collect()));
        async move {
            let answer = match call.send().await {
                Ok(answer) => answer,
                Err(error) => return undelivered(&error),
            };
            // The response's entries are in the order of the request's.
            let entries = places.into_iter().zip(answer.entries());
            let taken = entries.filter(|(_, entry)| {
                if entry.event_id().is_none() {
                    not_taken(entry.error_code().unwrap_or_default());
                }
                entry.event_id().is_some()
            });
            taken.map(|(place, _)| place).collect()
        }
    }
}

impl Sink for Bus {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        Box::pin(async move {
            let groups = EVENTS.group(results).into_iter();
            let calls = groups.map(|places| self.call(results, places));
            let mut arrived = vec![false; results.len()];
            mark(
                &mut arrived,
                calls.collect::<JoinSet<_>>().join_all().await.concat(),
            );
            arrived
        })
    }
}

fn mark(arrived: &mut [bool], places: Places) {
    for place in places {
        if let Some(arrived) = arrived.get_mut(place) {
            *arrived = true;
        }
    }
}

/// Logs why a call has failed; nothing of it has arrived.
fn undelivered(error: &dyn Error) -> Places {
    let error = DisplayErrorContext(error).to_string();
    tracing::error!(error, "results were not delivered");
    Places::new()
}

/// Logs why one entry of a call was not taken.
fn not_taken(code: &str) {
    tracing::error!(code, "the sink rejected a result");
}

/// The region in `https://sqs.REGION.amazonaws.com/...`, since a queue need not be in
/// the function's own.
fn region(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1;
    let (region, rest) = host.strip_prefix("sqs.")?.split_once('.')?;
    rest.starts_with("amazonaws.com").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_region_is_in_its_url() {
        let check = |url: &str, expected| assert_eq!(region(url), expected, "{url}");
        check(
            "https://sqs.eu-central-1.amazonaws.com/1/q",
            Some("eu-central-1"),
        );
        check(
            "https://sqs.cn-north-1.amazonaws.com.cn/1/q",
            Some("cn-north-1"),
        );
        check("http://localhost:4566/1/q", None);
        check("https://sqs.example.org/1/q", None);
    }
}
