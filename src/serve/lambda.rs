//! The same router on Lambda, behind API Gateway (REST and HTTP APIs), a Function
//! URL or an ALB, and beside it [`Events`] of all other kinds.
//!
//! [`function`] looks at each event as it came. `lambda_http` turns a platform's request
//! into ours and the reply into what that platform expects; anything else goes to
//! [`Events`]. An event that neither can read is reported to Lambda as an error and the
//! next one is served. Replies are buffered, not streamed: they are small, and the
//! streaming protocol would exclude events that are not HTTP.
//!
//! **Paths.** API Gateway deploys an API under a stage and, on a custom domain, under
//! a base path; neither is part of our routes. `lambda_http` puts the stage before
//! the path even where the event's path has none, so its path is not used here:
//! [`route_path`] works from the event's own path and request context instead, which
//! is the only way to tell a stage named `v1` from our `/v1`.

use super::{ServeError, stop_signal};
use crate::events::{Events, InvocationError, is_request};
use crate::http::{AppState, OriginalPath, Platform, app, reply_too_large};
use crate::timings::{self, Phase};
use axum::Router;
use axum::body::Body;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderValue, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use lambda_http::ext::RequestExt;
use lambda_http::lambda_runtime::{Diagnostic, run_concurrent};
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::{Adapter, LambdaEvent};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tower::{Service, service_fn};

/// Whether this process was started by Lambda, or by something that plays it.
pub fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some_and(|api| !api.is_empty())
}

/// Takes one event after another from the Runtime API.
pub(super) async fn run(state: AppState, events: Events) -> Result<(), ServeError> {
    // `lambda_http` panics where one of these is missing.
    for name in [
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
    ] {
        if std::env::var_os(name).is_none() {
            return Err(ServeError::LambdaEnv(name));
        }
    }
    let stop = stop_signal()?;
    state.batcher().metrics().ready();
    timings::mark(Phase::Ready);
    tokio::select! {
        // On Managed Instances, which say how many events there may be at a time, it
        // takes as many; elsewhere one after another.
        ended = run_concurrent(function(app(state), events)) => ended.map_err(ServeError::Lambda),
        // Lambda itself sends no signal; local emulators and containers do.
        () = stop => Ok(()),
    }
}

/// What every event goes through: the router if it is a request, else [`Events`].
pub fn function(
    router: Router,
    events: Events,
) -> impl Service<
    LambdaEvent<Box<RawValue>>,
    Response = Reply<impl Serialize + Send>,
    Error = Failure,
    Future: Send,
> + Clone {
    let requests = Adapter::from(service(router));
    let events = Arc::new(events);
    service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let (mut requests, events) = (requests.clone(), Arc::clone(&events));
        async move {
            let (event, context) = (event.payload, event.context);
            if is_request(event.get()) {
                let request: LambdaRequest = serde_json::from_str(event.get())?;
                let reply = requests.call(LambdaEvent::new(request, context)).await?;
                return Ok(Reply::Request(reply));
            }
            let trace = context.xray_trace_id.as_deref();
            let answer = events
                .invoke(event.get(), &platform(&context), trace)
                .await?;
            if answer.get().len() > MAX_REPLY_BYTES {
                return Err(InvocationError::too_large(MAX_REPLY_BYTES).into());
            }
            Ok(Reply::Event(answer))
        }
    })
}

/// What goes back to Lambda, as it is.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Reply<T> {
    /// A request's, in the form that its platform expects.
    Request(T),
    /// Any other event's.
    Event(Box<RawValue>),
}

/// Why there is no reply.
pub enum Failure {
    /// A request could not be made, or its reply not be read.
    Request(lambda_http::Error),
    /// Another event was not answered.
    Event(InvocationError),
}

/// As the runtime logs it: without what might quote an event.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
        }
    }
}

impl<E: Into<lambda_http::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into().downcast() {
            Ok(error) => Self::Event(*error),
            Err(error) => Self::Request(error),
        }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Request(error) => error.into(),
            Failure::Event(error) => Self {
                error_type: error.code().to_owned(),
                error_message: error.to_string(),
            },
        }
    }
}

/// What an HTTP event goes through: the router, reached by our own paths, and told
/// when Lambda stops waiting.
pub fn service(
    router: Router,
) -> impl Service<
    lambda_http::Request,
    Response = Response<Full<Bytes>>,
    Error = lambda_http::Error,
    Future: Send,
> + Clone {
    service_fn(move |mut request: lambda_http::Request| {
        let mut router = router.clone();
        let path = OriginalPath(original_path(&request).to_owned());
        request.extensions_mut().insert(path);
        if let Some(uri) = route_uri(&request) {
            *request.uri_mut() = uri;
        }
        if let Some(platform) = request.lambda_context_ref().map(platform) {
            request.extensions_mut().insert(platform);
        }
        let max_bytes = match request.request_context_ref() {
            Some(RequestContext::Alb(_)) => MAX_ALB_REPLY_BYTES,
            _ => MAX_REPLY_BYTES,
        };
        async move {
            let reply = router.call(request.map(into_axum_body)).await?;
            let (mut parts, body) = reply.into_parts();
            // axum's bodies are not `Sync`, which events at a time ask for.
            let body = match collected(body, max_bytes).await? {
                Some(body) => body,
                None => {
                    let body;
                    (parts, body) = reply_too_large(max_bytes).into_parts();
                    body.collect().await?.to_bytes()
                }
            };
            if std::str::from_utf8(&body).is_ok() {
                // Else what is no well-known text would travel as base64, which REST
                // APIs hand on as it is.
                let text = HeaderValue::from_static("text");
                parts.headers.insert("x-lambda-http-content-encoding", text);
            }
            Ok(Response::from_parts(parts, Full::new(body)))
        }
    })
}

