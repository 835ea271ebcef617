//! The same router on Lambda, behind API Gateway (REST and HTTP APIs), a Function
//! URL or an ALB, and beside it [`Events`] of all other kinds.
//!
//! [`function`] receives the raw events. [`request`] converts an HTTP event into a request for the
//! router, and [`response`] converts the response into the form that the gateway expects. All
//! other events go to [`Events`]. No event can cause a panic: an event that neither can read is
//! reported to Lambda as an error with a documented type, and the next one is served.
//! Responses are buffered unless [`ResponseMode::Streaming`] is set, because the gateway must have
//! the same setting and events do not say which it has. Events that are not HTTP, and gateways
//! that cannot stream, get buffered responses in either mode.
//!
//! `lambda_http` is not used for the conversion, because it panics on what clients can send (a
//! body that is flagged as base64 but is not, a query or `Host` that is not valid in a URI) and
//! puts the stage before the path even if the event's path has none.

mod path;
mod request;
mod response;
mod snapshot;

pub use response::HttpResponse;

use super::{ServeError, stop_signal};
use crate::config::{EventOptions, ResponseMode};
use crate::events::{EventKind, Events, InvocationError, sink};
use crate::http::{AppState, app};
use crate::platform::Platform;
use crate::timings::{self, Phase};
use axum::Router;
use axum::body::BodyDataStream;
use axum::http::HeaderValue;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{Context, Diagnostic, FunctionResponse, LambdaEvent, Runtime, run_concurrent};
use response::MAX_RESPONSE_BYTES;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tower::{Service, service_fn};

/// Whether this process was started by Lambda or an emulator of it.
pub fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some_and(|api| !api.is_empty())
}

/// Takes one event after another from the Runtime API.
///
/// Under `SnapStart` the runtime asks for `restore/next` first, which is where the snapshot is
/// taken: the model is warm by then, no connection is open but the runtime's own, which it
/// replaces, and [`snapshot`] renews what is random.
pub(super) async fn run(
    state: AppState,
    options: &EventOptions,
    mode: ResponseMode,
) -> Result<(), ServeError> {
    // `lambda_runtime` panics where one of these is missing.
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
    let initialization = std::env::var("AWS_LAMBDA_INITIALIZATION_TYPE").ok();
    let restore = (initialization.as_deref() == Some("snap-start"))
        .then(|| snapshot::Restore::new(options.results.clone()));
    let sink = match (&restore, &options.results) {
        (Some(restore), _) => restore.sink(),
        (None, Some(results)) => Some(sink::open(results).await),
        (None, None) => None,
    };
    let events = Events::new(state.clone(), options, sink);
    let metrics = state.batcher().metrics();
    metrics.ready();
    if initialization.is_some_and(|kind| kind != "on-demand") {
        // Provisioned concurrency, Managed Instances, a snapshot: nobody waited for the start.
        metrics.take_cold();
    }
    timings::mark(Phase::Ready);
    let function = function(app(state), events, mode);
    let served = async {
        let Some(restore) = restore else {
            // On Managed Instances it handles as many events concurrently as the platform
            // allows, elsewhere one after another.
            return run_concurrent(function).await.map_err(ServeError::Lambda);
        };
        let runtime = Runtime::new(function)
            .layer(TracingLayer::new())
            .register_snapstart_resource(restore.clone());
        restore.run(Box::pin(runtime.run_concurrent())).await
    };
    tokio::select! {
        ended = served => ended,
        // Lambda itself sends no signal; local emulators and containers do.
        () = stop => Ok(()),
    }
}

/// A raw event. An event that is not JSON, which only an emulator would send, is read as an empty
/// string, so that it fails like any other unknown event.
pub struct Event(Option<Box<RawValue>>);

impl Event {
    fn text(&self) -> &str {
        self.0.as_deref().map_or("", RawValue::get)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Deserialize::deserialize(deserializer).ok()))
    }
}

