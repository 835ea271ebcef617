//! Writes results, with the same fields and columns over HTTP and on the command line.

use super::{Row, RowError, RowId};
use crate::scorer::ScoredPost;
use crate::wire::{ErrorBody, Scored, ScoredOrError, warnings};
use coldread_engine::ModelInfo;
use csv_core::WriteResult;
use serde::Serialize;
use std::sync::Arc;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFormat {
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated columns with a header.
    Csv,
}

/// The columns that CSV has only where they can say something.
#[derive(Debug, Clone, Copy, Default)]
pub struct OptionalColumns {
    /// The post's language and its warnings.
    pub language: bool,
    /// The name of the model that scored the post.
    pub model: bool,
}

/// Why a row was not scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFailure {
    /// A stable code.
    pub code: &'static str,
    /// A message that says what to do.
    pub message: String,
}

impl RowFailure {
    /// The failure of a row.
    pub fn new(row: &Row, error: &RowError) -> Self {
        Self {
            code: error.code(),
            message: error.message_at(row.line),
        }
    }
}

/// The result of one row: its scores, or why it was not scored.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = Row))]
pub struct ResultRow<'a> {
    /// The number of the row, from 1; missing if the whole input ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    row: Option<u64>,
    /// The row's own id, a string or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false, value_type = Option<serde_json::Value>))]
    id: Option<&'a RowId>,
    #[serde(flatten)]
    outcome: ScoredOrError<'a>,
}

/// Writes results into a buffer.
pub struct ResultWriter {
    format: ResultFormat,
    model: Arc<ModelInfo>,
    optional: OptionalColumns,
    csv: csv_core::Writer,
    in_row: bool,
    /// What has been written since the last [`Self::take`].
    bytes: Vec<u8>,
}

impl ResultWriter {
    /// Creates a writer for results of a model, or mostly of that model: as JSON, a result of
    /// another one names it. For CSV it writes the header.
    pub fn new(format: ResultFormat, model: Arc<ModelInfo>, optional: OptionalColumns) -> Self {
        let mut writer = Self {
            format,
            model,
            optional,
            csv: csv_core::Writer::new(),
            in_row: false,
            bytes: Vec::new(),
        };
        if format == ResultFormat::Csv {
            writer.columns(["row", "id", "label", "score"]);
            for label in &Arc::clone(&writer.model).labels {
                writer.column(label);
            }
            writer.columns(["truncated", "windows"]);
            if optional.language {
                writer.columns(["language", "language_confidence", "warnings"]);
            }
            if optional.model {
                writer.column("model");
            }
            writer.column("error");
            writer.end_row();
        }
        writer
    }

    /// Takes what has been written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Writes one result.
    pub fn write(
        &mut self,
        row: Option<u64>,
        id: Option<&RowId>,
        result: Result<&ScoredPost, &RowFailure>,
    ) {
        match self.format {
            ResultFormat::JsonLines => {
                let outcome = match result {
                    Ok(post) => ScoredOrError::Scored(Scored::in_batch(post, &self.model)),
                    Err(error) => {
                        ScoredOrError::Failed(ErrorBody::new(error.code, error.message.clone()))
                    }
                };
                let line = ResultRow { row, id, outcome };
                serde_json::to_writer(&mut self.bytes, &line)
                    .expect("writing to a Vec cannot fail");
                self.bytes.push(b'\n');
            }
            ResultFormat::Csv => {
                let number = row.map(|row| row.to_string()).unwrap_or_default();
                self.column(&number);
                self.column(id.map(RowId::as_str).unwrap_or_default());
                match result {
                    Ok(post) => self.scores(post),
                    Err(error) => {
                        let language = if self.optional.language { 3 } else { 0 };
                        let model = usize::from(self.optional.model);
                        for _ in 0..self.model.labels.len() + 4 + language + model {
                            self.column("");
                        }
                        self.column(error.code);
                    }
                }
                self.end_row();
            }
        }
    }

    fn scores(&mut self, post: &ScoredPost) {
        let ScoredPost {
            sentiment,
            language,
        } = post;
        self.column(sentiment.label());
        self.column(&sentiment.score().to_string());
        for score in &sentiment.scores {
            self.column(&score.to_string());
        }
        let windows = Some(sentiment.windows).filter(|&windows| windows > 1);
        let windows = windows.map(|it| it.to_string()).unwrap_or_default();
        let truncated = sentiment.truncated.to_string();
        self.columns([&truncated, &windows]);
        if self.optional.language {
            let code = language.map_or("", |it| it.language.code);
            let confidence = language.map(|it| it.language.confidence.to_string());
            let warnings = warnings(*language).join(" ");
            self.columns([code, &confidence.unwrap_or_default(), &warnings]);
        }
        if self.optional.model {
            self.column(&sentiment.model().name);
        }
        self.column("");
    }

    fn columns<const N: usize>(&mut self, columns: [&str; N]) {
        for column in columns {
            self.column(column);
        }
    }

    /// Writes a column, after a delimiter unless it is the first of its row.
    fn column(&mut self, column: &str) {
        let mut column = column.as_bytes();
        let mut written = [0; 256];
        if self.in_row {
            let (_, length) = self.csv.delimiter(&mut written);
            self.bytes.extend_from_slice(&written[..length]);
        }
        self.in_row = true;
        loop {
            let (result, read, length) = self.csv.field(column, &mut written);
            self.bytes.extend_from_slice(&written[..length]);
            column = &column[read..];
            if result == WriteResult::InputEmpty {
                return;
            }
        }
    }

    fn end_row(&mut self) {
        let mut written = [0; 8];
        let (_, length) = self.csv.terminator(&mut written);
        self.bytes.extend_from_slice(&written[..length]);
        self.in_row = false;
    }
}
