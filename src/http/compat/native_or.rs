//! Bodies of the routes that take another service's format and native ones alike.

use super::error::CompatFailure;
use super::inputs::{self, Inputs};
use crate::http::body::Media;
use crate::http::buffered_request::BufferedRequest;
use crate::http::posts::{self, Posts};
use crate::http::state::AppState;
use crate::http::{access, api};
use axum::extract::{Request, State};
use axum::response::Response;
use coldread_engine::LongText;
use serde::de::DeserializeOwned;

/// A native body, by its response, or a body of the format.
pub(super) enum NativeOr<T> {
    Native(Response),
    Format(Box<BufferedRequest>, Inputs, T),
}

enum Parsed<T> {
    Native(Posts, Option<LongText>),
    Format(Inputs, T),
}

impl<T: DeserializeOwned> NativeOr<T> {
    /// Checks the client's key, reads the body, and parses what has `key` as the format and
    /// any other body as a native one.
    pub(super) async fn receive(
        app: &AppState,
        request: Request,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Self, CompatFailure> {
        access::check(app, &request)?;
        let media = Media::from_headers(request.headers())?;
        let is_rows = api::row_formats(app, &request, media)?.is_some();
        if media != Media::Json || is_rows {
            let response = api::sentiment(State(app.clone()), request).await?;
            return Ok(Self::Native(response));
        }
        let long_text = api::long_text_in_query(request.uri().query());
        let mut request = BufferedRequest::read(app, request).await?;
        let max_posts = request.max_posts();
        let parsed = request.parse_json(|json| {
            let format = inputs::parse_unless_native(json, key, max_posts, expected)?;
            Ok::<_, CompatFailure>(match format {
                Some((inputs, rest)) => Parsed::Format(inputs, rest),
                None => {
                    let (posts, long_text) = posts::parse(json, max_posts)?;
                    Parsed::Native(posts, long_text)
                }
            })
        })?;
        match parsed {
            Parsed::Format(inputs, rest) => Ok(Self::Format(Box::new(request), inputs, rest)),
            Parsed::Native(posts, in_body) => {
                let long_text = in_body.or(long_text?);
                let response = api::respond(&request, posts, long_text).await?;
                Ok(Self::Native(response))
            }
        }
    }
}
