//! The Runtime API's routes: which request does what, and what it is told.

use super::{Answer, Init, MAX_ERROR_BYTES, MAX_RESPONSE_BYTES, Outcome, Shared, lock};
use crate::clock::{Moment, unix_ms};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;

const BASE: &str = "/2018-06-01/";

type Reply = Response<Full<Bytes>>;

/// Answers one request whose head was read `at` that moment.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    at: Moment,
) -> Result<Reply, Infallible> {
    let Some(path) = request.uri().path().strip_prefix(BASE).map(str::to_owned) else {
        return Ok(not_found());
    };
    let segments: Vec<&str> = path.split('/').collect();
    let (is_get, is_post) = (
        request.method() == Method::GET,
        request.method() == Method::POST,
    );
    Ok(match segments[..] {
        ["ping"] if is_get => text(StatusCode::OK, "pong"),
        ["runtime", "invocation", "next"] if is_get => next(&shared, at).await,
        ["runtime", "init", "error"] if is_post => init_error(&shared, request, at).await,
        ["runtime", "invocation", id, "response"] if is_post => {
            post(&shared, id, false, request).await
        }
        ["runtime", "invocation", id, "error"] if is_post => post(&shared, id, true, request).await,
        ["ping"] | ["runtime", "invocation", "next"] => method_not_allowed("GET"),
        ["runtime", "init", "error"] | ["runtime", "invocation", _, "response" | "error"] => {
            method_not_allowed("POST")
        }
        _ => not_found(),
    })
}

/// Waits for an event.
async fn next(shared: &Shared, at: Moment) -> Reply {
    if let Some(init) = lock(&shared.init).take() {
        let _ = init.send(Init::Ready(at));
    }
    let open = OpenPoll::new(&shared.polls);
    // A poll whose connection breaks is dropped here and takes no event with it.
    let Some(invocation) = shared.waiting.lock().await.recv().await else {
        // The instance is going away.
        return std::future::pending().await;
    };
    drop(open);
    let deadline_ms = unix_ms() + invocation.timeout.as_millis() as u64;
    let mut reply = reply(StatusCode::OK, invocation.event);
    let headers = reply.headers_mut();
    for (name, value) in [
        (
            "lambda-runtime-aws-request-id",
            invocation.request_id.as_str(),
        ),
        ("lambda-runtime-deadline-ms", &deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            &shared.identity.function_arn,
        ),
        ("lambda-runtime-trace-id", &invocation.trace_id),
    ] {
        // A function name that no header can hold is the user's, and left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let mut invocations = lock(&shared.invocations);
    if let Some(in_flight) = invocations.in_flight.get_mut(&invocation.request_id) {
        in_flight.delivered = Some(Moment::now());
    }
    reply
}

/// Counts a poll as open for as long as it lives.
struct OpenPoll<'a>(&'a watch::Sender<usize>);

impl<'a> OpenPoll<'a> {
    fn new(polls: &'a watch::Sender<usize>) -> Self {
        polls.send_modify(|open| *open += 1);
        Self(polls)
    }
}

impl Drop for OpenPoll<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Takes the answer to the invocation `id`.
async fn post(shared: &Shared, id: &str, is_error: bool, request: Request<Incoming>) -> Reply {
    let error_type = error_type(&request);
    let limit = if is_error {
        MAX_ERROR_BYTES
    } else {
        MAX_RESPONSE_BYTES
    };
    let delivered = {
        let invocations = lock(&shared.invocations);
        let in_flight = invocations.in_flight.get(id);
        match in_flight.and_then(|in_flight| in_flight.delivered) {
            Some(at) => at,
            None if invocations.last_answered.as_deref() == Some(id) => {
                return invalid_transition("RuntimeResponseSentState", "InvocationResponse");
            }
            None => return invalid_request_id(),
        }
    };
    let body = Limited::new(request.into_body(), limit).collect().await;
    let answered = Moment::now();
    let (outcome, reply) = match body {
        Ok(body) if is_error => (Outcome::Error(error_type, body.to_bytes()), accepted()),
        Ok(body) => (Outcome::Response(body.to_bytes()), accepted()),
        Err(error) if error.is::<LengthLimitError>() => (Outcome::TooLarge, too_large()),
        // Broken off: the invocation stays unanswered, and its instance is found dead or hung.
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "BodyReadError", "body was cut off"),
    };
    let mut invocations = lock(&shared.invocations);
    let Some(in_flight) = invocations.in_flight.remove(id) else {
        // A second answer raced this one.
        return invalid_transition("RuntimeResponseSentState", "InvocationResponse");
    };
    invocations.last_answered = Some(id.to_owned());
    let _ = in_flight.answer.send(Answer {
        delivered,
        answered,
        outcome,
    });
    reply
}

/// Takes the report that the function could not start.
async fn init_error(shared: &Shared, request: Request<Incoming>, at: Moment) -> Reply {
    let error_type = error_type(&request);
    let body = Limited::new(request.into_body(), MAX_ERROR_BYTES)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    match lock(&shared.init).take() {
        Some(init) => {
            let _ = init.send(Init::Failed(at, error_type, body));
            accepted()
        }
        None => invalid_transition("Running", "InitError"),
    }
}

fn error_type(request: &Request<Incoming>) -> String {
    request
        .headers()
        .get("lambda-runtime-function-error-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("Unhandled")
        .to_owned()
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, json);
    reply
}

fn accepted() -> Reply {
    reply(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n".into())
}

fn refusal(status: StatusCode, error_type: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
    reply(status, format!("{body}\n").into())
}

fn invalid_transition(from: &str, to: &str) -> Reply {
    let message = format!(
        "State transition from {from} to {to} failed for runtime. \
         Error: State transition is not allowed"
    );
    refusal(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
}

fn invalid_request_id() -> Reply {
    refusal(
        StatusCode::BAD_REQUEST,
        "InvalidRequestID",
        "Invalid request ID",
    )
}

fn too_large() -> Reply {
    refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        &format!("Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."),
    )
}

fn text(status: StatusCode, body: &'static str) -> Reply {
    let mut reply = reply(status, body.into());
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, plain);
    reply
}

fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn method_not_allowed(allowed: &'static str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    let allowed = HeaderValue::from_static(allowed);
    reply.headers_mut().insert(ALLOW, allowed);
    reply
}
