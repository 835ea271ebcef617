//! What is seen from outside of what the service does, and what must never be.

use crate::support::{get, limits, post, post_as, request, send, service, state};
use axum::http::Method;
use coldread::http::app;
use serde_json::Value;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

#[tokio::test]
async fn an_answer_tells_its_stages_and_its_id() {
    let headers = [
        ("x-request-id", "caller-1"),
        (
            "x-amzn-trace-id",
            "Self=1-x;Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        ),
    ];
    let one = request(
        Method::POST,
        "/v1/sentiment",
        &headers,
        r#"{"text":"good"}"#,
    );
    let reply = send(service(), one).await;
    assert_eq!(reply.headers["x-request-id"], "caller-1");
    assert_eq!(
        reply.headers["x-amzn-trace-id"],
        "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"
    );
    let timing = reply.headers["server-timing"].to_str().expect("ASCII");
    let stages: Vec<(&str, f64)> = timing
        .split(", ")
        .map(|stage| {
            let (name, duration) = stage.split_once(";dur=").expect("a duration");
            (name, duration.parse().expect("milliseconds"))
        })
        .collect();
    let names: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["queue", "tokenize", "inference", "total"]);
    let sum: f64 = stages[..3].iter().map(|(_, ms)| ms).sum();
    assert!(stages[2].1 > 0.0 && sum <= stages[3].1 + 0.01, "{timing}");
}

