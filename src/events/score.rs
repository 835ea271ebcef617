//! Scores the posts of records, through the batcher like every post.

use super::record::Record;
use super::{EventStats, Events};
use crate::batcher::{BatchResponse, RequestOptions};
use crate::error::InferError;
use crate::http::ApiError;
use crate::wire::{ErrorBody, Scored};
use coldread_engine::PostError;
use coldread_engine::Sentiment;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What became of a record's post.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It has a sentiment.
    Scored(Sentiment),
    /// It has none, and never will.
    Bad(ErrorBody),
    /// There was nothing to score.
    Skipped,
    /// It may have one when it comes again.
    Failed(&'static str),
}

/// How many records are scored, and then delivered, at a time: what is done when time is
/// up stays done. Enough of them to fill batches for a machine's cores.
pub(super) const AT_A_TIME: usize = 100;

impl Events {
    /// A verdict for each record, in order. The posts are taken out of them.
    pub(super) async fn score(
        &self,
        records: &mut [Record],
        deadline: Option<Instant>,
        stats: &mut EventStats,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(records.len());
        let mut posts = Vec::new();
        for record in records {
            verdicts.push(match record.content.post.take() {
                None => Verdict::Skipped,
                Some(Err(error)) => Verdict::Bad(ErrorBody::new(error.code(), error.to_string())),
                Some(Ok(post)) => {
                    posts.push(post);
                    // Until it has another.
                    Verdict::Failed("internal")
                }
            });
        }
        let mut scored = self.classify(posts, deadline, stats).await.into_iter();
        for verdict in &mut verdicts {
            if matches!(verdict, Verdict::Failed(_))
                && let Some(of_post) = scored.next()
            {
                *verdict = of_post;
            }
        }
        verdicts
    }

    async fn classify(
        &self,
        posts: Vec<String>,
        deadline: Option<Instant>,
        stats: &mut EventStats,
    ) -> Vec<Verdict> {
        let count = posts.len();
        match self.ask(posts.clone(), deadline, stats).await {
            Ok(answer) => answer.results.into_iter().map(Verdict::from).collect(),
            // A post that breaks the engine fails its whole request. Its neighbours are
            // not to suffer for it.
            Err(InferError::Internal(cause)) if count > 1 => {
                tracing::error!(
                    cause,
                    posts = count,
                    "a batch of posts failed; retrying them one by one"
                );
                let mut verdicts = Vec::with_capacity(count);
                for post in posts {
                    let answer = self.ask(vec![post], deadline, stats).await;
                    let result = answer.map(|mut answer| answer.results.pop());
                    verdicts.push(match result {
                        Ok(Some(result)) => result.into(),
                        Ok(None) => Verdict::Failed("internal"),
                        Err(error) => Verdict::Failed(code_of(error)),
                    });
                }
                verdicts
            }
            Err(error) => {
                let code = code_of(error);
                (0..count).map(|_| Verdict::Failed(code)).collect()
            }
        }
    }

    async fn ask(
        &self,
        posts: Vec<String>,
        deadline: Option<Instant>,
        stats: &mut EventStats,
    ) -> Result<BatchResponse, InferError> {
        let terms = RequestOptions {
            deadline: Some(self.deadline(deadline)),
            ..RequestOptions::default()
        };
        let answer = self.app.batcher().classify(posts, terms).await?;
        stats.scored(answer.results.len(), &answer.stages);
        Ok(answer)
    }

    /// When posts that are scored from now on must be done.
    pub(super) fn deadline(&self, platform: Option<Instant>) -> Instant {
        let timeout = self.app.limits().request_timeout_ms.get();
        let longest = Instant::now() + Duration::from_millis(timeout);
        platform.map_or(longest, |platform| platform.min(longest))
    }

    /// A record's result as JSON, if it has one.
    pub(super) fn result(&self, record: &Record, verdict: &Verdict) -> Option<String> {
        let model = self.app.batcher().model();
        let what = match verdict {
            Verdict::Scored(sentiment) => {
                What::Scored(Scored::new(sentiment, &model.labels, Some(&model.name)))
            }
            Verdict::Bad(error) => What::Bad(error),
            Verdict::Skipped | Verdict::Failed(_) => return None,
        };
        let result = ResultBody {
            id: record.id.as_deref(),
            post_id: record.content.post_id.as_deref(),
            source: record.source.as_deref(),
            what,
        };
        Some(serde_json::to_string(&result).expect("our own results are serializable"))
    }
}

impl From<Result<Sentiment, PostError>> for Verdict {
    fn from(result: Result<Sentiment, PostError>) -> Self {
        match result {
            Ok(sentiment) => Self::Scored(sentiment),
            Err(error) => Self::Bad(ErrorBody::of_post(&error)),
        }
    }
}

/// The code of a failure that may pass, whose cause is logged if it is ours.
fn code_of(error: InferError) -> &'static str {
    let error = ApiError::from(error);
    if let ApiError::Internal { cause } = &error {
        tracing::error!(cause, "scoring a post failed");
    }
    ErrorBody::from_api_error(&error).code()
}

/// What a sink or a client gets of a record: whose it is, and what became of it.
#[derive(Serialize)]
struct ResultBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Scored(Scored<'a>),
    Bad(&'a ErrorBody),
}
