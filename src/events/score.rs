//! Scores the posts of records through the batcher, like all posts.

use super::record::Record;
use super::{EventStats, Events};
use crate::batcher::{RequestOptions, ScoredPosts};
use crate::error::InferError;
use crate::http::ApiError;
use crate::scorer::{PostResult, ScoredPost};
use crate::wire::{ErrorBody, Scored};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The outcome of a record's post.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was scored.
    Scored(ScoredPost),
    /// It can never be scored.
    Bad(ErrorBody),
    /// There was nothing to score.
    Skipped,
    /// It was not scored, but may be when retried.
    Failed(&'static str),
}

/// How many records are scored and then delivered together. If time runs out, earlier chunks stay
/// done. Large enough to fill batches for all cores.
pub(super) const RECORDS_PER_CHUNK: usize = 100;

impl Events {
    /// Returns a verdict for each record, in order. The posts are moved out of the records.
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
                    // Replaced below by its result.
                    Verdict::Failed("internal")
                }
            });
        }
        let mut scored = self.classify(posts, deadline, stats).await.into_iter();
        for verdict in &mut verdicts {
            if matches!(verdict, Verdict::Failed(_))
                && let Some(result) = scored.next()
            {
                *verdict = result;
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
        match self.classify_once(posts.clone(), deadline, stats).await {
            Ok(scored) => scored.results.into_iter().map(Verdict::from).collect(),
            // A post on which the engine fails makes its whole request fail, so the others are
            // retried without it.
            Err(InferError::Internal(cause)) if count > 1 => {
                tracing::error!(
                    cause,
                    posts = count,
                    "a batch of posts failed; retrying them one by one"
                );
                let mut verdicts = Vec::with_capacity(count);
                for post in posts {
                    let scored = self.classify_once(vec![post], deadline, stats).await;
                    let result = scored.map(|mut scored| scored.results.pop());
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

    async fn classify_once(
        &self,
        posts: Vec<String>,
        deadline: Option<Instant>,
        stats: &mut EventStats,
    ) -> Result<ScoredPosts, InferError> {
        let options = RequestOptions {
            deadline: Some(self.deadline(deadline)),
            ..RequestOptions::default()
        };
        let scored = self.app.batcher().classify(posts, options).await?;
        stats.scored(scored.results.len(), &scored.stages);
        Ok(scored)
    }

    /// The deadline of posts that are sent to the batcher now.
    pub(super) fn deadline(&self, platform: Option<Instant>) -> Instant {
        let timeout = self.app.limits().request_timeout_ms.get();
        let longest = Instant::now() + Duration::from_millis(timeout);
        platform.map_or(longest, |platform| platform.min(longest))
    }
}

impl Verdict {
    /// A record's result as JSON, if it has one.
    pub(super) fn result(&self, record: &Record) -> Option<String> {
        let outcome = match self {
            Self::Scored(post) => Outcome::Scored(Scored::alone(post)),
            Self::Bad(error) => Outcome::Bad(error),
            Self::Skipped | Self::Failed(_) => return None,
        };
        let result = ResultBody {
            id: record.id.as_deref(),
            post_id: record.content.post_id.as_deref(),
            source: record.source.as_deref(),
            outcome,
        };
        Some(serde_json::to_string(&result).expect("our own results are serializable"))
    }
}

impl From<PostResult> for Verdict {
    fn from(result: PostResult) -> Self {
        match result {
            Ok(post) => Self::Scored(post),
            Err(error) => Self::Bad(ErrorBody::from_post_error(&error)),
        }
    }
}

/// The code of a temporary error; the cause of an internal one is logged.
fn code_of(error: InferError) -> &'static str {
    let error = ApiError::from(error);
    if let ApiError::Internal { cause } = &error {
        tracing::error!(cause, "scoring a post failed");
    }
    ErrorBody::from_api_error(&error).code()
}

/// The result of a record, for a sink or the sender: its ids, and its scores or error.
#[derive(Serialize)]
struct ResultBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Scored(Scored<'a>),
    Bad(&'a ErrorBody),
}
