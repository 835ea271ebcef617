//! `POST /v1/sentiment` with NDJSON or CSV: rows in, results out as they are ready, in
//! order and in constant memory.
//!
//! Rows are read as they arrive and cut into small requests to the batcher, one after
//! another, so that a stream has the share of one request and no more. Little is read
//! beyond the one under way: a slow model slows the sender down and not the service. A row
//! that is no post has an error in its place; a body that breaks off, an error as the last
//! row.
//!
//! A stream is three tasks with room for little between them: one decodes and cuts into
//! rows, one has these scored and writes, and the connection's sends what was written.

mod input;
mod output;

pub(super) use output::Format;
#[cfg(test)]
pub(super) use output::Line;

use super::AppState;
use super::decode::Decoder;
use super::error::{ApiError, ErrorBody};
use super::memory_limit::MemoryPermit;
use super::request_telemetry::{StreamStats, record_stream};
use crate::batcher::{BatchResponse, RequestOptions};
use crate::error::InferError;
use crate::telemetry::StageTimings;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use input::{Row, RowReader};
use output::{Tally, Writer};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

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
    terms: RequestOptions,
) -> Response {
    let (input, output) = formats;
    let mut source = Source {
        app: app.clone(),
        body,
        frame: Bytes::new(),
        share: app.0.memory.permit(),
        decoder,
    };
    if let Err(error) = source.hold() {
        return app.refusal(error).into_response();
    }
    let (chunks, read_ahead) = mpsc::channel(CHUNKS_AHEAD);
    let reader = RowReader::new(input, app.batcher().max_post_bytes());
    let reading = tokio::spawn(read(source, reader, chunks));
    let writer = Writer::new(output, app.batcher());
    let answer = Lines::written_by(|lines| {
        let written = write(app.clone(), writer, terms, read_ahead, reading, lines);
        written.instrument(Span::current())
    });
    let content_type = HeaderValue::from_static(output.content_type());
    ([(CONTENT_TYPE, content_type)], Body::new(answer)).into_response()
}

/// Some rows, or what ended the body before its time.
enum Chunk {
    Rows(Vec<Row>),
    Broken(ApiError),
}

/// Reads the body to its end, as fast as chunks are taken.
async fn read(mut source: Source, mut reader: RowReader, chunks: mpsc::Sender<Chunk>) {
    loop {
        let piece = match source.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                let last = reader.finish();
                if !last.is_empty() {
                    // Whoever would read it has gone, otherwise; here and below.
                    let _ = chunks.send(Chunk::Rows(last)).await;
                }
                return;
            }
            Err(error) => {
                let _ = chunks.send(Chunk::Broken(error)).await;
                return;
            }
        };
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let rows = reader.read(&mut rest);
            // Few rows that came together are never held back for more.
            if !rows.is_empty() && chunks.send(Chunk::Rows(rows)).await.is_err() {
                return;
            }
        }
        // A few bytes can stand for very many that are no row.
        tokio::task::yield_now().await;
    }
}

/// A body that is decoded no faster than it is read.
struct Source {
    app: AppState,
    body: Body,
    /// What has come of it and is not decoded yet.
    frame: Bytes,
    decoder: Decoder,
    /// What the decoder holds, for as long as the stream lasts.
    share: MemoryPermit,
}

impl Source {
    /// Takes what the decoder has come to hold.
    fn hold(&mut self) -> Result<(), ApiError> {
        self.share.grow_to(self.decoder.held_bytes())
    }

    /// The next piece of the body; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let timeout = Duration::from_millis(self.app.limits().body_timeout_ms.get());
        loop {
            if let Some(piece) = self.decoder.step(&mut self.frame)? {
                self.hold()?;
                return Ok(Some(piece));
            }
            let frame = tokio::time::timeout(timeout, self.body.frame());
            let frame = self.share.receive(frame).await?;
            let frame = frame.map_err(|_| ApiError::RequestTimeout {
                milliseconds: timeout.as_millis() as u64,
            })?;
            let Some(frame) = frame else {
                self.decoder.finish()?;
                return Ok(None);
            };
            // Trailers say nothing that is of use here.
            if let Ok(data) = frame.map_err(|_| ApiError::IncompleteBody)?.into_data() {
                self.share.received(data.len());
                self.frame = data;
            }
        }
    }
}

