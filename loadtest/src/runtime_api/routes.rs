//! The Runtime API's routes: which request does what, and what it is told.

use super::state::{
    CompletedInvocation, Init, InvocationOutcome, MAX_RESPONSE_BYTES, MAX_STREAMED_BYTES, Phase,
    Restore, Shared, lock,
};
use crate::clock::{Moment, unix_ms};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;

const BASE: &str = "/2018-06-01/";

/// Bytes of a body above its limit that are read and thrown away before the connection is
/// closed on it.
const MAX_DROPPED_BYTES: usize = 58 * 1024 * 1024;

type Reply = Response<Full<Bytes>>;

/// Answers one request whose head was read `at` that moment.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    at: Moment,
) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    // Read in any case: a reply to a request that is not read to its end closes the
    // connection, and the function would find that out with its next request.
    let streaming = Streaming::of(&head.headers);
    let limit = match streaming {
        Some(_) => MAX_STREAMED_BYTES,
        None => MAX_RESPONSE_BYTES,
    };
    let (body, trailers) = read(body, limit).await;
    let posted = Posted {
        body,
        streaming,
        complete: Moment::now(),
        error_type: error_type(&head.headers),
        trailers,
    };
    let Some(path) = head.uri.path().strip_prefix(BASE) else {
        return Ok(not_found());
    };
    let segments: Vec<&str> = path.split('/').collect();
    let (is_get, is_post) = (head.method == Method::GET, head.method == Method::POST);
    Ok(match segments[..] {
        ["runtime", "restore", ..] if !shared.snapshot => not_found(),
        ["ping"] if is_get => text(StatusCode::OK, "pong"),
        ["runtime", "invocation", "next"] if is_get => next(&shared, at).await,
        ["runtime", "init", "error"] if is_post => init_error(&shared, posted, at),
        ["runtime", "restore", "next"] if is_get => restore_next(&shared, at).await,
        ["runtime", "restore", "error"] if is_post => restore_error(&shared, posted, at),
        ["runtime", "invocation", id, "response"] if is_post => post(&shared, id, false, posted),
        ["runtime", "invocation", id, "error"] if is_post => post(&shared, id, true, posted),
        ["ping"] | ["runtime", "invocation" | "restore", "next"] => method_not_allowed("GET"),
        ["runtime", "init" | "restore", "error"]
        | ["runtime", "invocation", _, "response" | "error"] => method_not_allowed("POST"),
        _ => not_found(),
    })
}

/// What a request carries.
struct Posted {
    body: Body,
    streaming: Option<Streaming>,
    /// When its last byte had been read.
    complete: Moment,
    error_type: String,
    /// What stands behind a body in chunks.
    trailers: HeaderMap,
}

/// A response in streaming mode.
#[derive(Clone, Copy)]
struct Streaming {
    is_http: bool,
}

impl Streaming {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let has = |name: &str, value: &str| headers.get(name).is_some_and(|said| said == value);
        has("lambda-runtime-function-response-mode", "streaming").then(|| Self {
            is_http: has(
                "content-type",
                "application/vnd.awslambda.http-integration-response",
            ),
        })
    }
}

enum Body {
    Whole(Bytes),
    TooLarge,
    CutOff,
}

