//! `POST /v1/sentiment` with NDJSON or CSV: rows in, results out as they are ready, in
//! order and in constant memory.
//!
//! Rows are read as they arrive and cut into small requests to the batcher, of which a
//! few are under way at a time. Nothing is read further while those wait, so that a
//! slow model slows the sender down and not the service. A row that is no post has an
//! error in its place; a body that breaks off, an error as the last row.

mod input;
mod output;

pub(super) use output::Format;

use super::AppState;
use super::body::{Decoder, Share};
use super::error::{ApiError, ErrorBody};
use crate::batcher::{Answer, Terms};
use crate::error::InferError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use input::{Row, RowReader};
use output::Writer;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Rows that are scored together. Fewer would answer sooner, more would batch better.
const ROWS_PER_CHUNK: usize = 32;

/// Chunks under way at a time: enough to keep a worker busy while results are written.
const CHUNKS_IN_FLIGHT: usize = 3;

/// How long to wait for room when the queue is full. A stream that was let in is slowed
/// down, not broken off.
const PAUSE: Duration = Duration::from_millis(20);

/// Answers with a row of results for each row of `body`.
pub(super) fn respond(
    app: &AppState,
    body: Body,
    decoder: Decoder,
    formats: (Format, Format),
    terms: Terms,
) -> Response {
    let (input, output) = formats;
    let (lines, receiver) = mpsc::channel(1);
    let (chunks, scored) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let writer = Writer::new(output, app.batcher().model());
    tokio::spawn(write(writer, scored, lines));
    let reader = RowReader::new(input, app.batcher().max_post_bytes());
    tokio::spawn(read(app.clone(), body, decoder, reader, terms, chunks));
    let content_type = HeaderValue::from_static(output.content_type());
    let body = Body::new(Lines(receiver));
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Rows on their way through the batcher, or what ended the body before its time.
enum Chunk {
    Rows(Scoring),
    Broken(ApiError),
}

/// A task that ends with whoever waits for it.
struct Scoring(JoinHandle<Scored>);

impl Drop for Scoring {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Rows, and the answer to those of them that are posts.
struct Scored {
    rows: Vec<Row>,
    answer: Result<Answer, InferError>,
}

/// Reads the body to its end, as fast as chunks are taken.
async fn read(
    app: AppState,
    body: Body,
    decoder: Decoder,
    mut reader: RowReader,
    terms: Terms,
    chunks: mpsc::Sender<Chunk>,
) {
    let mut source = Source {
        app: &app,
        body,
        decoder,
    };
    loop {
        let next = source.next(&mut reader).await;
        let mut rows = reader.take();
        // A part of the rows that came together is never held back for more.
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(ROWS_PER_CHUNK));
            let task = tokio::spawn(score(app.clone(), rows, terms));
            if chunks.send(Chunk::Rows(Scoring(task))).await.is_err() {
                return;
            }
            rows = rest;
        }
        match next {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Whoever would read it has gone, otherwise.
                let _ = chunks.send(Chunk::Broken(error)).await;
                return;
            }
        }
    }
}

struct Source<'a> {
    app: &'a AppState,
    body: Body,
    decoder: Decoder,
}

impl Source<'_> {
    /// Reads the next piece of the body; false at its end.
    async fn next(&mut self, reader: &mut RowReader) -> Result<bool, ApiError> {
        let timeout = Duration::from_millis(self.app.limits().body_timeout_ms.get());
        let frame = tokio::time::timeout(timeout, self.body.frame()).await;
        let frame = frame.map_err(|_| ApiError::RequestTimeout {
            milliseconds: timeout.as_millis() as u64,
        })?;
        let Some(frame) = frame else {
            self.decoder.finish(|piece| {
                reader.push(piece);
                Ok(())
            })?;
            reader.finish();
            return Ok(false);
        };
        let Ok(data) = frame.map_err(|_| ApiError::IncompleteBody)?.into_data() else {
            return Ok(true);
        };
        self.decoder.push(&data, |piece| {
            reader.push(piece);
            Ok(())
        })?;
        Ok(true)
    }
}

/// Scores the posts among `rows`, as soon as there is room for them.
async fn score(app: AppState, mut rows: Vec<Row>, terms: Terms) -> Scored {
    let posts: Vec<String> = rows.iter_mut().filter_map(Row::take_post).collect();
    let longest = Duration::from_millis(app.limits().request_timeout_ms.get());
    let patience = Instant::now() + longest;
    let deadline = terms.deadline.map_or(patience, |asked| asked.min(patience));
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let bytes = posts.iter().map(String::len).sum();
    let answer = loop {
        let room = room(&app, bytes);
        let is_last = Instant::now() + PAUSE >= deadline;
        if is_last || (room.is_some() && !app.batcher().is_full()) {
            break app.batcher().classify(posts, terms).await;
        }
        drop(room);
        tokio::time::sleep(PAUSE).await;
    };
    if let Ok(answer) = &answer {
        app.batcher()
            .metrics()
            .stages(answer.results.len(), &answer.stages);
    }
    Scored { rows, answer }
}

fn room(app: &AppState, bytes: usize) -> Option<Share> {
    let mut share = app.0.bodies.share();
    share.grow(bytes).ok().map(|()| share)
}

/// Writes results in the order of their rows.
async fn write(mut writer: Writer, mut scored: mpsc::Receiver<Chunk>, lines: mpsc::Sender<Bytes>) {
    let head = writer.take();
    if !head.is_empty() && lines.send(head).await.is_err() {
        return;
    }
    while let Some(chunk) = scored.recv().await {
        match chunk {
            Chunk::Rows(mut scoring) => match (&mut scoring.0).await {
                Ok(Scored { rows, answer }) => writer.rows(&rows, answer),
                Err(_) => writer.broken(&ErrorBody::of(&ApiError::panicked())),
            },
            Chunk::Broken(error) => writer.broken(&ErrorBody::of(&error)),
        }
        // The caller has gone, and with it every reason to go on.
        if lines.send(writer.take()).await.is_err() {
            return;
        }
    }
}

/// A body of what comes through a channel.
struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