#[tokio::test]
async fn ids_that_are_none_are_replaced() {
    let headers = [
        ("x-request-id", "what a day"),
        ("x-amzn-trace-id", "I said"),
    ];
    let reply = send(service(), request(Method::GET, "/healthz", &headers, "")).await;
    assert_eq!(reply.headers["x-request-id"].len(), 32);
    assert_eq!(reply.headers.get("x-amzn-trace-id"), None);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let app = app(state(limits(&[])));
    send(app.clone(), post(r#"{"texts":["good","bad",""]}"#)).await;
    send(app.clone(), post("{")).await;
    send(app.clone(), get("/no/such/route")).await;
    let reply = send(app, get("/metrics")).await;
    assert_eq!(
        reply.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for line in [
        "coldread_requests_total{route=\"/v1/sentiment\",status=\"200\"} 1",
        "coldread_requests_total{route=\"/v1/sentiment\",status=\"400\"} 1",
        "coldread_requests_total{route=\"none\",status=\"404\"} 1",
        "coldread_errors_total{code=\"invalid_json\"} 1",
        "coldread_errors_total{code=\"unknown_route\"} 1",
        "coldread_request_duration_seconds_count{route=\"/v1/sentiment\"} 2",
        "coldread_stage_duration_seconds_count{stage=\"inference\"} 1",
        "coldread_posts_total 3",
        "coldread_pending_posts 0",
        "coldread_pending_bodies_bytes 0",
    ] {
        assert!(
            reply.text.lines().any(|is| is == line),
            "{line} is not in\n{}",
            reply.text
        );
    }
}

/// Words that stand in what is sent and nowhere else.
const MARK: &str = "xyzzyplugh";

/// The real server at its most talkative.
fn talkative(env: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coldread"))
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .env_remove("COLDREAD_MODEL")
        .env("COLDREAD_ADDR", "127.0.0.1:0")
        .env("COLDREAD_LOG", "trace")
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// The line that it says first, and the address in it.
fn address(stdout: &mut ChildStdout) -> (String, String) {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    let line = String::from_utf8(line).expect("UTF-8");
    let addr = line.trim_end().strip_prefix("listening on http://");
    let addr = addr.expect("an address").to_owned();
    (line, addr)
}

fn terminate(server: &Child) {
    let pid = server.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.expect("kill runs").success());
}

/// Runs the server, and gives back all that it wrote.
fn everything_written(env: &[(&str, &str)], client: impl FnOnce(&str)) -> String {
    let mut server = talkative(&[env, &[("COLDREAD_EMF_NAMESPACE", "test")]].concat());
    let mut stdout = server.stdout.take().expect("piped");
    let mut stderr = server.stderr.take().expect("piped");
    let stderr = std::thread::spawn(move || {
        let mut all = String::new();
        stderr.read_to_string(&mut all).expect("UTF-8");
        all
    });
    let (line, addr) = address(&mut stdout);
    client(&addr);
    terminate(&server);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("UTF-8");
    assert!(server.wait().expect("it ends").success());
    line + &rest + &stderr.join().expect("no panic")
}

/// Sends bytes as they are, and reads until the connection ends.
fn exchange(addr: &str, head: &str, body: &[u8]) -> String {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
    .expect("sent");
    // It may have been refused by now.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn no_text_of_a_post_is_ever_written() {
    let json = "POST /v1/sentiment HTTP/1.1\r\ncontent-type: application/json";
    let client = |addr: &str| {
        for (head, body) in [
            (json, format!(r#"{{"text":"{MARK} good"}}"#)),
            (
                json,
                format!(
                    r#"{{"texts":["{MARK}","","{MARK} {}"]}}"#,
                    "so ".repeat(700)
                ),
            ),
            (json, format!(r#"{{"texts":["{MARK}",{MARK}]}}"#)),
            (json, format!(r#"{{"{MARK}":"{MARK}"}}"#)),
            (json, format!(r#"{{"text":"{MARK}\ud83d"}}"#)),
            (json, format!("{MARK}{}", "[".repeat(100))),
            (
                json,
                format!(r#"{{"text":"{MARK}{}"}}"#, "a".repeat(70_000)),
            ),
            (
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: text/plain",
                MARK.to_owned(),
            ),
            (
                "POST /v1/sentiment?long_text=xyzzyplugh HTTP/1.1\r\ncontent-type: text/csv",
                MARK.to_owned(),
            ),
            (
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: application/jsonl",
                format!("{{\"text\":\"{MARK}\",\"id\":\"{MARK}\"}}\n{{{MARK}\n\"{MARK}"),
            ),
            (
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: text/csv",
                format!("text,{MARK}\n{MARK},{MARK}\n\"{MARK}"),
            ),
            (
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: text/csv\r\ncontent-encoding: gzip",
                MARK.to_owned(),
            ),
            (
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: text/xyzzyplugh",
                MARK.to_owned(),
            ),
            ("POST /v1/xyzzyplugh?q=xyzzyplugh HTTP/1.1", MARK.to_owned()),
            ("XYZZYPLUGH /v1/sentiment HTTP/1.1", MARK.to_owned()),
            (
                "POST /v1/info HTTP/1.1\r\nx-request-id: my xyzzyplugh",
                MARK.to_owned(),
            ),
            (
                "GET /metrics HTTP/1.1\r\nx-amzn-trace-id: a xyzzyplugh",
                MARK.to_owned(),
            ),
            (
                "GET /healthz HTTP/1.1\r\nx-request-timeout-ms: xyzzyplugh",
                String::new(),
            ),
        ] {
            let reply = exchange(addr, head, body.as_bytes());
            assert!(reply.starts_with("HTTP/1.1 "), "{reply}");
        }
        let reply = exchange(addr, "GET /metrics HTTP/1.1", b"");
        assert!(!reply.to_lowercase().contains(MARK), "{reply}");
    };
    // A key is nobody's business either.
    let key = format!("{MARK}-0123456789");
    for env in [
        &[("COLDREAD_LOG_FORMAT", "json")][..],
        &[("COLDREAD_LOG_FORMAT", "text")],
        &[
            ("COLDREAD_API_KEYS", key.as_str()),
            ("COLDREAD_CORS_ORIGINS", "https://page.example"),
        ],
    ] {
        let written = everything_written(env, |addr| {
            client(addr);
            every_endpoint(addr);
            compressed(addr);
        });
        assert!(written.contains("request"), "it did write: {written}");
        assert!(!written.to_lowercase().contains(MARK), "{written}");
    }
}

/// Marks whatever a caller can write, at every endpoint and with every method.
fn every_endpoint(addr: &str) {
    let reply = exchange(
        addr,
        "GET /openapi.json HTTP/1.1\r\naccept-encoding: identity",
        b"",
    );
    let described = reply.split_once("\r\n\r\n").map(|(_, body)| body);
    let document: Value = serde_json::from_str(described.expect("a body")).expect("JSON");
    let described = document["paths"].as_object().expect("paths").keys();
    let pages = ["/", "/page.js", "/page.css", "/docs", "/docs.js", "/none"].map(str::to_owned);
    for path in described.cloned().chain(pages) {
        for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE"] {
            let head = format!(
                "{method} {path}?{MARK}={MARK} HTTP/1.1\r\naccept: text/html, text/{MARK}\r\n\
                 user-agent: {MARK}\r\nreferer: http://{MARK}.example/\r\ncookie: a={MARK}\r\n\
                 origin: https://{MARK}.example\r\nauthorization: Bearer {MARK}-0123456789\r\n\
                 x-{MARK}: {MARK}\r\naccept-encoding: gzip, {MARK}\r\n\
                 content-type: application/x-ndjson"
            );
            let reply = exchange(addr, &head, format!("\"{MARK}\"\n{MARK}\n").as_bytes());
            assert!(reply.starts_with("HTTP/1.1 "), "{method} {path}: {reply}");
        }
    }
}

/// Marked posts in compressed bodies, whole and cut off.
fn compressed(addr: &str) {
    let rows = format!("\"{MARK} good\"\n\"{MARK}\"\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, rows.as_bytes()).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let zstd = zstd::encode_all(rows.as_bytes(), 1).expect("in memory");
    for (encoding, body) in [("gzip", gzip), ("zstd", zstd)] {
        for media in ["application/x-ndjson", "text/csv", "text/plain"] {
            let head = format!(
                "POST /v1/sentiment HTTP/1.1\r\ncontent-type: {media}\r\n\
                 content-encoding: {encoding}\r\nx-api-key: {MARK}-0123456789"
            );
            for body in [&body[..], &body[..body.len() / 2]] {
                assert!(exchange(addr, &head, body).starts_with("HTTP/1.1 "));
            }
        }
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut server = talkative(&[]);
    let (_, addr) = address(server.stdout.as_mut().expect("piped"));
    // Its standard error is a pipe that is full before long.
    let dropped = (0..20_000).any(|_| {
        let reply = exchange(&addr, "GET /metrics HTTP/1.1", b"");
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        !reply.contains("coldread_log_lines_dropped_total 0\n")
    });
    assert!(dropped, "what is not written is counted");
    terminate(&server);
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn metrics_that_nobody_reads_stop_nothing() {
    let env = [
        ("COLDREAD_EMF_NAMESPACE", "test"),
        ("COLDREAD_LOG", "error"),
    ];
    let mut server = talkative(&env);
    let (_, addr) = address(server.stdout.as_mut().expect("piped"));
    // Standard output is a pipe of 64 KiB that nobody reads; a record has some 500 bytes.
    let json = "POST /v1/sentiment HTTP/1.1\r\ncontent-type: application/json";
    for _ in 0..250 {
        let reply = exchange(&addr, json, br#"{"text":"good"}"#);
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    terminate(&server);
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn log_lines_are_json_with_the_requests_ids() {
    let json = "POST /v1/sentiment HTTP/1.1\r\nx-request-id: mine\r\nx-amzn-trace-id: Root=1-5bef\r\n\
                traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let written = everything_written(&[("COLDREAD_LOG_FORMAT", "json")], |addr| {
        for _ in 0..2 {
            exchange(addr, json, br#"{"text":"good"}"#);
        }
    });
    let lines: Vec<Value> = written
        .lines()
        .filter(|line| line.contains(r#""message":"request""#))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{written}");
    for (line, is_cold) in lines.iter().zip([true, false]) {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["service"], "coldread");
        assert_eq!(line["cold_start"], is_cold);
        assert_eq!(line["request_id"], "mine");
        assert_eq!(line["xray_trace_id"], "1-5bef");
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            (&line["route"], &line["status"]),
            (&"/v1/sentiment".into(), &200.into())
        );
        assert!(line["inference_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    }
    assert_eq!(
        written.matches("\"_aws\"").count(),
        3,
        "two requests and a cold start"
    );
}

#[test]
fn rows_have_a_line_at_their_end() {
    let head = "POST /v1/sentiment HTTP/1.1\r\nx-request-id: mine\r\n\
                content-type: text/csv\r\ncontent-encoding: gzip";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"text\ngood\n\"\"\nbad\n").expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let written = everything_written(&[("COLDREAD_LOG_FORMAT", "json")], |addr| {
        exchange(addr, head, &gzip);
        exchange(addr, head, &gzip[..gzip.len() - 1]);
    });
    let lines: Vec<Value> = written
        .lines()
        .filter(|line| line.contains(r#""message":"rows""#))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{written}");
    for (line, (code, errors)) in lines
        .iter()
        .zip([(Value::Null, 1), ("invalid_encoding".into(), 2)])
    {
        assert_eq!(line["request_id"], "mine");
        assert_eq!((&line["rows"], &line["posts"]), (&3.into(), &2.into()));
        assert_eq!((&line["code"], &line["errors"]), (&code, &errors.into()));
        assert!(line["duration_ms"].is_f64());
        assert!(line["inference_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    }
    assert_eq!(
        written.matches("\"_aws\"").count(),
        3,
        "two streams and a cold start"
    );
}

#[tokio::test]
async fn a_plain_text_post_is_counted_as_one() {
    let app = app(state(limits(&[])));
    send(app.clone(), post_as("text/plain", "good")).await;
    let reply = send(app, get("/metrics")).await;
    assert!(reply.text.contains("coldread_posts_total 1\n"));
}
