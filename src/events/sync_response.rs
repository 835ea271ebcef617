//! Events whose sender reads the response: direct invocations, topics and buses (whose
//! results go to the function's destinations), pipes and Distributed Maps.

use super::record::Record;
use super::score::{AT_A_TIME, Verdict};
use super::source::{Batch, Source};
use super::{EventStats, Events, InvocationError};
use crate::batcher::RequestOptions;
use crate::http::{ApiError, Posts, parse_posts};
use crate::json::replace_halves;
use crate::platform::Platform;
use crate::wire::{ErrorBody, Many, Scored};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

impl Events {
    /// `{"text": ...}` or `{"texts": [...]}`: what the same body gets over HTTP. What
    /// is an error there is one here, with the same code as its type.
    pub(super) async fn direct(
        &self,
        event: &str,
        platform: &Platform,
        stats: &mut EventStats,
    ) -> Result<Box<RawValue>, InvocationError> {
        let event = replace_halves(event);
        let (posts, long_text) = parse_posts(&event, self.app.limits().max_posts.get())?;
        let (posts, is_one) = match posts {
            Posts::One(post) => (vec![post], true),
            Posts::Many(posts) => (posts, false),
        };
        stats.records = posts.len();
        let terms = RequestOptions {
            deadline: Some(self.deadline(platform.deadline)),
            long_text: long_text.unwrap_or_default(),
        };
        let batcher = self.app.batcher();
        let answer = batcher.classify(posts, terms).await;
        let mut answer = answer.map_err(ApiError::from)?;
        stats.scored(answer.results.len(), &answer.stages);
        let model = batcher.model();
        if is_one && let Some(result) = answer.results.pop() {
            let sentiment = result.map_err(ApiError::from)?;
            return Ok(json(&Scored::new(
                &sentiment,
                &model.labels,
                Some(&model.name),
            )));
        }
        Ok(json(&Many::new(&answer.results, model)))
    }

    /// A result for each record. Records that cannot be scored have an error in their
    /// place; a temporary failure fails the event, so that the sender retries it.
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
        for records in records.chunks_mut(AT_A_TIME) {
            let verdicts = self.score(records, platform.deadline, stats).await;
            for (record, verdict) in records.iter().zip(&verdicts) {
                results.push(self.in_place(record, verdict)?);
                if let Verdict::Bad(error) = verdict {
                    bad.get_or_insert(error.clone());
                    stats.failed += 1;
                }
            }
        }
        stats.failed_code = bad.as_ref().map(ErrorBody::code);
        match (source, bad) {
            // A list's errors go where its results go. Topics and buses have another
            // destination for what failed, and it gets the event with it.
            (Source::Sns | Source::EventBridge, Some(error)) if stats.failed == results.len() => {
                Err(InvocationError::Refused {
                    code: error.code(),
                    message: error.message().to_owned(),
                })
            }
            (Source::EventBridge, _) => {
                let only = results.pop();
                only.ok_or(InvocationError::UnknownEvent)
            }
            (Source::Sns, _) => Ok(json(&Results { results })),
            _ => Ok(json(&results)),
        }
    }

    fn in_place(
        &self,
        record: &Record,
        verdict: &Verdict,
    ) -> Result<Box<RawValue>, InvocationError> {
        if let Verdict::Failed(code) = *verdict {
            let message = "not all posts could be scored; retry".to_owned();
            return Err(InvocationError::Refused { code, message });
        }
        let result = self.result(record, verdict);
        // A deletion in a pipe's list has its place, too.
        let result = result.unwrap_or_else(|| "{}".to_owned());
        Ok(RawValue::from_string(result).expect("a result is JSON"))
    }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Box<RawValue>>,
}

pub(super) fn json(answer: &impl Serialize) -> Box<RawValue> {
    to_raw_value(answer).expect("our own answers are serializable")
}
