//! `POST /v1/sentiment` with rows: results are streamed in order, as soon as they are ready and
//! in constant memory.
//!
//! Rows are read as they arrive and sent to the batcher in small chunks, one after another, so
//! that a stream gets the share of one request. At most one chunk is read ahead, so a slow model
//! slows the client down (backpressure) and does not fill the server's memory. A row without a
//! valid post gets an error in its place. If the body breaks off, the last row is an error.
//!
//! A stream has three tasks, joined by short channels: one decodes the body and parses rows, one
//! has them scored and writes the results, and the connection's task sends them.

use super::decode::Decoder;
use super::error::ApiError;
use super::memory_limit::MemoryPermit;
use super::request_telemetry::{StreamStats, record_stream};
use super::state::AppState;
use crate::batcher::{Batcher, RequestOptions, ScoredPosts};
use crate::error::InferError;
use crate::rows::{
    Header, InputError, OptionalColumns, ROWS_PER_READ, ResultFormat, ResultWriter, Row, RowError,
    RowFailure, RowFormat, RowId, RowOptions, RowReader, parse_delimiter,
};
use crate::scorer::ScoredPost;
use crate::telemetry::StageTimings;
use crate::wire::ErrorBody;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Query;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

/// Rows that are scored together: fewer would lower latency, more would improve batching.
const ROWS_PER_CHUNK: usize = ROWS_PER_READ;

/// Chunks that are read ahead, so that the next is ready when one is done.
const CHUNKS_AHEAD: usize = 1;

/// How long to wait before trying again when the queue is full. A stream that was admitted is
/// slowed down, not rejected.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The formats in which rows are read and written.
pub(super) struct Formats {
    options: RowOptions,
    output: ResultFormat,
}

impl Formats {
    /// Decides from the query and the headers of a request; `None` if its body has no rows.
    ///
    /// `?format=` takes precedence over the content type, and other query parameters over the
    /// content type's parameters.
    pub(super) fn from_request(
        uri: &Uri,
        headers: &HeaderMap,
        by_content_type: Option<RowFormat>,
        max_post_bytes: usize,
    ) -> Result<Option<Self>, ApiError> {
        let query: Query<Vec<(String, String)>> = Query::try_from_uri(uri).map_err(|_| {
            ApiError::InvalidParameter(
                "the query string is not valid; percent-encode special characters",
            )
        })?;
        let parameter = |name: &str| {
            let pair = query
                .0
                .iter()
                .find(|(key, value)| key == name && !value.is_empty());
            pair.map(|(_, value)| value.as_str())
        };
        let format = match parameter("format") {
            Some(name) => Some(name.parse().map_err(|()| {
                ApiError::InvalidParameter("`format` must be `text`, `jsonl`, `csv` or `tsv`")
            })?),
            None => by_content_type,
        };
        let Some(format) = format else {
            return Ok(None);
        };
        let mut options = RowOptions::new(format, max_post_bytes);
        options.field = parameter("field").map(str::to_owned);
        options.delimiter = parameter("delimiter")
            .map(|name| {
                parse_delimiter(name).ok_or(ApiError::InvalidParameter(
                    "`delimiter` must be one ASCII character, or `tab`",
                ))
            })
            .transpose()?;
        let header = parameter("header").map(str::to_owned);
        options.header = match header.or_else(|| content_type_parameter(headers, "header")) {
            None => Header::Present,
            Some(header) => match header.to_ascii_lowercase().as_str() {
                "present" => Header::Present,
                "absent" => Header::Absent,
                _ => {
                    return Err(ApiError::InvalidParameter(
                        "`header` must be `present` or `absent`",
                    ));
                }
            },
        };
        let by_input = match format {
            RowFormat::Text | RowFormat::Json => ResultFormat::JsonLines,
            RowFormat::Csv | RowFormat::Tsv => ResultFormat::Csv,
        };
        let output = accepted_format(headers).unwrap_or(by_input);
        Ok(Some(Self { options, output }))
    }
}