/// Reads a body to its end and keeps what is within the limit.
async fn read(mut body: Incoming, limit: usize) -> (Body, HeaderMap) {
    let mut kept = BytesMut::new();
    let mut length = 0;
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return (Body::CutOff, trailers);
        };
        match frame.into_data() {
            Ok(data) => {
                length += data.len();
                if length <= limit {
                    kept.extend_from_slice(&data);
                } else if length > limit + MAX_DROPPED_BYTES {
                    break;
                }
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let body = if length > limit {
        Body::TooLarge
    } else {
        Body::Whole(kept.freeze())
    };
    (body, trailers)
}

/// Waits for an event.
async fn next(shared: &Shared, at: Moment) -> Reply {
    starts_are_over(shared, at);
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

/// A poll for an event ends the init phase, or the restore.
fn starts_are_over(shared: &Shared, at: Moment) {
    let mut phase = lock(&shared.phase);
    *phase = match std::mem::replace(&mut *phase, Phase::Running) {
        Phase::Init { ended, snapshot } => {
            let _ = ended.send(Init::Ready(at));
            if snapshot {
                Phase::Snapshot
            } else {
                Phase::Running
            }
        }
        Phase::Restoring(ended) => {
            let _ = ended.send(Restore::Ready(at));
            Phase::Running
        }
        phase @ (Phase::Snapshot | Phase::Running) => phase,
    };
}

/// Ends the init phase, and waits until the snapshot is restored.
async fn restore_next(shared: &Shared, at: Moment) -> Reply {
    {
        let mut phase = lock(&shared.phase);
        match std::mem::replace(&mut *phase, Phase::Snapshot) {
            Phase::Init {
                ended,
                snapshot: true,
            } => {
                let _ = ended.send(Init::Snapshot(at));
            }
            other => {
                let name = other.name();
                *phase = other;
                return invalid_transition(name, "RestoreNext");
            }
        }
    }
    let mut restored = shared.restored.subscribe();
    // The sender lives as long as `shared`.
    let _ = restored.wait_for(|restored| *restored).await;
    reply(StatusCode::OK, Bytes::new())
}

/// Takes the report that a hook failed.
fn restore_error(shared: &Shared, posted: Posted, at: Moment) -> Reply {
    let mut phase = lock(&shared.phase);
    match std::mem::replace(&mut *phase, Phase::Running) {
        Phase::Restoring(ended) => {
            let _ = ended.send(Restore::Failed(at, posted.error_type, whole(posted.body)));
            accepted()
        }
        other => {
            let name = other.name();
            *phase = other;
            invalid_transition(name, "RestoreError")
        }
    }
}

/// A body that was read, or nothing.
fn whole(body: Body) -> Bytes {
    match body {
        Body::Whole(body) => body,
        Body::TooLarge | Body::CutOff => Bytes::new(),
    }
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

/// Takes the response to the invocation `id`.
fn post(shared: &Shared, id: &str, is_error: bool, posted: Posted) -> Reply {
    let mut invocations = lock(&shared.invocations);
    let in_flight = invocations.in_flight.get(id);
    let Some(delivered) = in_flight.and_then(|in_flight| in_flight.delivered) else {
        // Neither delivered nor known: it is not the function's to answer.
        return if invocations.last_answered.as_deref() == Some(id) {
            invalid_transition("RuntimeResponseSentState", "InvocationResponse")
        } else {
            invalid_request_id()
        };
    };
    let (outcome, reply) = match posted.body {
        Body::Whole(body) if is_error => (
            InvocationOutcome::Error(posted.error_type, body),
            accepted(),
        ),
        // A stream that failed on its way says so behind what was sent.
        Body::Whole(_) if posted.trailers.contains_key(ERROR_TYPE) => {
            let body = posted.trailers.get(ERROR_BODY);
            let body = body.map_or(&b""[..], HeaderValue::as_bytes);
            let outcome = InvocationOutcome::Error(
                error_type(&posted.trailers),
                Bytes::copy_from_slice(body),
            );
            (outcome, accepted())
        }
        Body::Whole(body) => (
            match posted.streaming {
                Some(Streaming { is_http }) => InvocationOutcome::Streamed { is_http, body },
                None => InvocationOutcome::Response(body),
            },
            accepted(),
        ),
        Body::TooLarge => (InvocationOutcome::TooLarge, too_large()),
        // The invocation stays unanswered, and its instance is found dead or hung.
        Body::CutOff => return refusal(StatusCode::BAD_REQUEST, "BodyReadError", "cut off"),
    };
    if let Some(in_flight) = invocations.in_flight.remove(id) {
        let _ = in_flight.answer.send(CompletedInvocation {
            delivered,
            answered: posted.complete,
            outcome,
        });
    }
    invocations.last_answered = Some(id.to_owned());
    reply
}

/// Takes the report that the function could not start.
fn init_error(shared: &Shared, posted: Posted, at: Moment) -> Reply {
    let mut phase = lock(&shared.phase);
    match std::mem::replace(&mut *phase, Phase::Running) {
        Phase::Init { ended, .. } => {
            let _ = ended.send(Init::Failed(at, posted.error_type, whole(posted.body)));
            accepted()
        }
        other => {
            let name = other.name();
            *phase = other;
            invalid_transition(name, "InitError")
        }
    }
}

const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// In base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

fn error_type(headers: &HeaderMap) -> String {
    headers
        .get(ERROR_TYPE)
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
