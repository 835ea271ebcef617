//! A call's way from request to scores and back: the native one, without its JSON.

use super::inputs;
use super::sigv4::SignatureError;
use crate::batcher::{BatchResponse, RequestOptions};
use crate::http::body::{self, Media};
use crate::http::deadline::Arrival;
use crate::http::decode::Decoder;
use crate::http::error::{ApiError, post_status};
use crate::http::memory_limit::MemoryPermit;
use crate::http::request_telemetry::{RequestId, ScoringStats};
use crate::http::{AppState, access, deadline};
use crate::json::replace_halves_in_body;
use crate::telemetry::StageTimings;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use coldread_engine::PostError;
use coldread_engine::polarity::Polarities;
use coldread_engine::{LongText, PostResult, Sentiment};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Faults that only other services' requests can have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompatError {
    /// Not what the format's requests look like.
    #[error("{0}")]
    Request(&'static str),
    #[error(
        "this operation is not implemented; DetectSentiment, DetectDominantLanguage and their \
         batch forms are"
    )]
    UnknownOperation,
    #[error("this language code is not one of the format's")]
    UnsupportedLanguage,
    #[error(
        "Input text size exceeds limit. Max length of request text allowed is {max_bytes} bytes \
         while in this request the text size is {bytes} bytes"
    )]
    TextTooLong { bytes: usize, max_bytes: usize },
    #[error("the batch has more than {max} items; split it")]
    BatchTooLarge { max: usize },
    #[error("the batch is empty; send at least one item")]
    EmptyBatch,
    #[error("the text is empty; send at least one visible character")]
    EmptyText,
    #[error("item {index}: {error}")]
    Item { index: usize, error: PostError },
    #[error(
        "this model's labels are not negative, neutral and positive, nor stars; ask for them by \
         POST /v1/sentiment"
    )]
    NoPolarity,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl CompatError {
    /// Their part of the table of errors.
    pub(in crate::http) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::UnknownOperation => (StatusCode::BAD_REQUEST, "unknown_operation"),
            Self::UnsupportedLanguage => (StatusCode::BAD_REQUEST, "unsupported_language"),
            Self::TextTooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "text_too_long"),
            Self::BatchTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_posts"),
            Self::EmptyBatch => (StatusCode::UNPROCESSABLE_ENTITY, "no_texts"),
            Self::EmptyText => (StatusCode::UNPROCESSABLE_ENTITY, "empty_text"),
            Self::Item { error, .. } => (post_status(error), error.code()),
            Self::NoPolarity => (StatusCode::UNPROCESSABLE_ENTITY, "no_polarity"),
            Self::Signature(_) => (StatusCode::UNAUTHORIZED, "invalid_signature"),
        }
    }
}

/// A request that was let in and read.
pub(super) struct Call {
    app: AppState,
    pub(super) parts: Parts,
    /// As it came, which is what a client signs.
    pub(super) body: Bytes,
    /// The same as JSON that can be read.
    json: Bytes,
    arrival: Instant,
    deadline: Instant,
    /// Held until the answer is there: the posts are as long as the body they came in.
    _share: MemoryPermit,
}

impl Call {
    /// Looks at the keys, then reads.
    pub(super) async fn receive(app: &AppState, request: Request) -> Result<Self, ApiError> {
        access::check(app, &request)?;
        Self::read(app, request).await
    }

    /// Reads the body within the limits, unless there is no room for its posts. Whoever
    /// calls this has looked at the keys.
    pub(super) async fn read(app: &AppState, request: Request) -> Result<Self, ApiError> {
        let arrival = deadline::arrival(request.extensions());
        let limits = app.limits();
        let decoder = Decoder::of(request.headers())?;
        let asked = deadline::asked(request.headers(), request.extensions(), arrival)?;
        app.batcher().check_room()?;
        let longest = arrival + Duration::from_millis(limits.request_timeout_ms.get());
        let deadline = asked.map_or(longest, |asked| asked.min(longest));
        let mut share = app.0.memory.permit();
        let timeout = Duration::from_millis(limits.body_timeout_ms.get());
        let max_bytes = limits.max_body_bytes.get();
        let (parts, body) = request.into_parts();
        let read = body::read(body, decoder, max_bytes, timeout, &mut share);
        let body = deadline::within(deadline, read).await?;
        Ok(Self {
            app: app.clone(),
            parts,
            json: replace_halves_in_body(body.clone()),
            body,
            arrival,
            deadline,
            _share: share,
        })
    }

    /// The body, which has to be text.
    pub(super) fn text(&self) -> Result<&str, ApiError> {
        body::utf8(&self.json)
    }

    /// The most posts that one request may have.
    pub(super) fn max_posts(&self) -> usize {
        self.app.limits().max_posts.get()
    }

