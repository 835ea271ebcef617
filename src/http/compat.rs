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
//! | [`call`], [`shape`], [`inputs`] | what they share: the way in and out, and JSON |

mod azure;
mod call;
mod comprehend;
mod google;
mod huggingface;
mod inputs;
mod sagemaker;
mod shape;
mod sigv4;
mod tei;
mod vertex;

pub(super) use call::CompatError;

use super::error::ApiError;
use super::{AppState, api};
use crate::config::{Compat, Service};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

/// The routes by the templates that metrics and logs know them by, below any prefix.
const PREFIXED: [&str; 6] = [
    "/",
    "/models/{*id}",
    "/comprehend",
    "/predict",
    "/language/:analyze-text",
    "/v2/documents:analyzeSentiment",
];

/// Those that their platforms choose: never below a prefix.
const PING: &str = "/ping";
const INVOCATIONS: &str = "/invocations";

/// What stands in metrics and logs for Vertex AI's routes, which have any path.
const VERTEX_HEALTH: &str = "AIP_HEALTH_ROUTE";
const VERTEX_PREDICT: &str = "AIP_PREDICT_ROUTE";

/// The routes of all formats that are spoken. They look at keys themselves, for each
/// format has its own way to refuse.
pub(super) fn routes(compat: &Compat) -> Router<AppState> {
    // For `:analyze-text`, which axum would take for a slip.
    let mut router = Router::new().without_v07_checks();
    let mut taken: Vec<String> = Vec::new();
    let mut add = |path: String, route: MethodRouter<AppState>| {
        // A path that a platform's variable or the prefix moves onto one of the service's
        // own, or onto another format's.
        let is_native = path != "/" && super::ROUTES.contains(&path.as_str());
        if is_native || taken.contains(&path) {
            tracing::warn!(
                path,
                "this path has another meaning already, which it keeps"
            );
            return;
        }
        router = std::mem::take(&mut router).route(&path, route);
        taken.push(path);
    };
    // The operator names these paths one by one, so they come first.
    match (&compat.vertex_health, &compat.vertex_predict) {
        (Some(health), Some(predict)) if health == predict => {
            add(health.clone(), get(api::readyz).post(vertex::predict));
        }
        (health, predict) => {
            if let Some(path) = health {
                add(path.clone(), get(api::readyz));
            }
            if let Some(path) = predict {
                add(path.clone(), post(vertex::predict));
            }
        }
    }
    if compat.speaks(Service::SageMaker) {
        add(PING.to_owned(), get(api::readyz));
        add(INVOCATIONS.to_owned(), post(sagemaker::invocations));
    }
    let prefix = &compat.prefix;
    let mut add_below = |path: &str, route| add(format!("{prefix}{path}"), route);
    if compat.speaks(Service::HuggingFace) || compat.speaks(Service::Comprehend) {
        add_below("/", post(root));
        if !prefix.is_empty() {
            add_below("", post(root));
        }
    }
    if compat.speaks(Service::HuggingFace) {
        add_below("/models/{*id}", post(huggingface::classify));
    }
    if compat.speaks(Service::Comprehend) {
        for path in ["/comprehend", "/comprehend/"] {
            add_below(path, post(comprehend::call));
        }
    }
    if compat.speaks(Service::Tei) {
        add_below("/predict", post(tei::predict));
    }
    if compat.speaks(Service::Azure) {
        add_below("/language/:analyze-text", post(azure::analyze));
    }
    if compat.speaks(Service::Google) {
        add_below("/v2/documents:analyzeSentiment", post(google::analyze));
    }
    router
}

/// The template of a path that the router matched, if it is one of ours.
pub(super) fn template(compat: &Compat, path: &str) -> Option<&'static str> {
    let is = |route: &Option<String>| route.as_deref() == Some(path);
    if is(&compat.vertex_health) {
        return Some(VERTEX_HEALTH);
    }
    if is(&compat.vertex_predict) {
        return Some(VERTEX_PREDICT);
    }
    let own = [PING, INVOCATIONS].into_iter().find(|own| *own == path);
    own.or_else(|| {
        let below = path.strip_prefix(compat.prefix.as_str())?;
        let below = match below.strip_suffix('/').unwrap_or(below) {
            "" => "/",
            other => other,
        };
        // What matches no route has no path.
        let mut templates = PREFIXED.into_iter();
        templates.find(|template| *template == below && !path.is_empty())
    })
}

/// Whether a route is asked all day long, by a platform that wants to know of health.
pub(super) fn is_health(route: &str) -> bool {
    route == PING || route == VERTEX_HEALTH
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
