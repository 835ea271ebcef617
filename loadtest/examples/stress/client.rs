//! Clients that know what they have sent: for single requests, and for bad manners.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A request's head and body.
pub(crate) fn body(text: &str) -> Vec<u8> {
    let body = json!({ "text": text }).to_string();
    let length = body.len();
    format!(
        "POST /v1/sentiment HTTP/1.1\r\nhost: stress\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A connection that is kept.
pub(crate) struct Connection(BufReader<TcpStream>);

/// An answer with status 200.
pub(crate) struct Answer {
    head: String,
}

impl Connection {
    pub(crate) fn open(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.0.get_mut().write_all(request)?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.0.read_line(&mut head)? > 0, "the connection ended");
        }
        let lower = head.to_lowercase();
        let length = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let mut body = vec![0; length.context("no content-length")?.parse()?];
        self.0.read_exact(&mut body)?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Ok(Answer { head })
    }
}

impl Answer {
    /// A stage of its `Server-Timing`.
    pub(crate) fn stage_ms(&self, name: &str) -> Result<f64> {
        let stage = self.head.split(&format!("{name};dur=")).nth(1);
        let stage = stage.with_context(|| format!("no stage {name}"))?;
        let end = stage.find([',', '\r']).unwrap_or(stage.len());
        Ok(stage[..end].parse()?)
    }
}

/// What became of a caller's requests.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) answered: u64,
    pub(crate) lost: u64,
}

/// Sends a request on a connection of its own, again and again, until none is accepted.
pub(crate) fn until_refused(addr: &str) -> Counted {
    let mut counted = Counted::default();
    let request = body("the meeting was moved to friday");
    while let Ok(mut connection) = Connection::open(addr) {
        match connection.ask(&request) {
            Ok(_) => counted.answered += 1,
            Err(_) => counted.lost += 1,
        }
    }
    counted
}

/// Opens connections that send a byte now and then, half of them in the head and half in
/// the body. How many the server still held three seconds after they began to.
pub(crate) fn drip(addr: &str, connections: usize, length: Duration) -> Result<usize> {
    let request = body("slow");
    let mut open = Vec::new();
    for i in 0..connections {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        // The head takes all but the last bytes.
        let sent = if i % 2 == 0 { 10 } else { request.len() - 10 };
        stream.write_all(&request[..sent])?;
        open.push((stream, sent));
    }
    let began = Instant::now();
    while began.elapsed() < length.max(Duration::from_secs(4)) {
        std::thread::sleep(Duration::from_millis(700));
        open.retain_mut(|(stream, sent)| {
            let byte = request.get(*sent..*sent + 1).unwrap_or_default();
            *sent += byte.len();
            let is_gone = stream
                .write_all(byte)
                .is_err_and(|e| e.kind() != ErrorKind::WouldBlock);
            !is_gone && !has_ended(stream)
        });
    }
    Ok(open.len())
}

/// Reads what there is; whether the server has closed the connection.
fn has_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}
