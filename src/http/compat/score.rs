//! From a format's texts to sentiments, with a fault in the place of each that has none.

use super::error::{CompatError, CompatFailure};
use crate::http::buffered_request::BufferedRequest;
use crate::telemetry::StageTimings;
use coldread_engine::polarity::Polarities;
use coldread_engine::{LongText, PostError, PostResult, Sentiment};

/// Items with their sentiments or faults, in the request's order.
pub(super) struct ScoredItems<E> {
    pub(super) items: Vec<Result<Sentiment, E>>,
    pub(super) stages: StageTimings,
}

/// Scores those of several items that can be. The others keep their fault, in their place.
pub(super) async fn score_each<E: From<PostError>>(
    request: &BufferedRequest,
    items: Vec<Result<String, E>>,
) -> Result<ScoredItems<E>, CompatFailure> {
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
    let response = request.score(posts, LongText::default()).await?;
    let mut results = response.results.into_iter();
    let place = |fault: Option<E>| match fault {
        Some(fault) => Err(fault),
        None => {
            let result = results.next().expect("a result a post");
            result.map_err(E::from)
        }
    };
    Ok(ScoredItems {
        items: faults.into_iter().map(place).collect(),
        stages: response.stages,
    })
}

/// Scores one post.
pub(super) async fn score_one(
    request: &BufferedRequest,
    post: String,
) -> Result<(Sentiment, StageTimings), CompatFailure> {
    let scored = score_each::<PostError>(request, vec![Ok(post)]).await?;
    let mut items = scored.items;
    let sentiment = items.pop().expect("a result a post")?;
    Ok((sentiment, scored.stages))
}

/// The sides of the model's labels.
pub(super) fn polarities(request: &BufferedRequest) -> Result<&Polarities, CompatFailure> {
    let sides = request.app().0.polarities.as_ref();
    Ok(sides.ok_or(CompatError::NoPolarity)?)
}

/// The sentiments of a batch that has one response: the first post without a sentiment
/// fails it.
pub(super) fn whole(results: &[PostResult]) -> Result<Vec<&Sentiment>, CompatFailure> {
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
