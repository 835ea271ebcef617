//! Serves other services' clients in their own formats.
//!
//! Each format is a thin translation to and from the native types. Its requests take the same
//! path as native ones (keys, limits, deadlines, batcher, metrics), so that a post has the same
//! scores in every format. `docs/compat.md` lists the differences from the originals.
//!
//! | module | clients or purpose |
//! |---|---|
//! | [`huggingface`] | Hugging Face text-classification |
//! | [`comprehend`], [`sigv4`] | Amazon Comprehend, and its signatures |
//! | [`tei`] | Text Embeddings Inference's `/predict`, `/health` and `/info` |
//! | [`azure`] | Azure AI Language, and its predecessor Text Analytics |
//! | [`google`] | Google Cloud Natural Language v1 and v2 |
//! | [`sagemaker`], [`vertex`] | containers on SageMaker and Vertex AI |
//! | [`inputs`], [`strict_json`], [`native_or`] | shared: parsing bodies |
//! | [`score`], [`error`] | shared: scoring and errors |
//! | [`description`], `openapi` | their part of the OpenAPI document |

mod azure;
mod comprehend;
mod description;
mod error;
mod google;
mod huggingface;
mod inputs;
mod native_or;
#[cfg(test)]
mod openapi;
mod sagemaker;
mod score;
mod sigv4;
mod strict_json;
mod tei;
mod vertex;

pub(super) use description::{adapt, max_comprehend_bytes};
#[cfg(test)]
pub(super) use openapi::{Operations, add_formats, native_codes};

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
    /// Shared by Hugging Face and Comprehend, which are told apart by a header.
    Root,
    Models,
    Comprehend,
    Predict,
    TeiHealth,
    TeiInfo,
    Azure,
    /// Versions 3.1 and 3.0.
    AzureV3,
    Google,
    GoogleV1,
    Ping,
    Invocations,
    VertexHealth,
    VertexPredict,
}

impl Route {
    /// The routes below the prefix. The paths of the others are prescribed by their platforms.
    const PREFIXED: [Self; 10] = [
        Self::Root,
        Self::Models,
        Self::Comprehend,
        Self::Predict,
        Self::TeiHealth,
        Self::TeiInfo,
        Self::Azure,
        Self::AzureV3,
        Self::Google,
        Self::GoogleV1,
    ];

    /// Its name in metrics and logs: its path, or a placeholder where there are several.
    fn template(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Models => "/models/{*id}",
            Self::Comprehend => "/comprehend",
            Self::Predict => "/predict",
            Self::TeiHealth => "/health",
            Self::TeiInfo => "/info",
            Self::Azure => "/language/:analyze-text",
            Self::AzureV3 => "/text/analytics/{version}/sentiment",
            Self::Google => "/v2/documents:analyzeSentiment",
            Self::GoogleV1 => "/v1/documents:analyzeSentiment",
            Self::Ping => "/ping",
            Self::Invocations => "/invocations",
            Self::VertexHealth => "AIP_HEALTH_ROUTE",
            Self::VertexPredict => "AIP_PREDICT_ROUTE",
        }
    }

    /// Whether it is a health check.
    fn is_health(self) -> bool {
        matches!(self, Self::Ping | Self::TeiHealth | Self::VertexHealth)
    }

    /// Its method, as OpenAPI writes it.
    fn method(self) -> &'static str {
        if self.is_health() || self == Self::TeiInfo {
            "get"
        } else {
            "post"
        }
    }

    fn is_served(self, compat: &Compat) -> bool {
        match self {
            Self::Root => [Self::Models, Self::Comprehend]
                .iter()
                .any(|it| it.is_served(compat)),
            Self::Models => compat.serves(Service::HuggingFace),
            Self::Comprehend => compat.serves(Service::Comprehend),
            Self::Predict | Self::TeiHealth | Self::TeiInfo => compat.serves(Service::Tei),
            Self::Azure | Self::AzureV3 => compat.serves(Service::Azure),
            Self::Google | Self::GoogleV1 => compat.serves(Service::Google),
            Self::Ping | Self::Invocations => compat.serves(Service::SageMaker),
            Self::VertexHealth => compat.vertex_health.is_some(),
            Self::VertexPredict => compat.vertex_predict.is_some(),
        }
    }

    fn handler(self) -> MethodRouter<AppState> {
        match self {
            Self::Root => post(root),
            Self::Models => post(huggingface::classify),
            Self::Comprehend => post(comprehend::handle),
            Self::Predict => post(tei::predict),
            Self::TeiHealth => get(tei::health),
            Self::TeiInfo => get(tei::info),
            Self::Azure => post(azure::analyze),
            Self::AzureV3 => post(azure::sentiment),
            Self::Google => post(google::analyze),
            Self::GoogleV1 => post(google::analyze_v1),
            Self::Ping | Self::VertexHealth => get(api::readyz),
            Self::Invocations => post(sagemaker::invocations),
            Self::VertexPredict => post(vertex::predict),
        }
    }
}

