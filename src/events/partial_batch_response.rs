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
use super::score::{RECORDS_PER_CHUNK, Verdict};
use super::sink::Outgoing;
use super::source::{Batch, EventSource};
use super::sync_response::json;
use super::{EventStats, Events, InvocationError, Sink};
use crate::platform::Platform;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

/// The index of a record that must be retried, and its error code.
type FailedRecord = (usize, &'static str);

/// The code of a result that the sink did not confirm.
const NOT_DELIVERED: &str = "not_delivered";

impl Events {
    /// Scores and delivers records; the response lists those that must be retried.
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
        for (chunk, records) in records.chunks_mut(RECORDS_PER_CHUNK).enumerate() {
            let verdicts = self.score(records, to_score, stats).await;
            let mut results = Vec::with_capacity(records.len());
            let mut failed = Vec::new();
            for (index, (record, verdict)) in records.iter().zip(&verdicts).enumerate() {
                match outgoing(source, index, record, verdict) {
                    Ok(result) => results.extend(result),
                    Err(code) => {
                        failed.push((index, code));
                        if source.is_ordered() {
                            break;
                        }
                    }
                }
            }
            failed.extend(deliver(sink, source, &results, self.deadline(platform.deadline)).await);
            let first = chunk * RECORDS_PER_CHUNK;
            let failed = failed.into_iter();
            failures.extend(failed.map(|(index, code)| (first + index, code)));
            if source.is_ordered() && !failures.is_empty() {
                break;
            }
        }
        failures.sort_unstable();
        let Some(&(index, first)) = failures.first() else {
            return Ok(json(&report(&[])));
        };
        stats.failed_code = Some(first);
        stats.failed = if source.is_ordered() {
            records.len() - index
        } else {
            failures.len()
        };
        if stats.failed == records.len() {
            let records = records.len();
            return Err(InvocationError::AllFailed { records, first });
        }
        let reported: Vec<&Record> = match source {
            EventSource::SqsFifo => records[index..].iter().collect(),
            // The stream is read again from there.
            EventSource::Kinesis | EventSource::DynamoDb => vec![&records[index]],
            _ => failures.iter().map(|&(index, _)| &records[index]).collect(),
        };
        Ok(json(&report(&reported)))
    }
}

/// The result to send to the sink; `None` for a deletion. The error is the code with which
/// the record must be retried.
fn outgoing(
    source: EventSource,
    index: usize,
    record: &Record,
    verdict: &Verdict,
) -> Result<Option<IndexedResult>, &'static str> {
    match verdict {
        Verdict::Failed(code) => return Err(code),
        Verdict::Bad(error) if !source.delivers_errors() => return Err(error.code()),
        _ => {}
    }
    let result = verdict.result(record).map(|body| Outgoing {
        id: record.id.clone().unwrap_or_default(),
        group: record.group.clone(),
        source: record.source.clone(),
        is_error: matches!(verdict, Verdict::Bad(_)),
        body,
    });
    Ok(result.map(|result| IndexedResult { index, result }))
}

/// A result and the index of its record.
struct IndexedResult {
    index: usize,
    result: Outgoing,
}

impl EventSource {
    fn is_ordered(self) -> bool {
        matches!(self, Self::SqsFifo | Self::Kinesis | Self::DynamoDb)
    }

    /// Whether a record that can never be scored is done once its error was delivered. A queue
    /// moves such messages to its dead-letter queue, but a stream would be stuck at them.
    fn delivers_errors(self) -> bool {
        matches!(self, Self::Kinesis | Self::DynamoDb)
    }
}

/// The longest part of an event's time that is reserved for the last delivery.
const DELIVERY: Duration = Duration::from_secs(2);

/// The deadline for scoring, given the event's deadline.
fn leave_time_to_deliver(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    let earlier = deadline.checked_sub((left / 4).min(DELIVERY));
    earlier.unwrap_or(deadline)
}

/// Sends results to the sink, and returns those that it did not confirm.
async fn deliver(
    sink: &dyn Sink,
    source: EventSource,
    results: &[IndexedResult],
    deadline: Instant,
) -> Vec<FailedRecord> {
    // A FIFO queue's messages, ten at most, are sent one by one, and none after a failure.
    let chunk_len = match source {
        EventSource::SqsFifo => 1,
        _ => results.len().max(1),
    };
    let mut failures = Vec::new();
    for indexed in results.chunks(chunk_len) {
        let outgoing: Vec<&Outgoing> = indexed.iter().map(|indexed| &indexed.result).collect();
        let arrived = tokio::time::timeout_at(deadline.into(), sink.send(&outgoing)).await;
        // A result counts as delivered only if the sink confirmed it.
        let arrived = arrived
            .unwrap_or_default()
            .into_iter()
            .chain(std::iter::repeat(false));
        let failed = indexed.iter().zip(arrived).filter(|(_, arrived)| !arrived);
        failures.extend(failed.map(|(indexed, _)| (indexed.index, NOT_DELIVERED)));
        if source == EventSource::SqsFifo && !failures.is_empty() {
            break;
        }
    }
    failures
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartialBatchResponse<'a> {
    batch_item_failures: Vec<BatchItemFailure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure<'a> {
    item_identifier: &'a str,
}

fn report<'a>(reported: &[&'a Record]) -> PartialBatchResponse<'a> {
    let failures = reported.iter().map(|record| BatchItemFailure {
        item_identifier: &record.failure_id,
    });
    PartialBatchResponse {
        batch_item_failures: failures.collect(),
    }
}
