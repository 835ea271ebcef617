//! Events whose response is used: direct invocations, topics and buses (whose responses Lambda
//! sends to the function's destinations), pipes and Distributed Maps.

use super::record::Record;
use super::score::{RECORDS_PER_CHUNK, Verdict};
use super::source::{Batch, EventSource};
use super::{EventStats, Events, InvocationError};
use crate::batcher::RequestOptions;
use crate::http::{ApiError, Posts, parse_posts};
use crate::json::replace_halves;
use crate::platform::Platform;
use crate::wire::{BatchResults, ErrorBody, Scored};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

impl Events {
    /// Handles `{"text": ...}` and `{"texts": [...]}` like the same body over HTTP. An error
    /// there is an error here, with the code as its type.
    pub(super) async fn direct(
        &self,
        event: &str,
        platform: &Platform,
        stats: &mut EventStats,
    ) -> Result<Box<RawValue>, InvocationError> {
        let event = replace_halves(event);
        let (posts, named) = parse_posts(&event, self.app.limits().max_posts.get())?;
        let (posts, is_one) = match posts {
            Posts::One(post) => (vec![post], true),
            Posts::Many(posts) => (posts, false),
        };
        stats.records = posts.len();
        let options = RequestOptions {
            deadline: Some(self.deadline(platform.deadline)),
            post: named.into(),
        };
        let batcher = self.app.batcher();
        let scored = batcher.classify(posts, options).await;
        let mut scored = scored.map_err(ApiError::from)?;
        stats.scored(scored.results.len(), &scored.stages);
        let model = batcher.model();
        if is_one && let Some(result) = scored.results.pop() {
            let post = result.map_err(ApiError::from)?;
            return Ok(json(&Scored::alone(&post)));
        }
        Ok(json(&BatchResults::new(&scored.results, model)))
    }

    /// Returns a result for each record. A record that cannot be scored gets an error in its
    /// place; a temporary error fails the event, so that the sender retries it.
    pub(super) async fn results(
        &self,
        batch: Batch,
        platform: &Platform,
        stats: &mut EventStats,
    ) -> Result<Box<RawValue>, InvocationError> {
        let Batch {
            source,
            mut records,
        } = batch;
        let mut results = Vec::with_capacity(records.len());
        let mut bad = None;
        for records in records.chunks_mut(RECORDS_PER_CHUNK) {
            let verdicts = self.score(records, platform.deadline, stats).await;
            for (record, verdict) in records.iter().zip(&verdicts) {
                results.push(result_or_empty(record, verdict)?);
                if let Verdict::Bad(error) = verdict {
                    bad.get_or_insert(error.clone());
                    stats.failed += 1;
                }
            }
        }
        stats.failed_code = bad.as_ref().map(ErrorBody::code);
        match (source, bad) {
            // The sender of a list gets its errors with its results. For topics and buses,
            // failed events go to the on-failure destination, together with the event.
            (EventSource::Sns | EventSource::EventBridge, Some(error))
                if stats.failed == results.len() =>
            {
                Err(InvocationError::Rejected {
                    code: error.code(),
                    message: error.message().to_owned(),
                })
            }
            (EventSource::EventBridge, _) => {
                let only = results.pop();
                only.ok_or(InvocationError::UnknownEvent)
            }
            (EventSource::Sns, _) => Ok(json(&TopicResponse { results })),
            _ => Ok(json(&results)),
        }
    }
}

fn result_or_empty(record: &Record, verdict: &Verdict) -> Result<Box<RawValue>, InvocationError> {
    if let Verdict::Failed(code) = *verdict {
        let message = "not all posts could be scored; retry".to_owned();
        return Err(InvocationError::Rejected { code, message });
    }
    let result = verdict.result(record);
    // Deletions in a pipe's list keep their place.
    let result = result.unwrap_or_else(|| "{}".to_owned());
    Ok(RawValue::from_string(result).expect("a result is JSON"))
}

#[derive(Serialize)]
struct TopicResponse {
    results: Vec<Box<RawValue>>,
}

pub(super) fn json(response: &impl Serialize) -> Box<RawValue> {
    to_raw_value(response).expect("our own types are serializable")
}