/// The paths that the enabled formats would use. On a conflict the first keeps the path.
fn candidates(compat: &Compat) -> Vec<(String, Route)> {
    let mut candidates = Vec::new();
    // The operator names these paths one by one, so they come first.
    let named = [
        (&compat.vertex_health, Route::VertexHealth),
        (&compat.vertex_predict, Route::VertexPredict),
    ];
    for (path, route) in named {
        candidates.extend(
            path.as_deref()
                .map(|path| (trimmed(path).to_owned(), route)),
        );
    }
    for route in [Route::Ping, Route::Invocations] {
        candidates.push((route.template().to_owned(), route));
    }
    for route in Route::PREFIXED {
        let versions: &[&str] = match route {
            Route::AzureV3 => &["v3.1", "v3.0"],
            _ => &[""],
        };
        for version in versions {
            let path = route.template().replace("{version}", version);
            let path = format!("{}{path}", compat.prefix);
            candidates.push((trimmed(&path).to_owned(), route));
        }
    }
    candidates.retain(|(_, route)| route.is_served(compat));
    candidates
}

/// The paths and routes of the enabled formats. If a prefix or a platform's variable gives a
/// route the path of a native route or of another format's, that path keeps its meaning.
fn route_table(compat: &Compat) -> Vec<(String, Route)> {
    let mut route_table: Vec<(String, Route)> = Vec::new();
    for (path, route) in candidates(compat) {
        // `GET /` is the web page, but `POST /` is free.
        let is_native = routes::NATIVE.contains(&path.as_str());
        let is_native = is_native && (path != "/" || route.is_health());
        let is_taken = route_table.iter().any(|(taken, by)| {
            let is_vertex = (*by, route) == (Route::VertexHealth, Route::VertexPredict);
            *taken == path && !is_vertex
        });
        if !is_native && !is_taken {
            route_table.push((path, route));
        }
    }
    route_table
}

/// The routes of all enabled formats. They check keys themselves, because each format has its
/// own error response.
pub(super) fn routes(compat: &Compat) -> Router<AppState> {
    let route_table = route_table(compat);
    for (path, _) in candidates(compat)
        .iter()
        .filter(|it| !route_table.contains(it))
    {
        tracing::warn!(
            path,
            "this path already belongs to another route, which keeps it"
        );
    }
    // axum would reject `:analyze-text` as the old syntax of a path parameter.
    let router = Router::new().without_v07_checks();
    route_table
        .into_iter()
        .fold(router, |router, (path, route)| {
            router.route(&path, route.handler())
        })
}

/// The templates of the routes of all enabled formats, for metrics and logs.
pub(super) fn templates(compat: &Compat) -> impl Iterator<Item = (String, Template)> {
    route_table(compat).into_iter().map(|(path, route)| {
        let (name, is_health) = (route.template(), route.is_health());
        (path, Template { name, is_health })
    })
}

/// `POST /`: AWS clients name their operation in a header; all others are Hugging Face's.
async fn root(State(app): State<AppState>, request: Request) -> Response {
    let compat = &app.0.compat;
    let is_aws = request.headers().contains_key(comprehend::TARGET);
    if is_aws && compat.serves(Service::Comprehend) {
        return comprehend::handle(State(app), request).await;
    }
    if compat.serves(Service::HuggingFace) {
        return huggingface::classify(State(app), request).await;
    }
    ApiError::UnknownRoute.into_response()
}
