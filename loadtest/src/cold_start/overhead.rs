//! What the harness itself adds to a response: a client of a few lines answers events
//! at once, so that nearly all that is measured is the harness and the loopback.

use crate::runtime_api::{Identity, RuntimeApi};
use crate::stats::median;
use anyhow::{Context, Result};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const EVENTS: usize = 200;

/// The first ones meet cold code.
const UNCOUNTED: usize = 50;

/// Median time in milliseconds from an event's delivery to its response, with a function
/// that does nothing.
pub(super) async fn measure() -> Result<f64> {
    let api = RuntimeApi::bind(Identity {
        function_arn: "arn:aws:lambda:us-east-1:123456789012:function:nothing".to_owned(),
    })
    .await?;
    let addr = api.addr();
    let client = tokio::task::spawn_blocking(move || answer_all(addr));
    let mut times_ms = Vec::new();
    for number in 0..EVENTS {
        let event = Bytes::from_static(b"{}");
        let submitted = api.submit(event, Duration::from_mins(1));
        let answer = tokio::time::timeout(Duration::from_secs(10), submitted.answer)
            .await
            .context("the harness does not respond to itself")??;
        if number >= UNCOUNTED {
            times_ms.push(answer.answered.ms_since(answer.delivered));
        }
        // As on Lambda, the next event finds the poll open.
        api.polled().await;
    }
    drop(api);
    // Its connection is closed, which ends it.
    let _ = client.await;
    median(&times_ms).context("nothing was measured")
}

fn answer_all(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let base = "/2018-06-01/runtime/invocation";
    loop {
        write!(stream, "GET {base}/next HTTP/1.1\r\nhost: {addr}\r\n\r\n")?;
        let id = reply(&mut reader)?;
        let head = format!("POST {base}/{id}/response HTTP/1.1\r\nhost: {addr}\r\n");
        stream.write_all(format!("{head}content-length: 2\r\n\r\n{{}}").as_bytes())?;
        reply(&mut reader)?;
    }
}

/// Reads a reply whole, and tells the request id in its head.
fn reply(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut length, mut id) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(("lambda-runtime-aws-request-id", value)) => value.clone_into(&mut id),
            None if line.trim_end().is_empty() => break,
            Some(_) | None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_harness_can_answer_itself() {
        assert!(measure().await.unwrap() > 0.0);
    }
}