/// A parameter of the content type, such as `header=absent` (RFC 4180).
fn content_type_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let is_match = key.trim().eq_ignore_ascii_case(name);
        is_match.then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The row format in the `Accept` header, if any.
fn accepted_format(headers: &HeaderMap) -> Option<ResultFormat> {
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

/// Streams a result for each row of `body`.
pub(super) fn respond(
    app: &AppState,
    body: Body,
    decoder: Decoder,
    formats: &Formats,
    request_options: RequestOptions,
) -> Response {
    let mut body = BodyReader {
        app: app.clone(),
        body,
        frame: Bytes::new(),
        permit: app.0.memory.permit(),
        decoder,
    };
    if let Err(error) = body.grow_permit() {
        return app.adjust_for_shutdown(error).into_response();
    }
    let (chunks, read_ahead) = mpsc::channel(CHUNKS_AHEAD);
    let reader = RowReader::new(&formats.options);
    let reading = tokio::spawn(read(body, reader, chunks));
    let writer = StreamWriter::new(
        formats.output,
        app.batcher(),
        request_options.post.detect_language,
    );
    let results = StreamedBody::written_by(|output| {
        let writing = write(
            app.clone(),
            writer,
            request_options,
            read_ahead,
            reading,
            output,
        );
        writing.instrument(Span::current())
    });
    let content_type = HeaderValue::from_static(content_type(formats.output));
    ([(CONTENT_TYPE, content_type)], Body::new(results)).into_response()
}

/// Some rows, or the error that ended the body early.
enum Chunk {
    Rows(Vec<Row>),
    Error(ApiError),
}

/// Reads the body to its end, as fast as chunks are received.
async fn read(mut body: BodyReader, mut reader: RowReader, chunks: mpsc::Sender<Chunk>) {
    let read = read_all(&mut body, &mut reader, &chunks).await;
    if let Err(ReadError::Body(error)) = read {
        // Fails only if the receiver is gone.
        let _ = chunks.send(Chunk::Error(error)).await;
    }
}

/// Why reading stopped before the end of the body.
enum ReadError {
    Body(ApiError),
    /// The receiver of the rows is gone.
    ReceiverGone,
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self::Body(error)
    }
}

impl From<InputError> for ReadError {
    fn from(error: InputError) -> Self {
        Self::Body(error.into())
    }
}

async fn read_all(
    body: &mut BodyReader,
    reader: &mut RowReader,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), ReadError> {
    while let Some(piece) = body.next().await? {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            // Rows are never held back until there are more.
            send(reader.read(&mut rest)?, chunks).await?;
        }
        // A few compressed bytes can expand to very many that contain no row.
        tokio::task::yield_now().await;
    }
    send(reader.finish()?, chunks).await
}

/// The first read can return more rows than fit into a chunk.
async fn send(rows: Vec<Row>, chunks: &mpsc::Sender<Chunk>) -> Result<(), ReadError> {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let some = rows.by_ref().take(ROWS_PER_CHUNK).collect();
        let sent = chunks.send(Chunk::Rows(some)).await;
        sent.map_err(|_| ReadError::ReceiverGone)?;
    }
    Ok(())
}

/// Decodes a body no faster than its pieces are consumed.
struct BodyReader {
    app: AppState,
    body: Body,
    /// What has arrived and is not decoded yet.
    frame: Bytes,
    decoder: Decoder,
    /// For the decoder's memory, for as long as the stream lasts.
    permit: MemoryPermit,
}

impl BodyReader {
    /// Grows the permit to what the decoder holds.
    fn grow_permit(&mut self) -> Result<(), ApiError> {
        self.permit.grow_to(self.decoder.held_bytes())
    }

