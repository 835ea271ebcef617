//! The real binary as a server on a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process; it dies with the test at the latest.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(env: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_coldread"))
            .arg("serve")
            .env_remove("AWS_LAMBDA_RUNTIME_API")
            .env("COLDREAD_ADDR", "127.0.0.1:0")
            .env("COLDREAD_LOG", "warn")
            .env_remove("COLDREAD_MODEL")
            // Machines that run tests can be slow.
            .env("COLDREAD_DRAIN_GRACE_MS", "300000")
            .env("COLDREAD_REQUEST_TIMEOUT_MS", "300000")
            .env("COLDREAD_MAX_QUEUE_WAIT_MS", "300000")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("one line");
        let addr = line.trim_end().strip_prefix("listening on http://");
        let addr = addr
            .unwrap_or_else(|| panic!("not an address: {line:?}"))
            .to_owned();
        Self {
            process,
            stdout,
            addr,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.addr).expect("the server accepts");
        stream
            .set_read_timeout(Some(Duration::from_mins(5)))
            .expect("a timeout");
        stream
    }

    fn terminate(&self) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has usually ended by now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const HEAD: &str =
    "POST /v1/sentiment HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
const BODY: &str = r#"{"text":"I love this, what a wonderful day!"}"#;

/// Everything up to the end of the connection.
fn read_all(mut stream: TcpStream) -> String {
    let mut reply = String::new();
    stream
        .read_to_string(&mut reply)
        .expect("a reply, then the end");
    reply
}

