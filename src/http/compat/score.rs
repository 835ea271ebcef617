//! Scores a format's texts. A text that cannot be scored gets an error in its place.

use super::error::{CompatError, FormatError};
use crate::batcher::Post;
use crate::error::PostRejection;
use crate::http::buffered_request::BufferedRequest;
use crate::scorer::{PostOptions, PostResult, ScoredPost};
use crate::telemetry::StageTimings;
use coldread_engine::Sentiment;
use coldread_engine::polarity::Polarities;

/// The sentiments or errors of a request's items, in their order.
pub(super) struct ScoredItems<E> {
    pub(super) items: Vec<Result<ScoredPost, E>>,
    pub(super) stages: StageTimings,
}

/// Scores the items that can be scored. The others keep their error.
pub(super) async fn score_each<E: From<PostRejection>>(
    request: &BufferedRequest,
    items: Vec<Result<impl Into<Post>, E>>,
    options: PostOptions,
) -> Result<ScoredItems<E>, CompatError> {
    let mut posts: Vec<Post> = Vec::with_capacity(items.len());
    let mut errors = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Ok(post) => {
                posts.push(post.into());
                errors.push(None);
            }
            Err(error) => errors.push(Some(error)),
        }
    }
    let scored = request.score(posts, options).await?;
    let mut results = scored.results.into_iter();
    let result_or_error = |error: Option<E>| match error {
        Some(error) => Err(error),
        None => {
            let result = results.next().expect("one result per post");
            result.map_err(E::from)
        }
    };
    Ok(ScoredItems {
        items: errors.into_iter().map(result_or_error).collect(),
        stages: scored.stages,
    })
}

/// Scores one post.
pub(super) async fn score_one(
    request: &BufferedRequest,
    post: String,
    options: PostOptions,
) -> Result<(ScoredPost, StageTimings), CompatError> {
    let scored = score_each::<PostRejection>(request, vec![Ok(post)], options).await?;
    let mut items = scored.items;
    let scored_post = items.pop().expect("one result per post")?;
    Ok((scored_post, scored.stages))
}

/// The polarities of the model's labels.
pub(super) fn polarities(request: &BufferedRequest) -> Result<&Polarities, CompatError> {
    let polarities = request.app().0.polarities.as_ref();
    Ok(polarities.ok_or(FormatError::NoPolarity)?)
}

/// The sentiments of all posts of a batch, or the first error, for formats whose responses have no
/// errors of single items.
pub(super) fn all_or_error(results: &[PostResult]) -> Result<Vec<&Sentiment>, CompatError> {
    let mut sentiments = Vec::with_capacity(results.len());
    for (index, result) in results.iter().enumerate() {
        let error = |error: &PostRejection| FormatError::Item {
            index,
            error: error.clone(),
        };
        sentiments.push(&result.as_ref().map_err(error)?.sentiment);
    }
    Ok(sentiments)
}