    /// The next piece of the body; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let timeout = Duration::from_millis(self.app.limits().body_timeout_ms.get());
        loop {
            if let Some(piece) = self.decoder.step(&mut self.frame)? {
                self.grow_permit()?;
                return Ok(Some(piece));
            }
            let frame = tokio::time::timeout(timeout, self.body.frame());
            let frame = self.permit.receive(frame).await?;
            let frame = frame.map_err(|_| ApiError::RequestTimeout {
                milliseconds: timeout.as_millis() as u64,
            })?;
            let Some(frame) = frame else {
                self.decoder.finish()?;
                return Ok(None);
            };
            // Trailers are ignored.
            if let Ok(data) = frame.map_err(|_| ApiError::IncompleteBody)?.into_data() {
                self.permit.received(data.len());
                self.frame = data;
            }
        }
    }
}

/// Scores the posts of `rows` as soon as the queue has room for them.
async fn score(
    app: &AppState,
    rows: &mut [Row],
    request_options: RequestOptions,
) -> Result<ScoredPosts, InferError> {
    let posts = rows.iter_mut().filter_map(|row| row.post.as_mut().ok());
    let posts: Vec<String> = posts.map(std::mem::take).collect();
    let timeout = Duration::from_millis(app.limits().request_timeout_ms.get());
    let latest = Instant::now() + timeout;
    let deadline = request_options
        .deadline
        .map_or(latest, |requested| requested.min(latest));
    let request_options = RequestOptions {
        deadline: Some(deadline),
        ..request_options
    };
    let bytes = posts.iter().map(String::len).sum();
    loop {
        let permit = memory_permit(app, bytes);
        let is_last_try = Instant::now() + RETRY_INTERVAL >= deadline;
        if is_last_try || (permit.is_some() && !app.batcher().is_full()) {
            let scored = app.batcher().classify(posts, request_options).await?;
            let metrics = app.batcher().metrics();
            metrics.stages(scored.results.len(), &scored.stages);
            return Ok(scored);
        }
        drop(permit);
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

fn memory_permit(app: &AppState, bytes: usize) -> Option<MemoryPermit> {
    let mut permit = app.0.memory.permit();
    permit.grow(bytes).ok().map(|()| permit)
}

/// Has rows scored and writes their results until the end or until the client disconnects.
/// Then logs the stream, because the request's own log line was written before the first row.
async fn write(
    app: AppState,
    mut writer: StreamWriter,
    request_options: RequestOptions,
    chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    output: mpsc::Sender<Bytes>,
) {
    let began = Instant::now();
    let mut stages = StageTimings::default();
    let ended = tokio::select! {
        ended = write_all(&app, &mut writer, request_options, chunks, reading, &output, &mut stages) => ended,
        () = output.closed() => Err(ApiError::ClientDisconnected),
    };
    let RowCounts {
        rows,
        posts,
        errors,
    } = writer.counts;
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

/// Fails with the error that ended the stream early.
async fn write_all(
    app: &AppState,
    writer: &mut StreamWriter,
    request_options: RequestOptions,
    mut chunks: mpsc::Receiver<Chunk>,
    reading: JoinHandle<()>,
    output: &mpsc::Sender<Bytes>,
    stages: &mut StageTimings,
) -> Result<(), ApiError> {
    let mut ended = Ok(());
    let send = async |bytes: Bytes| {
        let sent = output.send(bytes).await;
        sent.map_err(|_| ApiError::ClientDisconnected)
    };
    let head = writer.take();
    if !head.is_empty() {
        send(head).await?;
    }
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Chunk::Rows(mut rows) => {
                let scored = score(app, &mut rows, request_options).await;
                if let Ok(scored) = &scored {
                    stages.add(&scored.stages);
                }
                writer.rows(&rows, scored);
                send(writer.take()).await?;
            }
            Chunk::Error(error) => ended = Err(app.adjust_for_shutdown(error)),
        }
    }
    if reading.await.is_err() {
        ended = Err(ApiError::panicked());
    }
    if let Err(error) = &ended {
        writer.final_error(error);
        send(writer.take()).await?;
    }
    ended
}

/// Writes results and counts them.
struct StreamWriter {
    results: ResultWriter,
    batcher: Batcher,
    counts: RowCounts,
}

/// What has been written so far.
#[derive(Debug, Default, Clone, Copy)]
struct RowCounts {
    /// All rows of the input.
    rows: u64,
    /// Rows whose post was scored.
    posts: u64,
    /// Rows with an error, including one for a body that ended early.
    errors: u64,
}

impl StreamWriter {
    fn new(format: ResultFormat, batcher: &Batcher, has_language: bool) -> Self {
        let optional = OptionalColumns {
            language: has_language,
            model: batcher.models().len() > 1,
        };
        Self {
            results: ResultWriter::new(format, Arc::clone(batcher.model()), optional),
            batcher: batcher.clone(),
            counts: RowCounts::default(),
        }
    }

    /// Takes what has been written since the last call.
    fn take(&mut self) -> Bytes {
        self.results.take().into()
    }

    /// Writes a result for each of `rows`.
    fn rows(&mut self, rows: &[Row], scored: Result<ScoredPosts, InferError>) {
        let (results, failed) = match scored {
            Ok(scored) => (scored.results, None),
            Err(error) => (Vec::new(), Some(ApiError::from(error))),
        };
        let mut results = results.into_iter();
        for row in rows {
            let result = match (&row.post, &failed) {
                (Err(error), _) => Err(RowFailure::new(row, error)),
                (Ok(_), Some(error)) => Err(failure(error)),
                (Ok(_), None) => match results.next() {
                    Some(Ok(post)) => Ok(post),
                    Some(Err(error)) => Err(RowFailure::new(row, &RowError::Post(error))),
                    None => Err(failure(&ApiError::panicked())),
                },
            };
            self.counts.rows += 1;
            self.write(Some(self.counts.rows), row.id.as_ref(), &result);
        }
    }

    /// Writes why there are no further rows.
    fn final_error(&mut self, error: &ApiError) {
        self.write(None, None, &Err(failure(error)));
    }

    fn write(
        &mut self,
        row: Option<u64>,
        id: Option<&RowId>,
        result: &Result<ScoredPost, RowFailure>,
    ) {
        match result {
            Ok(_) => self.counts.posts += 1,
            Err(error) => {
                self.counts.errors += 1;
                self.batcher.metrics().error(error.code);
            }
        }
        self.results.write(row, id, result.as_ref());
    }
}

fn failure(error: &ApiError) -> RowFailure {
    let body = ErrorBody::from_api_error(error);
    RowFailure {
        code: body.code(),
        message: body.message().to_owned(),
    }
}

/// A response body that a task writes. If the task panics, the body ends with an error, so that
/// the client does not mistake it for complete.
struct StreamedBody {
    chunks: mpsc::Receiver<Bytes>,
    /// `None` once it has ended, because the compression layer polls again after the end.
    writing: Option<JoinHandle<()>>,
}

impl StreamedBody {
    fn written_by<F>(write: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, chunks) = mpsc::channel(1);
        let writing = Some(tokio::spawn(write(sender)));
        Self { chunks, writing }
    }
}

impl HttpBody for StreamedBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        if let Some(bytes) = ready!(self.chunks.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(None);
        };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        // The panic message may quote a post, so it is not passed on.
        Poll::Ready(written.err().map(|_| Err(ApiError::panicked())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_whose_writer_panics_ends_with_an_error() {
        let mut complete = StreamedBody::written_by(async |output: mpsc::Sender<Bytes>| {
            output
                .send(Bytes::from("1\n"))
                .await
                .expect("the receiver exists");
        });
        assert!(matches!(complete.frame().await, Some(Ok(_))));
        for _ in 0..2 {
            assert!(complete.frame().await.is_none());
        }
        let mut broken = StreamedBody::written_by(async |output: mpsc::Sender<Bytes>| {
            output
                .send(Bytes::from("1\n"))
                .await
                .expect("the receiver exists");
            panic!("in the middle");
        });
        assert!(matches!(broken.frame().await, Some(Ok(_))));
        assert!(matches!(broken.frame().await, Some(Err(_))));
        assert!(broken.frame().await.is_none());
    }
}
