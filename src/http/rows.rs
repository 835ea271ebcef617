//! `POST /v1/sentiment` with rows: rows in, results out as they are ready, in order and in
//! constant memory.
//!
//! Rows are read as they arrive and cut into small requests to the batcher, one after
//! another, so that a stream has the share of one request and no more. Little is read
//! beyond the one under way: a slow model slows the sender down and not the service. A row
//! that is no post has an error in its place; a body that breaks off, an error as the last
//! row.
//!
//! A stream is three tasks with room for little between them: one decodes and cuts into
//! rows, one has these scored and writes, and the connection's sends what was written.

use super::decode::Decoder;
use super::error::ApiError;
use super::memory_limit::MemoryPermit;
use super::request_telemetry::{StreamStats, record_stream};
use super::state::AppState;
use crate::batcher::{BatchResponse, Batcher, RequestOptions};
use crate::error::InferError;
use crate::rows::{
    Failure, Header, InputError, ROWS_PER_READ, ResultFormat, ResultWriter, Row, RowError,
    RowFormat, RowId, RowOptions, RowReader, parse_delimiter,
};
use crate::telemetry::StageTimings;
use crate::wire::ErrorBody;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Query;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use coldread_engine::Sentiment;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

/// Rows that are scored together. Fewer would answer sooner, more would batch better.
const ROWS_PER_CHUNK: usize = ROWS_PER_READ;

/// Chunks that are read ahead, for the next to be there when one is done.
const CHUNKS_AHEAD: usize = 1;

/// How long to wait for room when the queue is full. A stream that was let in is slowed
/// down, not broken off.
const PAUSE: Duration = Duration::from_millis(20);

/// How rows are read and written.
pub(super) struct Formats {
    options: RowOptions,
    output: ResultFormat,
}

impl Formats {
    /// What the query and the headers of a request say; `None` if its body is no rows.
    ///
    /// `?format=` wins over the content type, and what else the query says over the content
    /// type's parameters.
    pub(super) fn from_request(
        uri: &Uri,
        headers: &HeaderMap,
        by_content_type: Option<RowFormat>,
        max_post_bytes: usize,
    ) -> Result<Option<Self>, ApiError> {
        let query: Query<Vec<(String, String)>> = Query::try_from_uri(uri)
            .map_err(|_| ApiError::InvalidParameter("the query is not readable"))?;
        let asked = |name: &str| {
            let pair = query
                .0
                .iter()
                .find(|(key, value)| key == name && !value.is_empty());
            pair.map(|(_, value)| value.as_str())
        };
        let format = match asked("format") {
            Some(name) => Some(name.parse().map_err(|()| {
                ApiError::InvalidParameter("`format` must be text, jsonl, csv or tsv")
            })?),
            None => by_content_type,
        };
        let Some(format) = format else {
            return Ok(None);
        };
        let mut options = RowOptions::new(format, max_post_bytes);
        options.field = asked("field").map(str::to_owned);
        options.delimiter = asked("delimiter")
            .map(|name| {
                parse_delimiter(name).ok_or(ApiError::InvalidParameter(
                    "`delimiter` must be one character of ASCII, or `tab`",
                ))
            })
            .transpose()?;
        let header = asked("header").map(str::to_owned);
        options.header = match header.or_else(|| content_type_parameter(headers, "header")) {
            None => Header::Present,
            Some(header) => match header.to_ascii_lowercase().as_str() {
                "present" => Header::Present,
                "absent" => Header::Absent,
                _ => {
                    return Err(ApiError::InvalidParameter(
                        "`header` must be present or absent",
                    ));
                }
            },
        };
        let by_input = match format {
            RowFormat::Text | RowFormat::Json => ResultFormat::JsonLines,
            RowFormat::Csv | RowFormat::Tsv => ResultFormat::Csv,
        };
        let output = accepted(headers).unwrap_or(by_input);
        Ok(Some(Self { options, output }))
    }
}

