//! Results as a table, JSON lines or CSV.

use crate::cli::posts::RowError;
use crate::cli::terminal::{shorten, width};
use clap::ValueEnum;
use coldread_engine::Sentiment;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, BufWriter, Write};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns for reading, the post shortened to the terminal's width
    Table,
    /// One JSON object a post, as the HTTP API answers it
    Jsonl,
    /// Comma-separated columns with a header
    Csv,
}

/// A writer of results.
pub(super) struct Results<W: Write> {
    out: BufWriter<W>,
    output: Output,
    labels: Vec<String>,
    label_columns: usize,
    width: usize,
}

impl<W: Write> Results<W> {
    /// Writes the header where there is one.
    pub(super) fn new(out: W, output: Output, labels: Vec<String>) -> io::Result<Self> {
        let longest = labels.iter().map(|label| label.chars().count()).max();
        let mut results = Self {
            out: BufWriter::new(out),
            output,
            label_columns: longest.unwrap_or(0).max("error".len()),
            width: width(),
            labels,
        };
        match output {
            Output::Csv => results.csv_row(
                ["label", "score"]
                    .into_iter()
                    .map(str::to_owned)
                    .chain(results.labels.clone())
                    .chain(["error".to_owned()]),
            )?,
            Output::Table | Output::Jsonl => {}
        }
        Ok(results)
    }

    /// Writes one post's result.
    pub(super) fn write(
        &mut self,
        post: &str,
        result: Result<&Sentiment, &RowError>,
    ) -> io::Result<()> {
        match self.output {
            Output::Table => self.table_row(post, result),
            Output::Jsonl => {
                let labels = &self.labels;
                serde_json::to_writer(&mut self.out, &Record { result, labels })?;
                self.out.write_all(b"\n")
            }
            Output::Csv => self.csv_result(result),
        }
    }

    /// Hands over what is written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn table_row(&mut self, post: &str, result: Result<&Sentiment, &RowError>) -> io::Result<()> {
        let label_columns = self.label_columns;
        let (label, score, text) = match result {
            Ok(sentiment) => {
                let label = self.labels[sentiment.label_index].as_str();
                (label, format!("{:.3}", sentiment.score()), post)
            }
            Err(error) => ("error", "-".to_owned(), error.message.as_str()),
        };
        let left = label_columns + "  0.000  ".len();
        let text = shorten(text, self.width.saturating_sub(left).max(10));
        writeln!(self.out, "{label:label_columns$}  {score:5}  {text}")
    }

    fn csv_result(&mut self, result: Result<&Sentiment, &RowError>) -> io::Result<()> {
        let num_labels = self.labels.len();
        match result {
            Ok(sentiment) => {
                let label = self.labels[sentiment.label_index].clone();
                let scores = sentiment.scores.iter().map(f32::to_string);
                self.csv_row(
                    [label, sentiment.score().to_string()]
                        .into_iter()
                        .chain(scores)
                        .chain([String::new()]),
                )
            }
            Err(error) => {
                let error = format!("{}: {}", error.code, error.message);
                let empty = std::iter::repeat_n(String::new(), 2 + num_labels);
                self.csv_row(empty.chain([error]))
            }
        }
    }

    fn csv_row(&mut self, row: impl Iterator<Item = String>) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(row.map(String::into_bytes))?;
        writer.flush()
    }
}

/// One line of JSON: the same keys as the HTTP API's answer.
struct Record<'a> {
    result: Result<&'a Sentiment, &'a RowError>,
    labels: &'a [String],
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.result {
            Ok(sentiment) => {
                map.serialize_entry("label", &self.labels[sentiment.label_index])?;
                map.serialize_entry("score", &sentiment.score())?;
                let scores = Scores(self.labels, &sentiment.scores);
                map.serialize_entry("scores", &scores)?;
                if sentiment.truncated {
                    map.serialize_entry("truncated", &true)?;
                }
            }
            Err(error) => map.serialize_entry("error", error)?,
        }
        map.end()
    }
}

/// Scores by label, in the model's order.
struct Scores<'a>(&'a [String], &'a [f32]);

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldread_engine::PostError;

    /// Prints a sentiment, a truncated one and an error.
    fn check(output: Output, expected: &[&str]) {
        let labels = ["negative", "a, b"];
        let owned = labels.map(str::to_owned).to_vec();
        let mut results = Results::new(Vec::new(), output, owned).unwrap();
        results.width = 40;
        let sentiment = Sentiment::from_scores(&labels, &[0.98, 0.02]);
        results.write("one\npost", Ok(&sentiment)).unwrap();
        let mut sentiment = Sentiment::from_scores(&labels, &[0.0, 1.0]);
        sentiment.truncated = true;
        results
            .write("a post that is far too long to fit", Ok(&sentiment))
            .unwrap();
        results
            .write("", Err(&RowError::from(&PostError::Empty)))
            .unwrap();
        let printed = String::from_utf8(results.out.into_inner().unwrap()).unwrap();
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn json_lines() {
        check(
            Output::Jsonl,
            &[
                r#"{"label":"negative","score":0.98,"scores":{"negative":0.98,"a, b":0.02}}"#,
                r#"{"label":"a, b","score":1.0,"scores":{"negative":0.0,"a, b":1.0},"truncated":true}"#,
                r#"{"error":{"code":"empty_text","message":"the text is empty; send at least one visible character"}}"#,
            ],
        );
    }

    #[test]
    fn csv() {
        check(
            Output::Csv,
            &[
                r#"label,score,negative,"a, b",error"#,
                "negative,0.98,0.98,0.02,",
                r#""a, b",1,0,1,"#,
                ",,,,empty_text: the text is empty; send at least one visible character",
            ],
        );
    }

    #[test]
    fn table() {
        check(
            Output::Table,
            &[
                "negative  0.980  one post",
                "a, b      1.000  a post that is far too…",
                "error     -      the text is empty; sen…",
            ],
        );
    }
}
