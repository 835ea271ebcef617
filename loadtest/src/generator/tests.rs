//! The client against servers that behave and that do not.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::arrivals::Schedule;
use crate::arrivals::process::Process;

fn args() -> ClientOptions {
    ClientOptions {
        path: "/v1/sentiment".to_owned(),
        posts: None,
        batch: 1,
        headers: Vec::new(),
        connections: 8,
        client_threads: 1,
        timeout: Duration::from_secs(5),
    }
}

fn open(process: &str, ms: u64) -> Load {
    Load::Open(Schedule::from_process(
        process.parse::<Process>().unwrap(),
        Duration::from_millis(ms),
    ))
}

#[test]
fn an_open_loop_sends_every_request_it_planned() {
    let two_threads = ClientOptions {
        client_threads: 2,
        ..args()
    };
    let measured = null_server::loopback(&two_threads, &open("constant:500", 200)).unwrap();
    assert_eq!((measured.sent, measured.ok), (100, 100));
    assert!(measured.faults.is_empty(), "{:?}", measured.faults);
    assert!(measured.schedule_error.is_some());
    assert!(measured.connections <= 8, "{}", measured.connections);
}

#[test]
fn a_closed_loop_keeps_one_connection_a_caller() {
    let load = Load::Closed {
        callers: 3,
        length: Duration::from_millis(100),
    };
    let measured = null_server::loopback(&args(), &load).unwrap();
    assert!(measured.ok >= 3);
    assert_eq!(measured.sent, measured.ok);
    assert_eq!(measured.connections, 3);
    assert!(measured.schedule_error.is_none() && measured.kept_schedule);
}

/// Answers every connection's requests with `answers` in turn, then closes.
fn scripted(answers: &'static [&'static str], sleep: Duration) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            for answer in answers {
                let mut request = [0; 4_096];
                if stream.read(&mut request).unwrap_or(0) == 0 {
                    break;
                }
                std::thread::sleep(sleep);
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    url
}

#[test]
fn latency_counts_from_the_intended_time() {
    // One connection, 50 ms a response, ten requests due at once within 10 ms: the
    // last one waits for all before it.
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let url = scripted(&[OK; 20], Duration::from_millis(50));
    let one = ClientOptions {
        connections: 1,
        ..args()
    };
    let client = Client::new(&one, &url, 1, true).unwrap();
    let measured = client.run(&open("constant:1000", 10), "", 1).unwrap();
    assert_eq!(measured.ok, 10);
    assert!(
        measured.latency_ms.max >= 450.0,
        "{:?}",
        measured.latency_ms
    );
    assert!(
        measured.latency_ms.p50 >= 200.0,
        "{:?}",
        measured.latency_ms
    );
}

#[test]
fn faults_are_counted_by_kind() {
    let busy = scripted(
        &["HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"],
        Duration::ZERO,
    );
    let broken = scripted(&["HTTP/9"], Duration::ZERO);
    let hasty = ClientOptions {
        timeout: Duration::from_millis(50),
        ..args()
    };
    let silent = scripted(&[""; 100], Duration::ZERO);
    for (url, kind) in [
        (busy.as_str(), "status 429"),
        (broken.as_str(), "connection broken"),
        (silent.as_str(), "no response in time"),
        ("http://127.0.0.1:1", "no connection"),
    ] {
        let client = Client::new(&hasty, url, 1, true).unwrap();
        let measured = client.run(&open("constant:100", 50), "", 1).unwrap();
        assert_eq!(measured.ok, 0, "{kind}");
        assert_eq!(measured.faults.get(kind), Some(&5), "{:?}", measured.faults);
    }
}

#[test]
fn a_bad_address_is_refused_and_no_header_value_is_shown() {
    for url in ["", "localhost:80", "ftp://x", "http://"] {
        assert!(Client::new(&args(), url, 1, true).is_err(), "{url}");
    }
    for header in [
        "secret-without-colon",
        "bad name: secret",
        "x: secret\u{7f}",
    ] {
        let bad = ClientOptions {
            headers: vec![header.to_owned()],
            ..args()
        };
        let error = Client::new(&bad, "http://localhost:1", 1, true)
            .err()
            .unwrap();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }
}
