//! Results as lines of JSON or of CSV.

use super::input::{Row, RowError};
use crate::batcher::{BatchResponse, Batcher};
use crate::error::InferError;
use crate::http::api::Scored;
use crate::http::error::{ApiError, ErrorBody};
use axum::body::Bytes;
use coldread_engine::Sentiment;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// How rows are written, in a body and in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Format {
    /// A JSON value a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Writes results and counts them.
pub(super) struct Writer {
    format: Format,
    batcher: Batcher,
    pub(super) tally: Tally,
    bytes: Vec<u8>,
}

/// What was written by now.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    /// Rows, counted from 1.
    pub(super) rows: u64,
    /// Those that were scored.
    pub(super) posts: u64,
    /// Errors: of the others, and what ended the body before its time.
    pub(super) errors: u64,
}

/// A row of an answer: a post that was scored, or why it was not.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = Row))]
pub(in crate::http) struct Line<'a> {
    /// Counted from 1; missing where it is the body that broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    row: Option<u64>,
    /// The row's own, a string or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    id: Option<&'a Value>,
    #[serde(flatten)]
    result: Outcome<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
enum Outcome<'a> {
    Scored(Scored<'a>),
    Failed(ErrorBody),
}

impl Writer {
    pub(super) fn new(format: Format, batcher: &Batcher) -> Self {
        let mut writer = Self {
            format,
            batcher: batcher.clone(),
            tally: Tally::default(),
            bytes: Vec::new(),
        };
        if format == Format::Csv {
            let scores = batcher.model().labels.iter().map(String::as_str);
            let head = ["row", "id", "label", "score"].into_iter();
            writer.csv(head.chain(scores).chain(["truncated", "windows", "error"]));
        }
        writer
    }

    /// What was written since it was last taken.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }

    /// Writes a row of results for each of `rows`.
    pub(super) fn rows(&mut self, rows: &[Row], answer: Result<BatchResponse, InferError>) {
        let (results, failed) = match answer {
            Ok(answer) => (answer.results, None),
            Err(error) => (Vec::new(), Some(ApiError::from(error))),
        };
        let mut results = results.into_iter();
        for row in rows {
            let result = match (&row.post, &failed) {
                (Err(error), _) => Err(ErrorBody::new(error.code(), error.to_string())),
                (Ok(_), Some(error)) => Err(ErrorBody::of(error)),
                (Ok(_), None) => match results.next() {
                    Some(Ok(sentiment)) => Ok(sentiment),
                    Some(Err(error)) => {
                        let error = RowError::Post(error);
                        Err(ErrorBody::new(error.code(), error.to_string()))
                    }
                    None => Err(ErrorBody::of(&ApiError::panicked())),
                },
            };
            self.tally.rows += 1;
            self.line(Some(self.tally.rows), row.id.as_ref(), &result);
        }
    }

    /// Writes why there are no further rows.
    pub(super) fn broken(&mut self, error: &ErrorBody) {
        self.line(None, None, &Err(error.clone()));
    }

    fn line(
        &mut self,
        row: Option<u64>,
        id: Option<&Value>,
        result: &Result<Sentiment, ErrorBody>,
    ) {
        match result {
            Ok(_) => self.tally.posts += 1,
            Err(error) => {
                self.tally.errors += 1;
                self.batcher.metrics().error(error.code());
            }
        }
        let model = Arc::clone(self.batcher.model());
        match self.format {
            Format::Ndjson => {
                let result = match result {
                    Ok(sentiment) => Outcome::Scored(Scored::new(sentiment, &model.labels, None)),
                    Err(error) => Outcome::Failed(error.clone()),
                };
                let line = Line { row, id, result };
                serde_json::to_writer(&mut self.bytes, &line).expect("a Vec takes everything");
                self.bytes.push(b'\n');
            }
            Format::Csv => {
                let row = row.map(|row| row.to_string()).unwrap_or_default();
                let id = match id {
                    Some(Value::String(id)) => id.clone(),
                    Some(id) => id.to_string(),
                    None => String::new(),
                };
                let mut fields = vec![row, id];
                match result {
                    Ok(sentiment) => {
                        fields.push(model.labels[sentiment.label_index].clone());
                        fields.push(sentiment.score().to_string());
                        fields.extend(sentiment.scores.iter().map(ToString::to_string));
                        fields.push(sentiment.truncated.to_string());
                        let windows = Some(sentiment.windows).filter(|&windows| windows > 1);
                        fields.push(windows.map(|it| it.to_string()).unwrap_or_default());
                        fields.push(String::new());
                    }
                    Err(error) => {
                        fields.extend(vec![String::new(); model.labels.len() + 4]);
                        fields.push(error.code().to_owned());
                    }
                }
                self.csv(fields.iter().map(String::as_str));
            }
        }
    }

    fn csv<'a>(&mut self, fields: impl Iterator<Item = &'a str>) {
        let mut csv = csv::Writer::from_writer(&mut self.bytes);
        csv.write_record(fields).expect("a Vec takes everything");
        csv.flush().expect("a Vec takes everything");
    }
}
