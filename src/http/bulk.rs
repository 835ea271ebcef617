//! `POST /v1/sentiment` with NDJSON or CSV: rows in, results out as they are ready, in
//! order and in constant memory.
//!
//! Rows are read as they arrive and cut into small requests to the batcher, one after
//! another, so that a stream has the share of one request and no more. Little is read
//! beyond the one under way: a slow model slows the sender down and not the service. A row that is no post has an
//! error in its place; a body that breaks off, an error as the last row.

mod input;
mod output;

pub(super) use output::Format;
#[cfg(test)]
pub(super) use output::Line;

use super::AppState;
use super::body::Share;
use super::decode::Decoder;
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

/// Rows that are scored together. Fewer would answer sooner, more would batch better.
const ROWS_PER_CHUNK: usize = 32;

/// Chunks that are read ahead, for the next to be there when one is done.
const CHUNKS_AHEAD: usize = 1;

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
    let (chunks, read_ahead) = mpsc::channel(CHUNKS_AHEAD);
    let writer = Writer::new(output, app.batcher().model());
    tokio::spawn(write(app.clone(), writer, terms, read_ahead, lines));
    let reader = RowReader::new(input, app.batcher().max_post_bytes());
    tokio::spawn(read(app.clone(), body, decoder, reader, chunks));
    let content_type = HeaderValue::from_static(output.content_type());
    let body = Body::new(Lines(receiver));
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Some rows, or what ended the body before its time.
enum Chunk {
    Rows(Vec<Row>),
    Broken(ApiError),
}

/// Reads the body to its end, as fast as chunks are taken.
async fn read(
    app: AppState,
    body: Body,
    decoder: Decoder,
    mut reader: RowReader,
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
            if chunks.send(Chunk::Rows(rows)).await.is_err() {
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
async fn score(app: &AppState, rows: &mut [Row], terms: Terms) -> Result<Answer, InferError> {
    let posts: Vec<String> = rows.iter_mut().filter_map(Row::take_post).collect();
    let longest = Duration::from_millis(app.limits().request_timeout_ms.get());
    let patience = Instant::now() + longest;
    let deadline = terms.deadline.map_or(patience, |asked| asked.min(patience));
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let bytes = posts.iter().map(String::len).sum();
    loop {
        let room = room(app, bytes);
        let is_last = Instant::now() + PAUSE >= deadline;
        if is_last || (room.is_some() && !app.batcher().is_full()) {
            let answer = app.batcher().classify(posts, terms).await?;
            let metrics = app.batcher().metrics();
            metrics.stages(answer.results.len(), &answer.stages);
            return Ok(answer);
        }
        drop(room);
        tokio::time::sleep(PAUSE).await;
    }
}

fn room(app: &AppState, bytes: usize) -> Option<Share> {
    let mut share = app.0.bodies.share();
    share.grow(bytes).ok().map(|()| share)
}

/// Has rows scored and writes their results, until the caller leaves.
async fn write(
    app: AppState,
    mut writer: Writer,
    terms: Terms,
    mut chunks: mpsc::Receiver<Chunk>,
    lines: mpsc::Sender<Bytes>,
) {
    let head = writer.take();
    if !head.is_empty() && lines.send(head).await.is_err() {
        return;
    }
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Chunk::Rows(mut rows) => {
                let answer = tokio::select! {
                    answer = score(&app, &mut rows, terms) => answer,
                    () = lines.closed() => return,
                };
                writer.rows(&rows, answer);
            }
            Chunk::Broken(error) => writer.broken(&ErrorBody::of(&error)),
        }
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
