//! Queues and streams: their pollers delete every record that is not reported as failed.
//!
//! | | a post that can never be scored | any other failure | reported |
//! |---|---|---|---|
//! | standard queue | reported, and ends in the dead-letter queue | reported | each message |
//! | FIFO queue | the same | reported | the first, and every later one |
//! | streams | its error is delivered to the sink | reported | the first, from which the stream is read again |
//!
//! Records are scored and delivered in chunks. In a FIFO queue or a stream, nothing is delivered
//! after a failure, because the failed record will be retried before the later ones. An event of
//! which no record was delivered fails as a whole.
//!
//! Delivery is at least once: if a sink does not confirm a result in time, the record is retried,
//! and its result has the same id.

use super::record::Record;
use super::score::{AT_A_TIME, Verdict};
use super::sink::Outgoing;
use super::source::{Batch, Source};
use super::sync_response::json;
use super::{EventStats, Events, InvocationError, Sink};
use crate::platform::Platform;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

/// A record, by its place in the event, that is to come again, and why.
type Failure = (usize, &'static str);

/// A result that the sink did not take.
const NOT_DELIVERED: &str = "not_delivered";

impl Events {
    /// Scores and delivers; the response lists what is to come again.
    pub(super) async fn partial_batch_response(
        &self,
        batch: Batch,
        platform: &Platform,
        stats: &mut EventStats,
    ) -> Result<Box<RawValue>, InvocationError> {
        let sink = self.sink.as_deref().ok_or(InvocationError::NoSink)?;
        let Batch {
            source,
            mut records,
        } = batch;
        let to_score = platform.deadline.map(leave_time_to_deliver);
        let mut failures = Vec::new();
        for (chunk, records) in records.chunks_mut(AT_A_TIME).enumerate() {
            let verdicts = self.score(records, to_score, stats).await;
            let mut results = Vec::with_capacity(records.len());
            let mut failed = Vec::new();
            for (place, (record, verdict)) in records.iter().zip(&verdicts).enumerate() {
                match self.outgoing(source, place, record, verdict) {
                    Ok(result) => results.extend(result),
                    Err(code) => {
                        failed.push((place, code));
                        if source.is_ordered() {
                            break;
                        }
                    }
                }
            }
            failed.extend(deliver(sink, source, &results, self.deadline(platform.deadline)).await);
            let first = chunk * AT_A_TIME;
            let failed = failed.into_iter();
            failures.extend(failed.map(|(place, code)| (first + place, code)));
            if source.is_ordered() && !failures.is_empty() {
                break;
            }
        }
        failures.sort_unstable();
        let Some(&(place, first)) = failures.first() else {
            return Ok(json(&report(&[])));
        };
        stats.failed_code = Some(first);
        stats.failed = if source.is_ordered() {
            records.len() - place
        } else {
            failures.len()
        };
        if stats.failed == records.len() {
            let records = records.len();
            return Err(InvocationError::AllFailed { records, first });
        }
        let reported: Vec<&Record> = match source {
            Source::SqsFifo => records[place..].iter().collect(),
            // The stream is read again from there.
            Source::Kinesis | Source::DynamoDb => vec![&records[place]],
            _ => failures.iter().map(|&(place, _)| &records[place]).collect(),
        };
        Ok(json(&report(&reported)))
    }

    /// What goes to the sink of a record: nothing of a deletion. The error is why the
    /// record is to come again.
    fn outgoing(
        &self,
        source: Source,
        place: usize,
        record: &Record,
        verdict: &Verdict,
    ) -> Result<Option<Placed>, &'static str> {
        match verdict {
            Verdict::Failed(code) => return Err(code),
            Verdict::Bad(error) if !source.delivers_errors() => return Err(error.code()),
            _ => {}
        }
        let result = self.result(record, verdict).map(|body| Outgoing {
            id: record.id.clone().unwrap_or_default(),
            group: record.group.clone(),
            source: record.source.clone(),
            is_error: matches!(verdict, Verdict::Bad(_)),
            body,
        });
        Ok(result.map(|result| Placed { place, result }))
    }
}

/// A result and its record's place.
struct Placed {
    place: usize,
    result: Outgoing,
}

impl Source {
    fn is_ordered(self) -> bool {
        matches!(self, Self::SqsFifo | Self::Kinesis | Self::DynamoDb)
    }

    /// Whether a record that can never be scored is over and done with once its error
    /// was delivered. A queue keeps such messages for its owner; a stream would be
    /// stuck at them.
    fn delivers_errors(self) -> bool {
        matches!(self, Self::Kinesis | Self::DynamoDb)
    }
}

/// At most this much of an event's time is kept for delivering what was scored last.
const DELIVERY: Duration = Duration::from_secs(2);

/// When scoring has to be done, given when everything has to.
fn leave_time_to_deliver(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    let earlier = deadline.checked_sub((left / 4).min(DELIVERY));
    earlier.unwrap_or(deadline)
}

/// Hands results to the sink, and tells the places of those that it does not have.
async fn deliver(
    sink: &dyn Sink,
    source: Source,
    results: &[Placed],
    deadline: Instant,
) -> Vec<Failure> {
    // A FIFO queue's messages, ten at most, go one by one: none behind one that failed.
    let at_a_time = match source {
        Source::SqsFifo => 1,
        _ => results.len().max(1),
    };
    let mut failures = Vec::new();
    for placed in results.chunks(at_a_time) {
        let outgoing: Vec<&Outgoing> = placed.iter().map(|placed| &placed.result).collect();
        let arrived = tokio::time::timeout_at(deadline.into(), sink.send(&outgoing)).await;
        // What is not known to have arrived has not.
        let arrived = arrived
            .unwrap_or_default()
            .into_iter()
            .chain(std::iter::repeat(false));
        let failed = placed.iter().zip(arrived).filter(|(_, arrived)| !arrived);
        failures.extend(failed.map(|(placed, _)| (placed.place, NOT_DELIVERED)));
        if source == Source::SqsFifo && !failures.is_empty() {
            break;
        }
    }
    failures
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartialBatchResponse<'a> {
    batch_item_failures: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    item_identifier: &'a str,
}

fn report<'a>(reported: &[&'a Record]) -> PartialBatchResponse<'a> {
    let items = reported.iter().map(|record| Item {
        item_identifier: &record.failure_id,
    });
    PartialBatchResponse {
        batch_item_failures: items.collect(),
    }
}