    /// The model's labels by index.
    pub(super) fn labels(&self) -> &[String] {
        &self.app.batcher().model().labels
    }

    /// What the model is called.
    pub(super) fn model(&self) -> &str {
        &self.app.batcher().model().name
    }

    /// The sides of the model's labels.
    pub(super) fn polarities(&self) -> Result<&Polarities, ApiError> {
        let sides = self.app.0.polarities.as_ref();
        Ok(sides.ok_or(CompatError::NoPolarity)?)
    }

    /// Has posts scored.
    pub(super) async fn score(
        &self,
        posts: Vec<String>,
        long_text: LongText,
    ) -> Result<BatchResponse, ApiError> {
        let terms = RequestOptions {
            deadline: Some(self.deadline),
            long_text,
        };
        Ok(self.app.batcher().classify(posts, terms).await?)
    }

    /// Has those of several items scored that can be. The others keep their fault, in
    /// their place.
    pub(super) async fn score_each<E: From<PostError>>(
        &self,
        items: Vec<Result<String, E>>,
    ) -> Result<Scored<E>, ApiError> {
        let mut posts = Vec::with_capacity(items.len());
        let mut faults = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Ok(post) => {
                    posts.push(post);
                    faults.push(None);
                }
                Err(fault) => faults.push(Some(fault)),
            }
        }
        let answer = self.score(posts, LongText::default()).await?;
        let mut results = answer.results.into_iter();
        let place = |fault: Option<E>| match fault {
            Some(fault) => Err(fault),
            None => {
                let result = results.next().expect("a result a post");
                result.map_err(E::from)
            }
        };
        Ok(Scored {
            items: faults.into_iter().map(place).collect(),
            stages: answer.stages,
        })
    }

    /// Has one post scored.
    pub(super) async fn score_one(
        &self,
        post: String,
    ) -> Result<(Sentiment, StageTimings), ApiError> {
        let scored = self.score_each::<PostError>(vec![Ok(post)]).await?;
        let mut items = scored.items;
        let sentiment = items.pop().expect("a result a post")?;
        Ok((sentiment, scored.stages))
    }
}

/// What came to a route that takes bodies of its own and native ones alike.
pub(super) enum Received {
    /// A body with the key that tells it apart.
    Ours(Call),
    /// Any other, as it came.
    Native(Request),
}

impl Received {
    /// Looks at the keys, then whether the body is JSON that has `key`.
    pub(super) async fn of(
        app: &AppState,
        request: Request,
        key: &'static str,
    ) -> Result<Self, ApiError> {
        access::check(app, &request)?;
        if Media::from_headers(request.headers())? != Media::Json {
            return Ok(Self::Native(request));
        }
        let call = Call::read(app, request).await?;
        if inputs::has(call.text()?, key) {
            return Ok(Self::Ours(call));
        }
        let Call {
            mut parts,
            body,
            arrival,
            ..
        } = call;
        parts.extensions.insert(Arrival(arrival));
        // It has been decoded.
        parts.headers.remove(CONTENT_ENCODING);
        parts.headers.remove(CONTENT_LENGTH);
        Ok(Self::Native(Request::from_parts(parts, Body::from(body))))
    }
}

/// Items with their sentiments or faults, in the request's order.
pub(super) struct Scored<E> {
    pub(super) items: Vec<Result<Sentiment, E>>,
    pub(super) stages: StageTimings,
}

/// The sentiments of a batch that is answered as a whole: the first post that has none
/// refuses it.
pub(super) fn whole(results: &[PostResult]) -> Result<Vec<&Sentiment>, ApiError> {
    let mut sentiments = Vec::with_capacity(results.len());
    for (index, result) in results.iter().enumerate() {
        let error = |error: &PostError| CompatError::Item {
            index,
            error: error.clone(),
        };
        sentiments.push(result.as_ref().map_err(error)?);
    }
    Ok(sentiments)
}

/// Tells those who count and log what was done.
pub(super) fn done(mut response: Response, posts: usize, stages: StageTimings) -> Response {
    response
        .extensions_mut()
        .insert(ScoringStats { posts, stages });
    response
}

/// An error as the native table has it (logged, counted, with its `Retry-After`), but with
/// another status and body.
pub(super) fn refuse(error: ApiError, status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = error.into_response();
    *response.status_mut() = status;
    let bytes = serde_json::to_vec(body).expect("our own answers are serializable");
    *response.body_mut() = bytes.into();
    response
}

/// Repeats the request's id under the name that a client looks for it by.
pub(super) fn with_id(
    mut response: Response,
    name: &'static str,
    id: Option<RequestId>,
) -> Response {
    if let Some(RequestId(id)) = id
        && let Ok(id) = HeaderValue::try_from(id)
    {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, id);
    }
    response
}