/// A parameter of the content type, such as `header=absent` (RFC 4180).
fn content_type_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A format that the client asks for, if it asks for one of rows.
fn accepted(headers: &HeaderMap) -> Option<ResultFormat> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|media| {
        let essence = media.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/csv" => Some(ResultFormat::Csv),
            "application/x-ndjson" | "application/ndjson" => Some(ResultFormat::JsonLines),
            _ => None,
        }
    })
}

fn content_type(format: ResultFormat) -> &'static str {
    match format {
        ResultFormat::JsonLines => "application/x-ndjson",
        ResultFormat::Csv => "text/csv; charset=utf-8; header=present",
    }
}

/// Answers with a row of results for each row of `body`.
pub(super) fn respond(
    app: &AppState,
    body: Body,
    decoder: Decoder,
    formats: &Formats,
    request_options: RequestOptions,
) -> Response {
    let mut source = Source {
        app: app.clone(),
        body,
        frame: Bytes::new(),
        share: app.0.memory.permit(),
        decoder,
    };
    if let Err(error) = source.hold() {
        return app.rejection(error).into_response();
    }
    let (chunks, read_ahead) = mpsc::channel(CHUNKS_AHEAD);
    let reader = RowReader::new(&formats.options);
    let reading = tokio::spawn(read(source, reader, chunks));
    let writer = Writer::new(formats.output, app.batcher());
    let answer = Lines::written_by(|lines| {
        let written = write(
            app.clone(),
            writer,
            request_options,
            read_ahead,
            reading,
            lines,
        );
        written.instrument(Span::current())
    });
    let content_type = HeaderValue::from_static(content_type(formats.output));
    ([(CONTENT_TYPE, content_type)], Body::new(answer)).into_response()
}

/// Some rows, or what ended the body before its time.
enum Chunk {
    Rows(Vec<Row>),
    Broken(ApiError),
}

/// Reads the body to its end, as fast as chunks are taken.
async fn read(mut source: Source, mut reader: RowReader, chunks: mpsc::Sender<Chunk>) {
    let read = read_all(&mut source, &mut reader, &chunks).await;
    if let Err(Stopped::Broken(error)) = read {
        // Whoever would read it has gone, otherwise.
        let _ = chunks.send(Chunk::Broken(error)).await;
    }
}

/// Why reading ended before the body did.
enum Stopped {
    Broken(ApiError),
    /// Nobody takes the rows.
    Gone,
}

impl From<ApiError> for Stopped {
    fn from(error: ApiError) -> Self {
        Self::Broken(error)
    }
}

impl From<InputError> for Stopped {
    fn from(error: InputError) -> Self {
        Self::Broken(error.into())
    }
}

async fn read_all(
    source: &mut Source,
    reader: &mut RowReader,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), Stopped> {
    while let Some(piece) = source.next().await? {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            // Few rows that came together are never held back for more.
            send(reader.read(&mut rest)?, chunks).await?;
        }
        // A few bytes can stand for very many that are no row.
        tokio::task::yield_now().await;
    }
    send(reader.finish()?, chunks).await
}