/// Lambda carries 6 MB of JSON; what is left is for headers.
const MAX_REPLY_BYTES: usize = 6_000_000;

/// Load balancers take 1 MB.
const MAX_ALB_REPLY_BYTES: usize = 950_000;

/// A reply, read whole; `None` once it is more than `max_bytes` as a string of JSON.
async fn collected(mut body: Body, max_bytes: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += event_bytes(&data);
        if length > max_bytes {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

/// How long a body is as a string of JSON.
fn event_bytes(body: &[u8]) -> usize {
    let escapes = body.iter().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escapes.sum()
}

/// How long before Lambda's deadline an answer has to be there in order to be sent.
const REPLY_MARGIN: Duration = Duration::from_millis(50);

/// Lambda's longest timeout; deadlines beyond it come from emulators.
const MAX_TIMEOUT: Duration = Duration::from_mins(15);

/// What Lambda says of a request. Some emulators say nothing.
fn platform(context: &lambda_http::Context) -> Platform {
    let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Platform {
        deadline: deadline(context.deadline, SystemTime::now()),
        request_id: said(&context.request_id),
        function_arn: said(&context.invoked_function_arn),
    }
}

/// Lambda's deadline (milliseconds since 1970) on our clock. One that has passed by the
/// time the event arrives is none: Lambda would have stopped the function, and emulators
/// are known to send a constant.
fn deadline(deadline_ms: u64, now: SystemTime) -> Option<Instant> {
    let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(deadline_ms)
        .checked_sub(now_ms)?
        .saturating_sub(REPLY_MARGIN)
        .min(MAX_TIMEOUT);
    Some(Instant::now() + left)
}

fn into_axum_body(body: lambda_http::Body) -> axum::body::Body {
    match body {
        lambda_http::Body::Text(text) => text.into(),
        lambda_http::Body::Binary(bytes) => bytes.into(),
        _ => axum::body::Body::empty(),
    }
}

/// The path that the caller asked for, with stage and base path, which is what it signed.
fn original_path(request: &lambda_http::Request) -> &str {
    let with_stage = match request.request_context_ref() {
        // A REST API's event has it in its context only.
        Some(RequestContext::ApiGatewayV1(context)) => context.path.as_deref(),
        _ => None,
    };
    with_stage.unwrap_or(request.raw_http_path())
}

/// The request's URI under our own path, if the event tells one.
fn route_uri(request: &lambda_http::Request) -> Option<Uri> {
    let path = route_path(request)?;
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // A path that needs escapes is none of our routes; it is left as `lambda_http` made it.
    let path_and_query = PathAndQuery::try_from(path_and_query).ok()?;
    Some(Uri::from(path_and_query))
}

/// The path without stage and base path.
fn route_path(request: &lambda_http::Request) -> Option<String> {
    let raw_path = request.raw_http_path();
    let (template, stage) = match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => {
            // A REST API's `path` comes without the stage and its context's with it,
            // so where both are equal on the API's own domain the stage is in both.
            let has_stage = is_own_domain(context.domain_name.as_deref())
                && context.path.as_deref() == Some(raw_path);
            let stage = context.stage.as_deref().filter(|_| has_stage);
            (context.resource_path.as_deref(), stage)
        }
        RequestContext::ApiGatewayV2(context) => {
            // `POST /v1/{proxy+}`, or `$default`, which says nothing of the path.
            let template = context
                .route_key
                .as_deref()
                .and_then(|key| key.split_once(' '));
            let has_stage = is_own_domain(context.domain_name.as_deref());
            let stage = context.stage.as_deref().filter(|_| has_stage);
            (template.map(|(_method, path)| path), stage)
        }
        _ => return None,
    };
    // The route that API Gateway matched tells the path below stage and base path, if
    // its parameters are as they were sent.
    if let Some(template) = template
        && let Some(path) = expand(template, request)
        && raw_path.ends_with(&path)
    {
        return Some(path);
    }
    let stripped = stage
        .and_then(|stage| raw_path.strip_prefix('/')?.strip_prefix(stage))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match stripped {
        Some("") => Some("/".to_owned()),
        Some(path) => Some(path.to_owned()),
        None => Some(raw_path.to_owned()),
    }
}

/// Whether requests came to the API's own domain, where a named stage is part of the
/// path. On a custom domain it is not.
fn is_own_domain(domain_name: Option<&str>) -> bool {
    domain_name.is_none_or(|name| name.contains(".execute-api."))
}

/// `/v1/{name}` or `/{proxy+}` with the request's parameters filled in.
fn expand(template: &str, request: &lambda_http::Request) -> Option<String> {
    // `None` where there are none, which is as it should be for `/v1/sentiment`.
    let parameters = request.path_parameters_ref();
    let mut path = String::new();
    for segment in template.strip_prefix('/')?.split('/') {
        path.push('/');
        let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        path.push_str(match name {
            Some(name) => parameters?.first(name.trim_end_matches('+'))?,
            None => segment,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_leaves_time_for_the_reply() {
        let now = UNIX_EPOCH + Duration::from_hours(24);
        let now_ms = 24 * 3_600_000;
        let left = |deadline_ms| {
            let before = Instant::now();
            let deadline = deadline(deadline_ms, now)?;
            Some(deadline.saturating_duration_since(before).as_secs())
        };
        assert_eq!(left(now_ms + 10_051), Some(10));
        assert_eq!(left(now_ms + 40), Some(0), "too short to begin with");
        assert_eq!(left(u64::MAX), Some(MAX_TIMEOUT.as_secs()));
        assert_eq!(left(now_ms - 1), None, "an emulator's constant");
    }
}
