//! Other services' clients, answered in their own formats.
//!
//! Each format is a thin translation to and from the native types: the request goes the
//! same way as a native one (keys, limits, deadlines, batcher, metrics), so that a post
//! has the same scores whatever it came by. `docs/compat.md` says what differs from the
//! originals.
//!
//! | module | whose clients |
//! |---|---|
//! | [`huggingface`] | Hugging Face text-classification |
//! | [`comprehend`], [`sigv4`] | Amazon Comprehend, and its signatures |
//! | [`tei`] | Text Embeddings Inference's `/predict` |
//! | [`azure`] | Azure AI Language |
//! | [`google`] | Google Cloud Natural Language v2 |
//! | [`sagemaker`], [`vertex`] | containers on SageMaker and Vertex AI |
//! | [`inputs`], [`strict_json`], [`native_or`] | what they share: parsing bodies, each once |
//! | [`score`], [`error`] | and the way to scores, and errors |
//! | [`openapi`] | their routes in the description of the API |

mod azure;
mod comprehend;
mod error;
mod google;
mod huggingface;
mod inputs;
mod native_or;
mod openapi;
mod sagemaker;
mod score;
mod sigv4;
mod strict_json;
mod tei;
mod vertex;

#[cfg(test)]
pub(super) use openapi::Operations;
pub(super) use openapi::{describe, native_codes};

use super::api;
use super::error::ApiError;
use super::routes::{self, Template};
use super::state::AppState;
use super::trailing_slash::trimmed;
use crate::config::{Compat, Service};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

/// A route of another service's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Hugging Face's and Comprehend's, told apart by a header.
    Root,
    Models,
    Comprehend,
    Predict,
    Azure,
    Google,
    Ping,
    Invocations,
    VertexHealth,
    VertexPredict,
}

impl Route {
    /// Those that are below any prefix. The others' paths are their platforms' choice.
    const PREFIXED: [Self; 6] = [
        Self::Root,
        Self::Models,
        Self::Comprehend,
        Self::Predict,
        Self::Azure,
        Self::Google,
    ];

    /// By what metrics and logs know it: its path, where a configuration has no say.
    fn template(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Models => "/models/{*id}",
            Self::Comprehend => "/comprehend",
            Self::Predict => "/predict",
            Self::Azure => "/language/:analyze-text",
            Self::Google => "/v2/documents:analyzeSentiment",
            Self::Ping => "/ping",
            Self::Invocations => "/invocations",
            Self::VertexHealth => "AIP_HEALTH_ROUTE",
            Self::VertexPredict => "AIP_PREDICT_ROUTE",
        }
    }

    /// Whether a platform that wants to know of health asks for it.
    fn is_health(self) -> bool {
        matches!(self, Self::Ping | Self::VertexHealth)
    }

    fn is_spoken(self, compat: &Compat) -> bool {
        match self {
            Self::Root => [Self::Models, Self::Comprehend]
                .iter()
                .any(|it| it.is_spoken(compat)),
            Self::Models => compat.speaks(Service::HuggingFace),
            Self::Comprehend => compat.speaks(Service::Comprehend),
            Self::Predict => compat.speaks(Service::Tei),
            Self::Azure => compat.speaks(Service::Azure),
            Self::Google => compat.speaks(Service::Google),
            Self::Ping | Self::Invocations => compat.speaks(Service::SageMaker),
            Self::VertexHealth => compat.vertex_health.is_some(),
            Self::VertexPredict => compat.vertex_predict.is_some(),
        }
    }

    fn handler(self) -> MethodRouter<AppState> {
        match self {
            Self::Root => post(root),
            Self::Models => post(huggingface::classify),
            Self::Comprehend => post(comprehend::call),
            Self::Predict => post(tei::predict),
            Self::Azure => post(azure::analyze),
            Self::Google => post(google::analyze),
            Self::Ping | Self::VertexHealth => get(api::readyz),
            Self::Invocations => post(sagemaker::invocations),
            Self::VertexPredict => post(vertex::predict),
        }
    }
}

/// The paths that the formats that are spoken ask for. Those who come first keep them.
fn wanted(compat: &Compat) -> Vec<(String, Route)> {
    let mut wanted = Vec::new();
    // The operator names these paths one by one, so they come first.
    let named = [
        (&compat.vertex_health, Route::VertexHealth),
        (&compat.vertex_predict, Route::VertexPredict),
    ];
    for (path, route) in named {
        wanted.extend(
            path.as_deref()
                .map(|path| (trimmed(path).to_owned(), route)),
        );
    }
    for route in [Route::Ping, Route::Invocations] {
        wanted.push((route.template().to_owned(), route));
    }
    for route in Route::PREFIXED {
        let path = format!("{}{}", compat.prefix, route.template());
        wanted.push((trimmed(&path).to_owned(), route));
    }
    wanted.retain(|(_, route)| route.is_spoken(compat));
    wanted
}

/// Where the formats that are spoken are answered. A path that a platform's variable or
/// the prefix moves onto one of the service's own, or onto another format's, keeps the
/// meaning that it has.
fn places(compat: &Compat) -> Vec<(String, Route)> {
    let mut places: Vec<(String, Route)> = Vec::new();
    for (path, route) in wanted(compat) {
        // What is posted to the page is for others to read.
        let is_native = routes::NATIVE.contains(&path.as_str());
        let is_native = is_native && (path != "/" || route.is_health());
        let is_taken = places.iter().any(|(taken, by)| {
            let is_vertex = (*by, route) == (Route::VertexHealth, Route::VertexPredict);
            *taken == path && !is_vertex
        });
        if !is_native && !is_taken {
            places.push((path, route));
        }
    }
    places
}

/// The routes of all formats that are spoken. They check keys themselves, for each
/// format has its own way to reject.
pub(super) fn routes(compat: &Compat) -> Router<AppState> {
    let places = places(compat);
    for (path, _) in wanted(compat).iter().filter(|it| !places.contains(it)) {
        tracing::warn!(
            path,
            "this path has another meaning already, which it keeps"
        );
    }
    // For `:analyze-text`, which axum would take for a slip.
    let router = Router::new().without_v07_checks();
    places.into_iter().fold(router, |router, (path, route)| {
        router.route(&path, route.handler())
    })
}

/// What metrics and logs call the routes of all formats that are spoken.
pub(super) fn templates(compat: &Compat) -> impl Iterator<Item = (String, Template)> {
    places(compat).into_iter().map(|(path, route)| {
        let (name, is_health) = (route.template(), route.is_health());
        (path, Template { name, is_health })
    })
}

/// `POST /`: an AWS client names its operation in a header; who does not is Hugging Face's.
async fn root(State(app): State<AppState>, request: Request) -> Response {
    let compat = &app.0.compat;
    let is_aws = request.headers().contains_key(comprehend::TARGET);
    if is_aws && compat.speaks(Service::Comprehend) {
        return comprehend::call(State(app), request).await;
    }
    if compat.speaks(Service::HuggingFace) {
        return huggingface::classify(State(app), request).await;
    }
    ApiError::UnknownRoute.into_response()
}
