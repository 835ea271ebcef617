//! Rows of NDJSON and CSV: results in order and as they are ready.

use crate::support::{Piped, get, instant, limits, post, post_as, request, send, service, stalled};
use axum::Router;
use axum::body::Body;
use axum::http::Method;
use bytes::Bytes;
use coldread::http::app;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, UnboundedSender};
use tower::ServiceExt;

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .expect("a JSON value a line")
}

#[tokio::test]
async fn each_row_has_its_result_in_its_place() {
    let body = "{\"text\":\"I love this!\",\"id\":\"a\"}\n\"\"\n{\"txt\":1}\n\"I hate this!\"";
    let reply = send(service(), post_as("application/x-ndjson", body)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let rows = lines(&reply.text);
    assert_eq!(rows.len(), 4);
    assert_eq!((&rows[0]["row"], &rows[0]["id"]), (&json!(1), &json!("a")));
    assert_eq!(rows[0]["label"], "positive");
    assert_eq!(
        (&rows[1]["row"], &rows[1]["error"]["code"]),
        (&json!(2), &json!("empty_text"))
    );
    assert_eq!(rows[2]["error"]["code"], "missing_field");
    assert_eq!(
        (&rows[3]["row"], &rows[3]["label"]),
        (&json!(4), &json!("negative"))
    );
    let alone = send(service(), post(r#"{"text":"I hate this!"}"#))
        .await
        .json();
    assert_eq!(rows[3]["scores"], alone["scores"]);
}

#[tokio::test]
async fn csv_is_answered_with_csv_unless_something_else_is_asked_for() {
    let body = "id,text\n7,\"good, \"\"really\"\"\"\n8,\n";
    let reply = send(instant(&[]), post_as("text/csv", body)).await;
    let rows: Vec<&str> = reply.text.lines().collect();
    assert_eq!(
        rows[0],
        "row,id,label,score,negative,neutral,positive,truncated,windows,error"
    );
    let first: Vec<&str> = rows[1].split(',').collect();
    assert_eq!(
        (first[..2].join(","), &first[7..]),
        ("1,7".to_owned(), &["false", "", ""][..])
    );
    assert!(
        first[3..7].iter().all(|score| score.parse::<f32>().is_ok()),
        "{first:?}"
    );
    assert_eq!(rows[2], "2,8,,,,,,,,empty_text");

    let headers = [
        ("content-type", "text/csv"),
        ("accept", "application/x-ndjson;q=0.9"),
    ];
    let as_json = request(Method::POST, "/v1/sentiment", &headers, body);
    assert_eq!(lines(&send(instant(&[]), as_json).await.text)[1]["id"], "8");
}

#[tokio::test]
async fn csv_says_over_how_many_windows_scores_are_the_mean() {
    let path = "/v1/sentiment?long_text=window";
    let body = format!("text\ngood\n{}\n", "good ".repeat(1200));
    let csv = request(Method::POST, path, &[("content-type", "text/csv")], body);
    let reply = send(instant(&[]), csv).await;
    let windows = reply.text.lines().map(|row| row.split(',').nth(8));
    let windows: Vec<&str> = windows.collect::<Option<_>>().expect("a column");
    assert_eq!(windows[..2], ["windows", ""]);
    assert!(
        windows[2].parse::<usize>().is_ok_and(|n| n > 1),
        "{windows:?}"
    );
}

/// The rows of results for a body.
async fn rows_of(path: &str, content_type: &str, body: impl Into<Body>) -> Vec<Value> {
    let headers = [
        ("content-type", content_type),
        ("accept", "application/x-ndjson"),
    ];
    let sent = request(Method::POST, path, &headers, body);
    let reply = send(service(), sent).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    lines(&reply.text)
}

fn outcomes(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| {
            row["label"]
                .as_str()
                .or(row["error"]["code"].as_str())
                .expect("a result")
        })
        .collect()
}

#[tokio::test]
async fn rows_of_csv_are_never_another_text() {
    const PATH: &str = "/v1/sentiment";
    let cut = "id,text\n1,Great phone, but it broke\n2,I hate it,,\n3\n";
    let rows = rows_of(PATH, "text/csv", cut).await;
    assert_eq!(
        outcomes(&rows),
        ["column_count", "negative", "column_count"]
    );
    let message = rows[0]["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("line 2: the row has 3 columns; expected 2"),
        "{message}"
    );
    let unclosed = "id,text\n1,\"I love this phone\n2,awful service\n3,good one\n";
    assert_eq!(
        outcomes(&rows_of(PATH, "text/csv", unclosed).await),
        ["unclosed_quote"]
    );
    for (path, media, body) in [
        (PATH, "text/csv", "id;text\n1;I hate it, awful\n"),
        (
            PATH,
            "text/csv",
            "sep=;\r\nid;text\r\n1;I hate it, awful\r\n",
        ),
        (PATH, "text/csv; header=absent", "I hate it\n"),
        (
            "/v1/sentiment?header=absent&delimiter=%3B",
            "text/csv",
            "1;I hate it, awful\n",
        ),
        (
            "/v1/sentiment?delimiter=tab&field=b",
            "text/csv",
            "a;,b\tb\n1\tI hate it\n",
        ),
        ("/v1/sentiment?format=text", "text/plain", "I hate it\r"),
        (
            "/v1/sentiment?field=/a/0",
            "application/x-ndjson",
            "[{\"a\":[\"I hate it\"]}]",
        ),
        (
            PATH,
            "text/tab-separated-values",
            "id\ttext\n1\tI hate \"it\n",
        ),
        (PATH, "text/csv", "text\n\"I hate \\\"it\\\", awful\"\n"),
    ] {
        assert_eq!(
            outcomes(&rows_of(path, media, body).await),
            ["negative"],
            "{body}"
        );
    }
}

#[tokio::test]
async fn ids_keep_their_digits() {
    let body = "{\"text\":\"a\",\"id\":18446744073709551616}\n";
    let reply = send(instant(&[]), post_as("application/x-ndjson", body)).await;
    assert!(
        reply.text.contains("\"id\":18446744073709551616,"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn what_is_no_rows_is_refused_once() {
    for (path, body, code) in [
        (
            "/v1/sentiment",
            &b"PK\x03\x04\x14\0\x06\0xl/"[..],
            "unsupported_media_type",
        ),
        ("/v1/sentiment", b"one,two\na,b\nc,d\n", "missing_field"),
        (
            "/v1/sentiment?header=absent",
            b"1;great\n2;awful\n",
            "unknown_delimiter",
        ),
    ] {
        let rows = rows_of(path, "text/csv", body).await;
        assert_eq!(
            (outcomes(&rows), &rows[0]["row"]),
            (vec![code], &Value::Null)
        );
    }
    for query in ["header=perhaps", "delimiter=ab", "format=xml"] {
        let path = format!("/v1/sentiment?{query}");
        let sent = request(
            Method::POST,
            &path,
            &[("content-type", "text/csv")],
            "text\na\n",
        );
        let reply = send(instant(&[]), sent).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["error"]["code"]),
            (400, &json!("invalid_parameter"))
        );
    }
}

#[tokio::test]
async fn ten_thousand_rows_and_none_is_lost() {
    let rows = (0..10_000).map(|i| format!("{{\"text\":\"post {i}\",\"id\":{i}}}\n"));
    let body = rows.collect::<Vec<_>>().concat();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body.as_bytes())
        .expect("a Vec takes everything");
    let gzip = gzip.finish().expect("a Vec takes everything");
    // The queue has room for a few chunks only.
    let app = instant(&["--max-posts", "50", "--max-pending-posts", "50"]);
    for (encoding, body) in [("identity", body.into_bytes()), ("gzip", gzip)] {
        let headers = [
            ("content-type", "application/jsonl"),
            ("content-encoding", encoding),
        ];
        let all = request(Method::POST, "/v1/sentiment", &headers, body);
        let rows = lines(&send(app.clone(), all).await.text);
        assert_eq!(rows.len(), 10_000);
        for (i, row) in rows.iter().enumerate() {
            assert_eq!((&row["row"], &row["id"]), (&json!(i + 1), &json!(i)));
            assert!(row["label"].is_string(), "{row}");
        }
    }
}

#[tokio::test]
async fn results_come_before_the_last_row_is_sent() {
    let (pieces, body) = mpsc::unbounded_channel();
    let sent = post_as("application/x-ndjson", Body::new(Piped(body)));
    let reply = instant(&[])
        .oneshot(sent)
        .await
        .unwrap_or_else(|e: Infallible| match e {});
    let mut reply = reply.into_body();
    let mut next = async || {
        let frame = reply.frame().await.expect("not the end").expect("no error");
        lines(std::str::from_utf8(&frame.into_data().expect("data")).expect("UTF-8"))
    };
    for i in 1..4 {
        let row = Bytes::from(format!("\"post {i}\"\n\"cut in the mid"));
        pieces.send(Ok(row)).expect("it is read");
        assert_eq!(next().await[0]["row"], json!(2 * i - 1));
        pieces.send(Ok(Bytes::from("dle\"\n"))).expect("it is read");
        assert_eq!(next().await[0]["row"], json!(2 * i));
    }
    // What breaks off says so behind what was scored.
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    pieces.send(Err(broken)).expect("it is read");
    let last = next().await;
    assert_eq!(
        last[0],
        json!({"error": {
            "code": "incomplete_body",
            "message": "the body ended early or was malformed; send it again in full",
        }})
    );
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_stream() {
    let (state, gate) = stalled(limits(&[]));
    let (pieces, body) = mpsc::unbounded_channel();
    let sent = post_as("application/x-ndjson", Body::new(Piped(body)));
    let reply = app(state)
        .oneshot(sent)
        .await
        .unwrap_or_else(|e: Infallible| match e {});
    pieces
        .send(Ok(Bytes::from("\"post\"\n".repeat(500))))
        .expect("it is read");
    drop(reply);
    gate.open();
    // Whoever read the body stops doing so, sooner or later.
    while pieces.send(Ok(Bytes::from("\"post\"\n"))).is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn encodings_that_are_not_what_they_say() {
    for (media, expected) in [("application/json", 400), ("application/x-ndjson", 200)] {
        let headers = [("content-type", media), ("content-encoding", "gzip")];
        let plain = request(Method::POST, "/v1/sentiment", &headers, "\"not gzip\"\n");
        let reply = send(instant(&[]), plain).await;
        // A stream has begun by then, so that the error is its last row.
        assert_eq!(reply.status, expected);
        let last = lines(&reply.text).pop().expect("a line");
        assert_eq!(last["error"]["code"], "invalid_encoding");
    }
}

fn zstd(window_log: Option<u32>) -> zstd::Encoder<'static, Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("known");
    if let Some(log) = window_log {
        encoder.window_log(log).expect("known");
    }
    encoder
}

#[tokio::test]
async fn a_body_without_rows_lets_others_run() {
    let mut encoder = zstd(None);
    encoder
        .write_all(&vec![b'\n'; 4 << 20])
        .expect("a Vec takes everything");
    let body = encoder.finish().expect("a Vec takes everything");
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "zstd"),
    ];
    let others = async {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    };
    let blank = request(Method::POST, "/v1/sentiment", &headers, body);
    tokio::select! {
        reply = send(instant(&[]), blank) => panic!("nobody else came to run: {reply:?}"),
        () = others => {}
    }
}

/// A stream that stalls after its first row, and the line that comes.
async fn stall(
    app: &Router,
    window_log: Option<u32>,
) -> (UnboundedSender<Result<Bytes, std::io::Error>>, Body, Value) {
    let mut encoder = zstd(window_log);
    encoder
        .write_all(b"\"post\"\n")
        .expect("a Vec takes everything");
    encoder.flush().expect("a Vec takes everything");
    let (pieces, body) = mpsc::unbounded_channel();
    let mut sent = post_as("application/x-ndjson", Body::new(Piped(body)));
    let encoding = "zstd".parse().expect("a value");
    sent.headers_mut().insert("content-encoding", encoding);
    let sent_by_now = Bytes::from(encoder.get_ref().clone());
    pieces.send(Ok(sent_by_now)).expect("it is read");
    let reply = app.clone().oneshot(sent).await;
    let mut reply = reply.unwrap_or_else(|e: Infallible| match e {}).into_body();
    let frame = reply.frame().await.expect("a line").expect("no error");
    let line = frame.into_data().expect("data");
    let line = lines(std::str::from_utf8(&line).expect("UTF-8")).remove(0);
    (pieces, reply, line)
}

#[tokio::test]
async fn windows_of_streams_have_a_limit_together() {
    let app = instant(&["--max-pending-bytes", "20000000"]);
    let first = stall(&app, Some(23)).await;
    let second = stall(&app, Some(23)).await;
    assert_eq!((&first.2["row"], &second.2["row"]), (&json!(1), &json!(1)));
    let (_, _, refused) = stall(&app, Some(23)).await;
    assert_eq!(refused["error"]["code"], "overloaded");
    let held = async || {
        let metrics = send(app.clone(), get("/metrics")).await.text;
        let held = "coldread_pending_bodies_bytes ";
        let held = metrics.lines().find_map(|line| line.strip_prefix(held));
        held.and_then(|bytes| bytes.parse().ok()).expect("a number")
    };
    assert!((16_u64 << 20..20_000_000).contains(&held().await));
    drop((first, second));
    while held().await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        stall(&app, Some(23)).await.2["row"],
        1,
        "there is room again"
    );

    let no_room = instant(&["--max-pending-bytes", "1000"]);
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "gzip"),
    ];
    let gzip = request(Method::POST, "/v1/sentiment", &headers, "");
    assert_eq!(send(no_room, gzip).await.status, 429);
}

#[tokio::test]
async fn a_dozen_ordinary_compressed_streams_have_room() {
    let app = instant(&[]);
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(stall(&app, None).await);
    }
    assert!(streams.iter().all(|(_, _, line)| line["row"] == 1));
}

#[tokio::test]
async fn errors_of_rows_are_counted() {
    let app = instant(&[]);
    let body = "\"good\"\n\"\"\n{}\n5\n";
    send(app.clone(), post_as("application/x-ndjson", body)).await;
    let metrics = send(app, get("/metrics")).await.text;
    for line in [
        "coldread_errors_total{code=\"empty_text\"} 1",
        "coldread_errors_total{code=\"missing_field\"} 2",
    ] {
        assert!(metrics.lines().any(|is| is == line), "{metrics}");
    }
}

/// A body whose reader fails in a way that nobody thought of.
struct Panics;

impl axum::body::HttpBody for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("in the middle");
    }
}

#[tokio::test]
async fn a_reader_that_panics_does_not_end_the_body() {
    let sent = post_as("application/x-ndjson", Body::new(Panics));
    let reply = send(instant(&[]), sent).await;
    assert_eq!(lines(&reply.text)[0]["error"]["code"], "internal");
}
