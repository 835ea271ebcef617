//! The real binary against a Runtime API of a few lines.

use crate::support::event;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};

/// What the function posted: how the invocation ended (`response` or `error`), and the payload.
type Outcome = (String, Value);

struct RuntimeApi {
    /// Lets the function's snapshot be restored, or not.
    restore: watch::Sender<Option<StatusCode>>,
    /// How often the function has asked for an event.
    polls: AtomicUsize,
    /// How many of these polls are open.
    open_polls: watch::Sender<usize>,
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.polls.fetch_add(1, Ordering::SeqCst);
    let _open = OpenPoll::new(&api.open_polls);
    // With no event left the poll stays open, as Lambda's does while it is frozen.
    let Some(event) = api.events.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:coldread",
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        ),
    ];
    (headers, event).into_response()
}

/// A poll that is open until its event comes or its connection ends.
struct OpenPoll<'a>(&'a watch::Sender<usize>);

impl<'a> OpenPoll<'a> {
    fn new(open: &'a watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for OpenPoll<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Open for as long as the snapshot is stored.
async fn restore_next(State(api): State<Arc<RuntimeApi>>) -> StatusCode {
    let mut restore = api.restore.subscribe();
    let status = restore
        .wait_for(Option::is_some)
        .await
        .expect("the API runs");
    (*status).expect("checked")
}

async fn init_error(State(api): State<Arc<RuntimeApi>>, body: String) -> StatusCode {
    done(
        State(api),
        Path((String::new(), "init/error".to_owned())),
        HeaderMap::new(),
        body,
    )
    .await
}

async fn done(
    State(api): State<Arc<RuntimeApi>>,
    Path((_id, how)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let mode = headers.get("lambda-runtime-function-response-mode");
    let payload = if mode.is_some_and(|mode| mode == "streaming") {
        assert_eq!(headers["transfer-encoding"], "chunked");
        let content_type = "application/vnd.awslambda.http-integration-response";
        assert_eq!(headers["content-type"], content_type);
        let (prelude, body) = body.split_once("\0\0\0\0\0\0\0\0").expect("a delimiter");
        let prelude: Value = serde_json::from_str(prelude).expect("JSON");
        json!({ "streamed": prelude, "body": body })
    } else {
        serde_json::from_str(&body).expect("the function answers JSON")
    };
    api.outcomes.send((how, payload)).expect("the test waits");
    StatusCode::ACCEPTED
}

struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the binary as the function of the Runtime API at `addr`.
pub(crate) fn spawn_function(addr: SocketAddr, env: &[(&str, &str)]) -> Child {
    // No subcommand: the environment decides.
    Command::new(env!("CARGO_BIN_EXE_coldread"))
        .env("AWS_LAMBDA_RUNTIME_API", addr.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "coldread")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("COLDREAD_LOG", "warn")
        .env_remove("COLDREAD_MODEL")
        .envs(env.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// A function at a Runtime API of its own.
pub(crate) struct Running {
    events: mpsc::UnboundedSender<String>,
    answered: mpsc::UnboundedReceiver<Outcome>,
    api: Arc<RuntimeApi>,
    function: Function,
}

impl Running {
    async fn start(env: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        Self::new(spawn_function(addr, env), listener)
    }

    /// The Runtime API of a function that has been started.
    pub(crate) fn new(function: Child, listener: TcpListener) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let (outcomes, answered) = mpsc::unbounded_channel();
        let api = Arc::new(RuntimeApi {
            restore: watch::Sender::new(None),
            polls: AtomicUsize::new(0),
            open_polls: watch::Sender::new(0),
            events: Mutex::new(receiver),
            outcomes,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/restore/next", get(restore_next))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .route("/2018-06-01/runtime/invocation/{id}/{how}", post(done))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&api));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            events,
            answered,
            api,
            function: Function(function),
        }
    }

    pub(crate) fn send(&self, event: String) {
        self.events.send(event).expect("the API runs");
    }

    /// Waits until so many polls for an event are open.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) async fn open_polls(&self, expected: usize) {
        let mut open = self.api.open_polls.subscribe();
        let waited = open.wait_for(|&open| open == expected);
        let waited = tokio::time::timeout(Duration::from_mins(1), waited).await;
        waited.expect("in time").expect("the API runs");
    }

    pub(crate) async fn outcome(&mut self) -> Outcome {
        let outcome = tokio::time::timeout(Duration::from_mins(1), self.answered.recv()).await;
        outcome.expect("answered in time").expect("the API runs")
    }
}

#[tokio::test]
async fn events_in_answers_out() {
    let mut function = Running::start(&[]).await;
    let mut bad_base64: Value = serde_json::from_str(&event("rest_base64")).expect("JSON");
    bad_base64["body"] = "%%%".into();
    // In between there is what fails, in every way.
    for (event, expected) in [
        (event("rest_prod"), Ok(200)),
        (event("sqs"), Err("no_results_sink")),
        ("\"warm up\"".to_owned(), Err("unknown_event")),
        ("not JSON".to_owned(), Err("unknown_event")),
        (bad_base64.to_string(), Ok(400)),
        (event("function_url"), Ok(200)),
    ] {
        function.send(event);
        let (how, payload) = function.outcome().await;
        match expected {
            Ok(status) => assert_eq!(
                (how.as_str(), &payload["statusCode"]),
                ("response", &status.into())
            ),
            Err(kind) => {
                assert_eq!(
                    (how.as_str(), &payload["errorType"]),
                    ("error", &kind.into())
                );
                assert!(payload["errorMessage"].is_string(), "{payload}");
            }
        }
    }
}

/// Far more than the 6 MB that a response in one piece may have.
#[tokio::test]
async fn rows_of_any_length_are_streamed() {
    const ROWS: usize = 40_000;
    let mut rows: Value = serde_json::from_str(&event("function_url")).expect("JSON");
    rows["headers"]["content-type"] = "application/x-ndjson".into();
    rows["isBase64Encoded"] = false.into();
    // A row that is no post is answered without the model.
    rows["body"] = "{\"text\":0}\n".repeat(ROWS).into();
    let mut function = Running::start(&[("COLDREAD_LAMBDA_RESPONSE_MODE", "streaming")]).await;
    function.send(rows.to_string());
    let (how, payload) = function.outcome().await;
    assert_eq!(how, "response");
    let head = &payload["streamed"];
    assert_eq!(head["statusCode"], 200);
    assert_eq!(head["headers"]["content-type"], "application/x-ndjson");
    let body = payload["body"].as_str().expect("text");
    assert_eq!(body.lines().count(), ROWS);
    assert!(body.len() > 6_000_000, "{}", body.len());
    let last: Value = serde_json::from_str(body.lines().last().expect("a row")).expect("JSON");
    assert_eq!(last["row"], ROWS);

    // Errors and events that are no requests, and the next invocation after a stream.
    let mut bad: Value = serde_json::from_str(&event("function_url")).expect("JSON");
    bad["body"] = "{".into();
    bad["isBase64Encoded"] = false.into();
    function.send(bad.to_string());
    let (_, payload) = function.outcome().await;
    assert_eq!(payload["streamed"]["statusCode"], 400, "{payload}");
    function.send(event("sqs"));
    let (how, payload) = function.outcome().await;
    assert_eq!(
        (how.as_str(), &payload["errorType"]),
        ("error", &"no_results_sink".into())
    );
}

#[tokio::test]
async fn managed_instances_take_several_events_at_a_time() {
    let mut function = Running::start(&[("AWS_LAMBDA_MAX_CONCURRENCY", "4")]).await;
    // Four polls are open before there is a single event.
    let polled = async {
        while function.api.polls.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let polled = tokio::time::timeout(Duration::from_mins(1), polled).await;
    polled.expect("it asks for four events");
    for _ in 0..12 {
        function.send(event("rest_prod"));
    }
    for _ in 0..12 {
        let (how, payload) = function.outcome().await;
        assert_eq!(
            (how.as_str(), &payload["statusCode"]),
            ("response", &200.into())
        );
    }
}

/// Whether the log says that a request was a cold start.
async fn cold_start(function: &mut Running) -> Value {
    let log = function.function.0.stderr.take().expect("piped");
    let line = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(log).lines().map(|line| line.expect("text"));
        lines
            .find(|line| line.contains("cold_start"))
            .expect("a line of the request")
    });
    let line = line.await.expect("read");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    line["cold_start"].clone()
}

#[tokio::test]
async fn a_start_is_cold_for_a_request_that_waited_for_it() {
    for (kind, is_cold) in [
        ("on-demand", true),
        ("provisioned-concurrency", false),
        ("lambda-managed-instances", false),
    ] {
        let env = [
            ("AWS_LAMBDA_INITIALIZATION_TYPE", kind),
            ("COLDREAD_LOG", "info"),
        ];
        let mut function = Running::start(&env).await;
        function.send(event("rest_prod"));
        function.outcome().await;
        assert_eq!(cold_start(&mut function).await, is_cold, "{kind}");
    }
}

#[tokio::test]
async fn a_snapshot_is_taken_of_a_function_that_is_warm() {
    let env = [
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"),
        ("COLDREAD_LOG", "info"),
    ];
    let mut replies = Vec::new();
    for _ in 0..2 {
        let mut function = Running::start(&env).await;
        function.send(event("rest_get_without_body"));
        let is_asked = async {
            while function.api.restore.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let is_asked = tokio::time::timeout(Duration::from_mins(1), is_asked).await;
        is_asked.expect("it asks for its restore");
        // No event is taken by what is only stored.
        assert_eq!(function.api.polls.load(Ordering::SeqCst), 0);
        function.api.restore.send_replace(Some(StatusCode::OK));

        let (_, info) = function.outcome().await;
        let info: Value =
            serde_json::from_str(info["body"].as_str().expect("a body")).expect("JSON");
        assert!(info["timings"]["first_inference_ms"].is_number(), "{info}");
        function.send(event("rest_prod"));
        let (how, reply) = function.outcome().await;
        assert_eq!(how, "response");
        assert_eq!(cold_start(&mut function).await, false);
        replies.push(reply["body"].clone());
    }
    assert_eq!(replies[0], replies[1], "each restore scores alike");
}

#[tokio::test]
async fn a_restore_that_fails_ends_the_function() {
    let mut function = Running::start(&[("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")]).await;
    function
        .api
        .restore
        .send_replace(Some(StatusCode::INTERNAL_SERVER_ERROR));
    let (how, error) = function.outcome().await;
    assert_eq!(how, "init/error");
    assert!(
        error["errorMessage"]
            .as_str()
            .is_some_and(|message| message.contains("/restore/next")),
        "{error}"
    );
    let status = tokio::task::spawn_blocking(move || function.function.0.wait());
    assert!(!status.await.expect("waited").expect("ended").success());
}
