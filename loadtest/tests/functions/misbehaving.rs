//! A function that behaves as its first argument says. It speaks to the Runtime API
//! with the standard library alone, so that nothing well-behaved is in between.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

const BASE: &str = "/2018-06-01/runtime";

fn main() {
    let behaviour = env::args().nth(1).expect("a behaviour");
    println!("behaviour: {behaviour}");
    match behaviour.as_str() {
        "crash-in-init" => exit(3),
        "crash-once" => {
            // A file as its memory: the first start leaves it, the second finds it.
            let path = env::args().nth(2).expect("a file");
            if std::fs::File::create_new(path).is_ok() {
                exit(3);
            }
        }
        "init-error" => {
            post("init/error", "Function.NoModel", b"{}");
            sleep(Duration::from_mins(1));
        }
        "never-asks" => sleep(Duration::from_mins(1)),
        "restored" | "restore-error" | "restore-late" | "restore-exit" => {
            request("GET", "restore/next", "", b"");
            match behaviour.as_str() {
                "restore-error" => {
                    post(
                        "restore/error",
                        "Function.HookFailed",
                        b"{\"errorMessage\":\"hook\"}",
                    );
                    sleep(Duration::from_mins(1));
                }
                "restore-late" => sleep(Duration::from_mins(1)),
                "restore-exit" => exit(5),
                _ => {}
            }
        }
        _ => {}
    }
    let mut served = 0;
    loop {
        let id = next();
        served += 1;
        let response = format!("invocation/{id}/response");
        match behaviour.as_str() {
            "hang" => sleep(Duration::from_mins(1)),
            "exit" => exit(0),
            "exit-on-second" if served == 2 => exit(4),
            "late" => {
                sleep(Duration::from_millis(300));
                post(&response, "", b"{}");
            }
            "garbage" => post(&response, "", b"\xff{not json"),
            "streamed" => stream(&response, &[HEAD, b"{\"rows\":", b"2}"], "\r\n"),
            "streamed-without-head" => stream(&response, &[b"{\"rows\":2}"], "\r\n"),
            "streamed-much" => {
                let mebibyte = vec![b' '; 1 << 20];
                let mut chunks = vec![HEAD];
                chunks.extend([&mebibyte[..]; 7]);
                stream(&response, &chunks, "\r\n");
            }
            "streamed-then-error" => stream(
                &response,
                &[HEAD, b"{\"rows\":"],
                "lambda-runtime-function-error-type: Function.Broken\r\n\
                 lambda-runtime-function-error-body: e30=\r\n\r\n",
            ),
            "streamed-then-exit" => {
                stream(&response, &[HEAD, b"{\"rows\":"], "");
                exit(4);
            }
            "too-large" => post(&response, "", &vec![b'1'; 6 * 1024 * 1024 + 200]),
            "error" => post(
                &format!("invocation/{id}/error"),
                "Function.Broken",
                b"{\"errorMessage\":\"broken\"}",
            ),
            "hog" => hog(),
            "two-at-once" if served == 2 => {
                // Both are taken before either is answered.
                for id in [id, next()] {
                    post(&format!("invocation/{id}/response"), "", b"{}");
                }
            }
            "never-asks-again" => {
                post(&response, "", b"{}");
                sleep(Duration::from_mins(1));
            }
            "initialization-type" | "restored" => {
                let value = env::var("AWS_LAMBDA_INITIALIZATION_TYPE").unwrap_or_default();
                let pid = std::process::id();
                let answer = format!("{{\"type\":\"{value}\",\"pid\":{pid}}}");
                post(&response, "", answer.as_bytes());
            }
            "environment" => {
                let names: Vec<String> =
                    env::vars().map(|(name, _)| format!("\"{name}\"")).collect();
                post(&response, "", format!("[{}]", names.join(",")).as_bytes());
            }
            _ => {
                let pid = std::process::id();
                let answer = format!("{{\"pid\":{pid},\"served\":{served}}}");
                post(&response, "", answer.as_bytes());
            }
        }
    }
}

/// Takes memory until it is killed, or has taken more than any test allows it.
fn hog() {
    let mut taken = Vec::new();
    for _ in 0..64 {
        taken.push(vec![1_u8; 8 << 20]);
    }
    std::hint::black_box(&taken);
}

fn next() -> String {
    let (head, _) = request("GET", "invocation/next", "", b"");
    head.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("lambda-runtime-aws-request-id")
                .then(|| value.to_owned())
        })
        .expect("a request id")
}

fn post(path: &str, error_type: &str, body: &[u8]) {
    request("POST", path, error_type, body);
}

/// Status and headers of a streamed response, and what is between them and its body.
const HEAD: &[u8] = b"{\"statusCode\":200,\"headers\":{\"a\":\"b\"}}\0\0\0\0\0\0\0\0";

/// Posts a response in streaming mode, a chunk of HTTP for each of `chunks`, and `trailers`
/// behind the last one; without any the response breaks off.
fn stream(path: &str, chunks: &[&[u8]], trailers: &str) {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").expect("the address");
    let mut stream = TcpStream::connect(&api).expect("a connection");
    let head = format!(
        "POST {BASE}/{path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\
         lambda-runtime-function-response-mode: streaming\r\n\
         content-type: application/vnd.awslambda.http-integration-response\r\n\
         trailer: lambda-runtime-function-error-type\r\n\
         trailer: lambda-runtime-function-error-body\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    for chunk in chunks {
        write!(stream, "{:x}\r\n", chunk.len()).expect("sent");
        stream.write_all(chunk).expect("sent");
        stream.write_all(b"\r\n").expect("sent");
    }
    if !trailers.is_empty() {
        write!(stream, "0\r\n{trailers}").expect("sent");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn request(method: &str, path: &str, error_type: &str, body: &[u8]) -> (String, Vec<u8>) {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").expect("the address");
    let mut stream = TcpStream::connect(&api).expect("a connection");
    let length = body.len();
    let head = format!(
        "{method} {BASE}/{path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\
         lambda-runtime-function-error-type: {error_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    // A body that is refused for its length may break the connection.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let (mut head, mut body) = (String::new(), Vec::new());
    while reader.read_line(&mut head).is_ok_and(|n| n > 2) {}
    let _ = reader.read_to_end(&mut body);
    (head, body)
}