/// The first bytes of an input can be more rows than are scored together.
async fn send(rows: Vec<Row>, chunks: &mpsc::Sender<Chunk>) -> Result<(), Stopped> {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let some = rows.by_ref().take(ROWS_PER_CHUNK).collect();
        let sent = chunks.send(Chunk::Rows(some)).await;
        sent.map_err(|_| Stopped::Gone)?;
    }
    Ok(())
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
    request_options: RequestOptions,
) -> Result<BatchResponse, InferError> {
    let posts = rows.iter_mut().filter_map(|row| row.post.as_mut().ok());
    let posts: Vec<String> = posts.map(std::mem::take).collect();
    let longest = Duration::from_millis(app.limits().request_timeout_ms.get());
    let patience = Instant::now() + longest;
    let deadline = request_options
        .deadline
        .map_or(patience, |asked| asked.min(patience));
    let request_options = RequestOptions {
        deadline: Some(deadline),
        ..request_options
    };
    let bytes = posts.iter().map(String::len).sum();
    loop {
        let room = room(app, bytes);
        let is_last = Instant::now() + PAUSE >= deadline;
        if is_last || (room.is_some() && !app.batcher().is_full()) {
            let answer = app.batcher().classify(posts, request_options).await?;
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
    request_options: RequestOptions,
    chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    lines: mpsc::Sender<Bytes>,
) {
    let began = Instant::now();
    let mut stages = StageTimings::default();
    let ended = tokio::select! {
        ended = write_all(&app, &mut writer, request_options, chunks, reading, &lines, &mut stages) => ended,
        () = lines.closed() => Err(ApiError::ClientDisconnected),
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
    request_options: RequestOptions,
    mut chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    lines: &mpsc::Sender<Bytes>,
    stages: &mut StageTimings,
) -> Result<(), ApiError> {
    let mut ended = Ok(());
    let send = async |bytes: Bytes| {
        let sent = lines.send(bytes).await;
        sent.map_err(|_| ApiError::ClientDisconnected)
    };
    let head = writer.take();
    if !head.is_empty() {
        send(head).await?;
    }
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Chunk::Rows(mut rows) => {
                let answer = score(app, &mut rows, request_options).await;
                if let Ok(answer) = &answer {
                    stages.add(&answer.stages);
                }
                writer.rows(&rows, answer);
                send(writer.take()).await?;
            }
            Chunk::Broken(error) => ended = Err(app.rejection(error)),
        }
    }
    if reading.await.is_err() {
        ended = Err(ApiError::panicked());
    }
    if let Err(error) = &ended {
        writer.broken(error);
        send(writer.take()).await?;
    }
    ended
}

/// Writes results and counts them.
struct Writer {
    results: ResultWriter,
    batcher: Batcher,
    tally: Tally,
}

/// What was written by now.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    /// Rows, counted from 1.
    rows: u64,
    /// Those that were scored.
    posts: u64,
    /// Errors: of the others, and what ended the body before its time.
    errors: u64,
}

impl Writer {
    fn new(format: ResultFormat, batcher: &Batcher) -> Self {
        Self {
            results: ResultWriter::new(format, batcher.model().labels.clone()),
            batcher: batcher.clone(),
            tally: Tally::default(),
        }
    }

    /// What was written since it was last taken.
    fn take(&mut self) -> Bytes {
        self.results.take().into()
    }

    /// Writes a row of results for each of `rows`.
    fn rows(&mut self, rows: &[Row], answer: Result<BatchResponse, InferError>) {
        let (results, failed) = match answer {
            Ok(answer) => (answer.results, None),
            Err(error) => (Vec::new(), Some(ApiError::from(error))),
        };
        let mut results = results.into_iter();
        for row in rows {
            let result = match (&row.post, &failed) {
                (Err(error), _) => Err(Failure::of_row(row, error)),
                (Ok(_), Some(error)) => Err(failure(error)),
                (Ok(_), None) => match results.next() {
                    Some(Ok(sentiment)) => Ok(sentiment),
                    Some(Err(error)) => Err(Failure::of_row(row, &RowError::Post(error))),
                    None => Err(failure(&ApiError::panicked())),
                },
            };
            self.tally.rows += 1;
            self.line(Some(self.tally.rows), row.id.as_ref(), &result);
        }
    }

    /// Writes why there are no further rows.
    fn broken(&mut self, error: &ApiError) {
        self.line(None, None, &Err(failure(error)));
    }

    fn line(&mut self, row: Option<u64>, id: Option<&RowId>, result: &Result<Sentiment, Failure>) {
        match result {
            Ok(_) => self.tally.posts += 1,
            Err(error) => {
                self.tally.errors += 1;
                self.batcher.metrics().error(error.code);
            }
        }
        self.results.write(row, id, result.as_ref());
    }
}

fn failure(error: &ApiError) -> Failure {
    let body = ErrorBody::from_api_error(error);
    Failure {
        code: body.code(),
        message: body.message().to_owned(),
    }
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