#[test]
fn what_was_accepted_is_answered_before_the_server_stops() {
    let mut server = Server::start();
    let length = BODY.len();
    // Half a request now, and the rest after the signal.
    let mut accepted = server.connect();
    let (first, second) = BODY.split_at(10);
    write!(accepted, "{HEAD}content-length: {length}\r\n\r\n{first}").expect("sent");
    // An idle connection must not hold the server up.
    let mut idle = server.connect();
    write!(idle, "GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    let mut byte = [0; 1];
    idle.read_exact(&mut byte).expect("the answer begins");
    std::thread::sleep(Duration::from_millis(200));

    let stopped = Instant::now();
    server.terminate();
    // The socket is closed once the signal has been seen.
    while TcpStream::connect(&server.addr).is_ok() {
        assert!(
            stopped.elapsed() < Duration::from_secs(5),
            "still accepting"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    write!(accepted, "{second}").expect("sent");
    let reply = read_all(accepted);
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains(r#""label":"positive""#), "{reply}");

    let status = server.process.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(
        stopped.elapsed() < Duration::from_mins(4),
        "idle connections hold nothing up"
    );
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).expect("readable");
    assert_eq!(rest, "", "one line is all it prints");
}

#[test]
fn under_load_nothing_that_was_accepted_is_lost() {
    let mut server = Server::start();
    let body = r#"{"texts":["good","bad"]}"#;
    let length = body.len();
    // Far more than are answered by the time of the signal; some are still in the
    // kernel's backlog.
    let accepted: Vec<TcpStream> = (0..24)
        .map(|_| {
            let mut stream = server.connect();
            write!(stream, "{HEAD}content-length: {length}\r\n\r\n{body}").expect("sent");
            stream
        })
        .collect();
    server.terminate();
    for stream in accepted {
        let reply = read_all(stream);
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert_eq!(reply.matches(r#""scores":"#).count(), 2);
    }
    let status = server.process.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn a_body_refused_unread_does_not_cost_the_answer() {
    let server = Server::start();
    let mut stream = server.connect();
    let length = 64 << 20;
    write!(stream, "{HEAD}content-length: {length}\r\n\r\n").expect("sent");
    // A client that sends all it has before it reads.
    let piece = vec![b' '; 1 << 20];
    for _ in 0..32 {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut reply = [0; 12];
    stream
        .read_exact(&mut reply)
        .expect("the answer was not lost");
    assert_eq!(&reply, b"HTTP/1.1 413");
}

#[test]
fn what_is_not_http_ends_its_own_connection_only() {
    let server = Server::start();
    for garbage in [
        "\r\n\r\n\0\0\0",
        "GET / HTTP/1.1\r\nhost test\r\n\r\n",
        "POST /v1/sentiment HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/sentiment HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(garbage.as_bytes()).expect("sent");
        let reply = read_all(stream);
        assert!(reply.starts_with("HTTP/1.1 400 "), "{garbage:?}: {reply}");
    }
    let mut stream = server.connect();
    let close = "connection: close\r\n";
    write!(
        stream,
        "{HEAD}{close}content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
    .expect("sent");
    assert!(read_all(stream).contains(r#""label":"positive""#));
}

#[test]
fn who_has_sent_all_is_answered() {
    let server = Server::start();
    let mut stream = server.connect();
    let length = BODY.len();
    write!(stream, "{HEAD}content-length: {length}\r\n\r\n{BODY}").expect("sent");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    let reply = read_all(stream);
    assert!(reply.contains(r#""label":"positive""#), "{reply}");
}

#[test]
fn a_signal_that_comes_at_once_is_heard() {
    for _ in 0..5 {
        let mut server = Server::start();
        server.terminate();
        let status = server.process.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn nobody_works_for_who_has_left() {
    let server = Server::start_with(&[("COLDREAD_HALF_CLOSE_MS", "1")]);
    let body = format!("{{\"texts\":[\"good\"{}]}}", r#","good""#.repeat(999));
    let mut leaves = server.connect();
    write!(leaves, "{HEAD}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    drop(leaves);
    let gone = r#"coldread_errors_total{code="caller_gone"} 1"#;
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let mut metrics = server.connect();
        let head = "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        write!(metrics, "{head}").expect("sent");
        let metrics = read_all(metrics);
        if metrics.contains(gone) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn slow_clients_are_not_waited_for() {
    let server = Server::start_with(&[
        ("COLDREAD_HEAD_TIMEOUT_MS", "300"),
        ("COLDREAD_BODY_TIMEOUT_MS", "300"),
    ]);
    let mut head = server.connect();
    write!(head, "POST /v1/sentiment HTTP/1.1\r\nhost:").expect("sent");
    assert!(!read_all(head).contains("200 OK"));
    let mut body = server.connect();
    write!(body, "{HEAD}content-length: 100\r\n\r\n{{").expect("sent");
    let reply = read_all(body);
    assert!(
        reply.starts_with("HTTP/1.1 408 ") && reply.contains("request_timeout"),
        "{reply}"
    );
    // Of rows what has come is answered all the same.
    let mut rows = server.connect();
    let head = HEAD.replace("application/json", "application/x-ndjson");
    write!(
        rows,
        "{head}transfer-encoding: chunked\r\n\r\n7\r\n\"good\"\n\r\n"
    )
    .expect("sent");
    let reply = read_all(rows);
    assert!(reply.contains(r#"{"row":1,"label":"#), "{reply}");
    assert!(
        reply.contains(r#"{"error":{"code":"request_timeout""#),
        "{reply}"
    );
}

#[test]
fn bodies_that_are_not_what_they_say() {
    let server = Server::start_with(&[("COLDREAD_BODY_TIMEOUT_MS", "2000")]);
    let length = BODY.len();
    // What lies beyond the declared length is no request.
    let mut longer = server.connect();
    write!(
        longer,
        "{HEAD}content-length: {length}\r\n\r\n{BODY}, and more\r\n\r\n"
    )
    .expect("sent");
    let reply = read_all(longer);
    assert!(
        reply.starts_with("HTTP/1.1 200 ") && reply.contains("HTTP/1.1 400 "),
        "{reply}"
    );
    let mut shorter = server.connect();
    let declared = length + 1;
    write!(shorter, "{HEAD}content-length: {declared}\r\n\r\n{BODY}").expect("sent");
    shorter
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    let reply = read_all(shorter);
    assert!(
        reply.starts_with("HTTP/1.1 400 ") && reply.contains("incomplete_body"),
        "{reply}"
    );
    let mut large = server.connect();
    let text = "a".repeat(5 << 20);
    let declared = text.len();
    write!(
        large,
        "{HEAD}connection: close\r\ncontent-length: {declared}\r\n\r\n"
    )
    .expect("sent");
    // It is refused before it is read.
    let _ = large.write_all(text.as_bytes());
    assert!(read_all(large).starts_with("HTTP/1.1 413 "));
}

#[test]
fn clients_that_leave_take_nothing_with_them() {
    let server = Server::start();
    for rows in [false, true] {
        for _ in 0..4 {
            let mut stream = server.connect();
            let media = if rows {
                "application/x-ndjson"
            } else {
                "application/json"
            };
            let head = HEAD.replace("application/json", media);
            let body = if rows {
                "\"good\"\n".repeat(20)
            } else {
                BODY.to_owned()
            };
            write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
        }
    }
    let mut stream = server.connect();
    let length = BODY.len();
    write!(
        stream,
        "{HEAD}connection: close\r\ncontent-length: {length}\r\n\r\n{BODY}"
    )
    .expect("sent");
    assert!(read_all(stream).contains(r#""label":"positive""#));
}