/// Handles every event: requests through the router, all others through [`Events`].
pub fn function(
    router: Router,
    events: Events,
    mode: ResponseMode,
) -> impl Service<
    LambdaEvent<Event>,
    Response = FunctionResponse<Response, BodyDataStream>,
    Error = InvocationError,
    Future: Send,
> + Clone {
    let events = Arc::new(events);
    service_fn(
        move |LambdaEvent {
                  payload, context, ..
              }: LambdaEvent<Event>| {
            let (router, events) = (router.clone(), Arc::clone(&events));
            async move {
                let kind = EventKind::from_event(payload.text());
                let (kind, received) = match kind {
                    EventKind::Http => (EventKind::Other, request::read(payload.text())),
                    kind => (kind, None),
                };
                match received {
                    Some(received) => {
                        drop(payload);
                        respond(router, received, mode, &context).await
                    }
                    None => invoke(&events, payload.text(), kind, &context)
                        .await
                        .map(FunctionResponse::BufferedResponse),
                }
            }
        },
    )
}

/// Sends a request through the router, with Lambda's deadline.
async fn respond(
    mut router: Router,
    received: request::Received,
    mode: ResponseMode,
    context: &Context,
) -> Result<FunctionResponse<Response, BodyDataStream>, InvocationError> {
    let request::Received {
        gateway,
        can_stream,
        mut request,
    } = received;
    let trace = context.xray_trace_id.as_deref();
    if let Some(Ok(trace)) = trace.map(HeaderValue::from_str) {
        request.headers_mut().insert("x-amzn-trace-id", trace);
    }
    request.extensions_mut().insert(platform(context));
    let Ok(response) = router.call(request).await;
    if can_stream && mode == ResponseMode::Streaming {
        let response = response::stream(response);
        return Ok(FunctionResponse::StreamingResponse(response));
    }
    let response = response::write(gateway, response).await;
    let response = response.map_err(|error| InvocationError::internal(error.to_string()))?;
    Ok(FunctionResponse::BufferedResponse(Response::Http(response)))
}

async fn invoke(
    events: &Events,
    event: &str,
    kind: EventKind,
    context: &Context,
) -> Result<Response, InvocationError> {
    let trace = context.xray_trace_id.as_deref();
    let response = events
        .invoke(event, kind, &platform(context), trace)
        .await?;
    if response.get().len() > MAX_RESPONSE_BYTES {
        return Err(InvocationError::too_large(MAX_RESPONSE_BYTES));
    }
    Ok(Response::Event(response))
}

/// A buffered response to Lambda.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// The response to a request, in the form that the gateway expects.
    Http(HttpResponse),
    /// The response to any other event.
    Event(Box<RawValue>),
}

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Self {
            error_type: error.code().to_owned(),
            error_message: error.to_string(),
        }
    }
}

/// How long before Lambda's deadline a response must be ready, so that it can be sent.
const RESPONSE_MARGIN: Duration = Duration::from_millis(50);

/// Lambda's longest timeout; deadlines beyond it come from emulators.
const MAX_TIMEOUT: Duration = Duration::from_mins(15);

/// What Lambda says about an invocation. Some emulators say nothing.
fn platform(context: &Context) -> Platform {
    let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Platform {
        deadline: deadline(context.deadline, SystemTime::now()),
        request_id: said(&context.request_id),
        function_arn: said(&context.invoked_function_arn),
    }
}

/// Lambda's deadline (milliseconds since 1970) on the monotonic clock. A deadline that has passed
/// when the event arrives is ignored: Lambda would have stopped the function, and some emulators
/// send a constant.
fn deadline(deadline_ms: u64, now: SystemTime) -> Option<Instant> {
    let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(deadline_ms)
        .checked_sub(now_ms)?
        .saturating_sub(RESPONSE_MARGIN)
        .min(MAX_TIMEOUT);
    Some(Instant::now() + left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_leaves_time_for_the_response() {
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
