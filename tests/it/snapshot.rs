//! A snapshot that is restored more than once: what is random or unique is not in it.

use crate::lambda_runtime::{Running, spawn_function};
use crate::process_image::Image;
use crate::support::event;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Each restore of a function serves on a thread that has drawn nothing before: the keys of
/// its hash maps are its own.
#[tokio::test]
async fn a_restored_function_draws_its_own_hash_keys() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let function = spawn_function(addr, &[("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")]);
    // The connection that both restores are told on.
    let (mut restore, _) = listener.accept().await.expect("it connects");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        restore.read_buf(&mut request).await.expect("a request");
    }
    let path = b"GET /2018-06-01/runtime/restore/next ";
    assert!(request.starts_with(path), "{request:?}");
    let process = function.id();
    let mut function = Running::new(function, listener);
    // Dropped before the function, whose end is its tracer's to see first.
    let image = Image::take(process);

    let mut replies = Vec::new();
    for _ in 0..2 {
        let copy = image.restore();
        let restored = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        restore.write_all(restored).await.expect("sent");
        function.open_polls(1).await;
        function.send(event("rest_prod"));
        let (how, reply) = function.outcome().await;
        assert_eq!(
            (how.as_str(), &reply["statusCode"]),
            ("response", &200.into())
        );
        assert_ne!(copy.random_draws(), 0, "its keys are those of the snapshot");
        let scores = reply["body"].as_str().expect("a body").to_owned();
        replies.push(scores);
        // The next event is not for this one.
        function.open_polls(1).await;
        drop(copy);
        function.open_polls(0).await;
    }
    assert_eq!(replies[0], replies[1], "each restore scores alike");
}

/// A server in a virtual machine that is restored from a snapshot after its first request.
#[test]
fn restored_servers_give_their_requests_ids_of_their_own() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_coldread"))
        .arg("serve")
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .env_remove("COLDREAD_MODEL")
        .env("COLDREAD_ADDR", "127.0.0.1:0")
        .env("COLDREAD_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    let addr = line.trim_end().strip_prefix("listening on http://");
    let addr = addr.expect("the address").parse().expect("an address");

    let (before, _) = score(addr);
    let image = Image::take(server.id());
    let (mut ids, mut scores) = (vec![before], Vec::new());
    for _ in 0..2 {
        let _copy = image.restore();
        for _ in 0..2 {
            let (id, body) = score(addr);
            ids.push(id);
            scores.push(body["scores"].clone());
        }
    }
    assert!(scores[0].is_object(), "{scores:?}");
    assert!(scores.iter().all(|body| *body == scores[0]), "{scores:?}");
    for (place, id) in ids.iter().enumerate() {
        assert!(!ids[..place].contains(id), "{id} is there twice: {ids:?}");
    }
    drop(image);
    server.wait().expect("killed");
}

/// Scores a post: the id of the request, and the response's body.
fn score(addr: SocketAddr) -> (String, Value) {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let body = r#"{"text":"what a lovely day"}"#;
    let length = body.len();
    write!(
        stream,
        "POST /v1/sentiment HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "));
    let body = serde_json::from_str(body).expect("JSON");
    (id.expect("an id").to_owned(), body)
}
