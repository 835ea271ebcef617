//! Bodies of the routes that accept both another service's format and the native one.

use super::error::CompatError;
use super::inputs::{self, Inputs};
use crate::http::body::Media;
use crate::http::buffered_request::BufferedRequest;
use crate::http::options::NamedOptions;
use crate::http::posts::{self, Posts};
use crate::http::state::AppState;
use crate::http::{access, api};
use axum::extract::{Request, State};
use axum::response::Response;
use serde::de::DeserializeOwned;

/// The response to a native body, or a body in the other format.
pub(super) enum NativeOr<T> {
    Native(Response),
    Format(Box<BufferedRequest>, Inputs, T),
}

enum Parsed<T> {
    Native(Posts, NamedOptions),
    Format(Inputs, T),
}

impl<T: DeserializeOwned> NativeOr<T> {
    /// Checks the client's key, reads the body, and parses it as the other format if it has
    /// `key`, else as a native body.
    pub(super) async fn receive(
        app: &AppState,
        request: Request,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Self, CompatError> {
        access::check(app, &request)?;
        let media = Media::from_headers(request.headers())?;
        let is_rows = api::row_formats(app, &request, media)?.is_some();
        if media != Media::Json || is_rows {
            let response = api::sentiment(State(app.clone()), request).await?;
            return Ok(Self::Native(response));
        }
        let options = NamedOptions::from_query(request.uri().query());
        let mut request = BufferedRequest::read(app, request).await?;
        let max_posts = request.max_posts();
        let parsed = request.parse_json(|json| {
            let format = inputs::parse_unless_native(json, key, max_posts, expected)?;
            Ok::<_, CompatError>(match format {
                Some((inputs, rest)) => Parsed::Format(inputs, rest),
                None => {
                    let (posts, options) = posts::parse(json, max_posts)?;
                    Parsed::Native(posts, options)
                }
            })
        })?;
        match parsed {
            Parsed::Format(inputs, rest) => Ok(Self::Format(Box::new(request), inputs, rest)),
            Parsed::Native(posts, in_body) => {
                let options = in_body.or(options?);
                let response = api::respond(&request, posts, options).await?;
                Ok(Self::Native(response))
            }
        }
    }
}
