//! Rows of results: the same fields and columns over HTTP and on the command line.

use super::{Row, RowError, RowId};
use crate::wire::{ErrorBody, Item, Scored};
use coldread_engine::Sentiment;
use csv_core::WriteResult;
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFormat {
    /// A JSON object a line.
    JsonLines,
    /// Comma-separated columns with a header.
    Csv,
}

/// Why a row has no score: a stable code, and a message that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Of a row of an input.
    pub fn of_row(row: &Row, error: &RowError) -> Self {
        Self {
            code: error.code(),
            message: error.message_at(row.line),
        }
    }
}

/// A row of results: a post that was scored, or why it was not.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = Row))]
pub struct ResultRow<'a> {
    /// Counted from 1; missing where it is the input that broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    row: Option<u64>,
    /// The row's own, a string or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false, value_type = Option<serde_json::Value>))]
    id: Option<&'a RowId>,
    #[serde(flatten)]
    outcome: Item<'a>,
}

/// Writes results into memory; nothing is sent before its user does.
pub struct ResultWriter {
    format: ResultFormat,
    labels: Vec<String>,
    csv: csv_core::Writer,
    in_row: bool,
    /// What was written and not taken yet.
    bytes: Vec<u8>,
}

impl ResultWriter {
    /// Writes the header where there is one.
    pub fn new(format: ResultFormat, labels: Vec<String>) -> Self {
        let mut writer = Self {
            format,
            labels,
            csv: csv_core::Writer::new(),
            in_row: false,
            bytes: Vec::new(),
        };
        if format == ResultFormat::Csv {
            writer.columns(["row", "id", "label", "score"]);
            for label in 0..writer.labels.len() {
                let label = writer.labels[label].clone();
                writer.column(&label);
            }
            writer.columns(["truncated", "windows", "error"]);
            writer.end_row();
        }
        writer
    }

    /// What was written since it was last taken.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Writes one result.
    pub fn write(
        &mut self,
        row: Option<u64>,
        id: Option<&RowId>,
        result: Result<&Sentiment, &Failure>,
    ) {
        match self.format {
            ResultFormat::JsonLines => {
                let outcome = match result {
                    Ok(sentiment) => Item::Scored(Scored::new(sentiment, &self.labels, None)),
                    Err(error) => Item::Failed(ErrorBody::new(error.code, error.message.clone())),
                };
                let line = ResultRow { row, id, outcome };
                serde_json::to_writer(&mut self.bytes, &line).expect("a Vec takes everything");
                self.bytes.push(b'\n');
            }
            ResultFormat::Csv => {
                let number = row.map(|row| row.to_string()).unwrap_or_default();
                self.column(&number);
                self.column(id.map(RowId::as_str).unwrap_or_default());
                match result {
                    Ok(sentiment) => self.scores(sentiment),
                    Err(error) => {
                        for _ in 0..self.labels.len() + 4 {
                            self.column("");
                        }
                        self.column(error.code);
                    }
                }
                self.end_row();
            }
        }
    }

    fn scores(&mut self, sentiment: &Sentiment) {
        let label = self.labels[sentiment.label_index].clone();
        self.column(&label);
        self.column(&sentiment.score().to_string());
        for score in &sentiment.scores {
            self.column(&score.to_string());
        }
        let windows = Some(sentiment.windows).filter(|&windows| windows > 1);
        let windows = windows.map(|it| it.to_string()).unwrap_or_default();
        let truncated = sentiment.truncated.to_string();
        self.columns([&truncated, &windows, ""]);
    }

    fn columns<const N: usize>(&mut self, columns: [&str; N]) {
        for column in columns {
            self.column(column);
        }
    }

    /// A column, and the comma in front of it unless it is the row's first.
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
