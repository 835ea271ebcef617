//! Results as a table, JSON lines or CSV.

use crate::cli::terminal::{shorten, width};
use clap::ValueEnum;
use coldread::rows::{ResultFormat, ResultWriter, Row, RowFailure};
use coldread_engine::Sentiment;
use std::io::{self, BufWriter, Write};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns for reading, the post shortened to the terminal's width
    Table,
    /// One JSON object a row, as the HTTP API answers rows
    Jsonl,
    /// Comma-separated columns with a header
    Csv,
}

/// A writer of results.
pub(super) struct Results<W: Write> {
    out: BufWriter<W>,
    form: Form,
}

enum Form {
    Table(Table),
    Rows(Box<ResultWriter>),
}

/// Columns for reading.
struct Table {
    labels: Vec<String>,
    label_columns: usize,
    width: usize,
}

impl<W: Write> Results<W> {
    /// Writes the header where there is one.
    pub(super) fn new(out: W, output: Output, labels: Vec<String>) -> Self {
        let rows = |format, labels| Form::Rows(Box::new(ResultWriter::new(format, labels)));
        let form = match output {
            Output::Table => Form::Table(Table::new(labels)),
            Output::Jsonl => rows(ResultFormat::JsonLines, labels),
            Output::Csv => rows(ResultFormat::Csv, labels),
        };
        Self {
            out: BufWriter::new(out),
            form,
        }
    }

    /// Writes one row's result; rows are counted from 1.
    pub(super) fn write(
        &mut self,
        number: u64,
        row: &Row,
        result: Result<&Sentiment, &RowFailure>,
    ) -> io::Result<()> {
        match &mut self.form {
            Form::Table(table) => {
                let post = row.post.as_deref().unwrap_or_default();
                writeln!(self.out, "{}", table.row(post, result))
            }
            Form::Rows(rows) => {
                rows.write(Some(number), row.id.as_ref(), result);
                self.out.write_all(&rows.take())
            }
        }
    }

    /// Hands over what is written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Form::Rows(rows) = &mut self.form {
            self.out.write_all(&rows.take())?;
        }
        self.out.flush()
    }
}

impl Table {
    fn new(labels: Vec<String>) -> Self {
        let longest = labels.iter().map(|label| label.chars().count()).max();
        Self {
            label_columns: longest.unwrap_or(0).max("error".len()),
            width: width(),
            labels,
        }
    }

    fn row(&self, post: &str, result: Result<&Sentiment, &RowFailure>) -> String {
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
        format!("{label:label_columns$}  {score:5}  {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldread::rows::{RowError, RowId};
    use coldread_engine::PostError;

    /// Prints a sentiment, a truncated one and an error.
    fn check(output: Output, expected: &[&str]) {
        let labels = ["negative", "a, b"];
        let owned = labels.map(str::to_owned).to_vec();
        let mut results = Results::new(Vec::new(), output, owned);
        if let Form::Table(table) = &mut results.form {
            table.width = 40;
        }
        let row = |post: Result<&str, PostError>| Row {
            line: 1,
            id: Some(RowId::Number("7".to_owned())),
            post: post.map(str::to_owned).map_err(RowError::from),
        };
        let sentiment = Sentiment::from_scores(&labels, &[0.98, 0.02]);
        let post = row(Ok("one\npost"));
        results.write(1, &post, Ok(&sentiment)).unwrap();
        let mut sentiment = Sentiment::from_scores(&labels, &[0.0, 1.0]);
        sentiment.truncated = true;
        let post = row(Ok("a post that is far too long to fit"));
        results.write(2, &post, Ok(&sentiment)).unwrap();
        let empty = row(Err(PostError::Empty));
        let failure = RowFailure::new(&empty, empty.post.as_ref().unwrap_err());
        results.write(3, &empty, Err(&failure)).unwrap();
        results.flush().unwrap();
        let printed = String::from_utf8(results.out.into_inner().unwrap()).unwrap();
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn json_lines() {
        check(
            Output::Jsonl,
            &[
                r#"{"row":1,"id":7,"label":"negative","score":0.98,"scores":{"negative":0.98,"a, b":0.02}}"#,
                r#"{"row":2,"id":7,"label":"a, b","score":1.0,"scores":{"negative":0.0,"a, b":1.0},"truncated":true}"#,
                r#"{"row":3,"id":7,"error":{"code":"empty_text","message":"the text is empty; send at least one visible character"}}"#,
            ],
        );
    }

    #[test]
    fn csv() {
        check(
            Output::Csv,
            &[
                r#"row,id,label,score,negative,"a, b",truncated,windows,error"#,
                "1,7,negative,0.98,0.98,0.02,false,,",
                r#"2,7,"a, b",1,0,1,true,,"#,
                "3,7,,,,,,,empty_text",
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
