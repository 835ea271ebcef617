//! The protocol, as a runtime of few lines sees it.

use bytes::Bytes;
use coldread_loadtest::runtime_api::{Identity, Init, InvocationOutcome, Restore, RuntimeApi};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:test";

async fn api() -> RuntimeApi {
    let function_arn = ARN.to_owned();
    RuntimeApi::bind(Identity { function_arn })
        .await
        .expect("a port")
}

/// Status line and headers in lower case, and the body.
async fn request(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // Refused before it was sent whole.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    let end = reply
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
    (head, reply[end + 4..].to_vec())
}

async fn status(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let (head, body) = request(addr, method, path, body).await;
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    format!("{status} {}", String::from_utf8_lossy(&body).trim())
}

fn header(head: &str, name: &str) -> String {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .to_owned()
}

#[tokio::test]
async fn an_event_is_delivered_and_answered() {
    let mut api = api().await;
    let event = Bytes::from_static(b"{\"n\":1}");
    let submitted = api.submit(event.clone(), Duration::from_secs(3));
    let (head, body) = request(
        api.addr(),
        "GET",
        "/2018-06-01/runtime/invocation/next",
        b"",
    )
    .await;
    assert!(matches!(api.init().await, Init::Ready(_)));
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, event);
    let id = header(&head, "lambda-runtime-aws-request-id");
    assert_eq!(id, submitted.request_id);
    assert_eq!(header(&head, "lambda-runtime-invoked-function-arn"), ARN);
    assert_eq!(header(&head, "content-type"), "application/json");
    assert!(header(&head, "lambda-runtime-trace-id").starts_with("root=1-"));
    let deadline: u64 = header(&head, "lambda-runtime-deadline-ms")
        .parse()
        .expect("a number");
    assert!(deadline > 1_700_000_000_000, "{deadline}");

    let path = format!("/2018-06-01/runtime/invocation/{id}/response");
    assert_eq!(
        status(api.addr(), "POST", &path, b"[1]").await,
        "202 {\"status\":\"OK\"}"
    );
    let answer = submitted.answer.await.expect("answered");
    assert_eq!(
        answer.outcome,
        InvocationOutcome::Response(Bytes::from_static(b"[1]"))
    );
    assert!(answer.answered > answer.delivered);
    let again = status(api.addr(), "POST", &path, b"[2]").await;
    assert!(
        again.starts_with("403 ") && again.contains("InvalidStateTransition"),
        "{again}"
    );
}

#[tokio::test]
async fn only_what_was_delivered_can_be_answered() {
    let api = api().await;
    let submitted = api.submit(Bytes::from_static(b"{}"), Duration::from_secs(3));
    for id in [&submitted.request_id, "unknown"] {
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        assert_eq!(
            status(api.addr(), "POST", &path, b"{}").await,
            "400 {\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}"
        );
    }
}

#[tokio::test]
async fn an_init_error_ends_init() {
    let mut api = api().await;
    let path = "/2018-06-01/runtime/init/error";
    let said = status(api.addr(), "POST", path, b"{\"errorMessage\":\"no model\"}").await;
    assert_eq!(said, "202 {\"status\":\"OK\"}");
    let Init::Failed(_, error_type, body) = api.init().await else {
        panic!("init has failed");
    };
    assert_eq!(error_type, "Unhandled");
    assert_eq!(&body[..], b"{\"errorMessage\":\"no model\"}");
    let again = status(api.addr(), "POST", path, b"{}").await;
    assert!(again.starts_with("403 "), "{again}");
}

#[tokio::test]
async fn six_megabytes_are_the_limit() {
    const MOST: usize = 6 * 1024 * 1024 + 100;
    let api = api().await;
    for (length, expected) in [(MOST, "202 "), (MOST + 1, "413 ")] {
        let submitted = api.submit(Bytes::from_static(b"{}"), Duration::from_secs(3));
        request(
            api.addr(),
            "GET",
            "/2018-06-01/runtime/invocation/next",
            b"",
        )
        .await;
        let path = format!(
            "/2018-06-01/runtime/invocation/{}/response",
            submitted.request_id
        );
        let said = status(api.addr(), "POST", &path, &vec![b'1'; length]).await;
        assert!(said.starts_with(expected), "{said}");
        let too_large =
            submitted.answer.await.expect("answered").outcome == InvocationOutcome::TooLarge;
        assert_eq!(too_large, length > MOST);
    }
}