/// Scores the posts among `rows`, as soon as there is room for them.
async fn score(
    app: &AppState,
    rows: &mut [Row],
    terms: RequestOptions,
) -> Result<BatchResponse, InferError> {
    let posts: Vec<String> = rows.iter_mut().filter_map(Row::take_post).collect();
    let longest = Duration::from_millis(app.limits().request_timeout_ms.get());
    let patience = Instant::now() + longest;
    let deadline = terms.deadline.map_or(patience, |asked| asked.min(patience));
    let terms = RequestOptions {
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

fn room(app: &AppState, bytes: usize) -> Option<MemoryPermit> {
    let mut share = app.0.memory.permit();
    share.grow(bytes).ok().map(|()| share)
}

/// Has rows scored and writes their results, until the caller leaves, and says what was
/// done: the request's own line was written when the first row was yet to come.
async fn write(
    app: AppState,
    mut writer: Writer,
    terms: RequestOptions,
    chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    lines: mpsc::Sender<Bytes>,
) {
    let began = Instant::now();
    let mut stages = StageTimings::default();
    let ended = tokio::select! {
        ended = write_all(&app, &mut writer, terms, chunks, reading, &lines, &mut stages) => ended,
        () = lines.closed() => Err(ApiError::CallerGone),
    };
    let Tally {
        rows,
        posts,
        errors,
    } = writer.tally;
    let stats = StreamStats {
        code: ended.err().map(|error| error.status_and_code().1),
        rows,
        posts,
        errors,
        stages,
        took: began.elapsed(),
    };
    record_stream(&app, &stats);
}

/// Fails with what ended the stream before its time.
async fn write_all(
    app: &AppState,
    writer: &mut Writer,
    terms: RequestOptions,
    mut chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    lines: &mpsc::Sender<Bytes>,
    stages: &mut StageTimings,
) -> Result<(), ApiError> {
    let mut ended = Ok(());
    let send = async |bytes: Bytes| {
        let sent = lines.send(bytes).await;
        sent.map_err(|_| ApiError::CallerGone)
    };
    let head = writer.take();
    if !head.is_empty() {
        send(head).await?;
    }
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Chunk::Rows(mut rows) => {
                let answer = score(app, &mut rows, terms).await;
                if let Ok(answer) = &answer {
                    stages.add(&answer.stages);
                }
                writer.rows(&rows, answer);
                send(writer.take()).await?;
            }
            Chunk::Broken(error) => ended = Err(app.refusal(error)),
        }
    }
    if reading.await.is_err() {
        ended = Err(ApiError::panicked());
    }
    if let Err(error) = &ended {
        writer.broken(&ErrorBody::of(error));
        send(writer.take()).await?;
    }
    ended
}

/// A body of what a task writes; if that panics, the body ends with an error, for it
/// must not be taken for whole.
struct Lines {
    lines: mpsc::Receiver<Bytes>,
    /// None once it has ended: compression asks again behind the end.
    writing: Option<JoinHandle<()>>,
}

impl Lines {
    fn written_by<F>(write: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, lines) = mpsc::channel(1);
        let writing = Some(tokio::spawn(write(sender)));
        Self { lines, writing }
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        if let Some(bytes) = ready!(self.lines.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(None);
        };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        // What it panicked with may quote a post.
        Poll::Ready(written.err().map(|_| Err(ApiError::panicked())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_whose_writer_panics_is_not_whole() {
        let mut whole = Lines::written_by(async |lines: mpsc::Sender<Bytes>| {
            lines.send(Bytes::from("1\n")).await.expect("it is read");
        });
        assert!(matches!(whole.frame().await, Some(Ok(_))));
        for _ in 0..2 {
            assert!(whole.frame().await.is_none());
        }
        let mut broken = Lines::written_by(async |lines: mpsc::Sender<Bytes>| {
            lines.send(Bytes::from("1\n")).await.expect("it is read");
            panic!("in the middle");
        });
        assert!(matches!(broken.frame().await, Some(Ok(_))));
        assert!(matches!(broken.frame().await, Some(Err(_))));
        assert!(broken.frame().await.is_none());
    }
}