#[tokio::test]
async fn a_broken_poll_takes_no_event_with_it() {
    let api = api().await;
    let mut stream = TcpStream::connect(api.addr()).await.expect("a connection");
    stream
        .write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    api.polled().await;
    drop(stream);
    // Until the server has seen the end, the event might go there.
    while tokio::time::timeout(Duration::from_millis(1), api.polled())
        .await
        .is_ok()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    api.submit(Bytes::from_static(b"\"event\""), Duration::from_secs(3));
    let (_, body) = request(
        api.addr(),
        "GET",
        "/2018-06-01/runtime/invocation/next",
        b"",
    )
    .await;
    assert_eq!(body, b"\"event\"");
}

#[tokio::test]
async fn what_is_no_route_is_refused() {
    let api = api().await;
    for (method, path, expected) in [
        ("GET", "/", "404 "),
        ("GET", "/2018-06-01/nothing", "404 "),
        ("GET", "/2018-06-01/ping", "200 pong"),
        ("POST", "/2018-06-01/runtime/invocation/next", "405 "),
        ("GET", "/2018-06-01/runtime/invocation/x/response", "405 "),
        ("DELETE", "/2018-06-01/runtime/init/error", "405 "),
    ] {
        let said = status(api.addr(), method, path, b"").await;
        assert!(said.starts_with(expected), "{method} {path}: {said}");
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_connection() {
    let api = api().await;
    let mut stream = TcpStream::connect(api.addr()).await.expect("a connection");
    for _ in 0..3 {
        let head = "POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nhost: x\r\n";
        stream.write_all(head.as_bytes()).await.expect("still open");
        let length = "content-length: 2\r\n\r\n";
        stream
            .write_all(length.as_bytes())
            .await
            .expect("still open");
        // The head alone must not be answered.
        tokio::time::sleep(Duration::from_millis(1)).await;
        stream.write_all(b"{}").await.expect("still open");
        let mut reply = [0; 1024];
        let n = stream.read(&mut reply).await.expect("a reply");
        assert!(reply[..n].starts_with(b"HTTP/1.1 400"), "closed");
    }
}

/// `restore/next` ends the init phase and waits; what comes after it is the restore.
#[tokio::test]
async fn a_snapshot_is_restored_when_it_has_asked() {
    let identity = || Identity {
        function_arn: ARN.to_owned(),
    };
    let mut api = RuntimeApi::bind_for_snapshot(identity())
        .await
        .expect("a port");
    let path = "/2018-06-01/runtime/restore/next";
    let asking = tokio::spawn(request(api.addr(), "GET", path, b""));
    assert!(matches!(api.init().await, Init::Snapshot(_)));
    // Once is enough, and nothing has failed yet.
    let again = status(api.addr(), "GET", path, b"").await;
    assert!(
        again.starts_with("403 ") && again.contains("InvalidStateTransition"),
        "{again}"
    );
    let error = "/2018-06-01/runtime/restore/error";
    for (path, expected) in [(error, "403 "), (path, "405 ")] {
        let said = status(api.addr(), "POST", path, b"{}").await;
        assert!(said.starts_with(expected), "{path}: {said}");
    }
    assert!(!asking.is_finished());

    let ended = api.restore();
    let (head, body) = asking.await.expect("it ends");
    assert!(
        head.starts_with("http/1.1 200") && body.is_empty(),
        "{head}"
    );
    api.submit(Bytes::from_static(b"{}"), Duration::from_secs(3));
    let next = "/2018-06-01/runtime/invocation/next";
    assert!(
        status(api.addr(), "GET", next, b"")
            .await
            .starts_with("200 ")
    );
    assert!(matches!(ended.await, Ok(Restore::Ready(_))));

    let mut api = RuntimeApi::bind_for_snapshot(identity())
        .await
        .expect("a port");
    let asking = tokio::spawn(request(api.addr(), "GET", path, b""));
    assert!(matches!(api.init().await, Init::Snapshot(_)));
    let ended = api.restore();
    asking.await.expect("it ends");
    let said = status(api.addr(), "POST", error, b"{\"n\":1}").await;
    assert!(said.starts_with("202 "), "{said}");
    let Ok(Restore::Failed(_, error_type, posted)) = ended.await else {
        panic!("the restore has failed");
    };
    assert_eq!(
        (error_type.as_str(), &posted[..]),
        ("Unhandled", &b"{\"n\":1}"[..])
    );
}

#[tokio::test]
async fn without_snapstart_there_is_nothing_to_restore() {
    let api = api().await;
    for (method, path, expected) in [
        ("GET", "/2018-06-01/runtime/restore/next", "404 "),
        ("POST", "/2018-06-01/runtime/restore/error", "404 "),
        ("POST", "/2018-06-01/runtime/restore/next", "404 "),
    ] {
        let said = status(api.addr(), method, path, b"").await;
        assert!(said.starts_with(expected), "{method} {path}: {said}");
    }
}
