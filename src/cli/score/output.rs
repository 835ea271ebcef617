//! Results as a table, JSON lines or CSV.

use crate::cli::terminal::{shorten, width};
use clap::ValueEnum;
use coldread::rows::{OptionalColumns, ResultFormat, ResultWriter, Row, RowFailure};
use coldread::scorer::ScoredPost;
use coldread_engine::ModelInfo;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

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

/// Prints results.
pub(super) struct ResultPrinter<W: Write> {
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
    has_language: bool,
    label_columns: usize,
    width: usize,
}

impl<W: Write> ResultPrinter<W> {
    /// Writes the header where there is one.
    pub(super) fn new(
        out: W,
        output: Output,
        model: Arc<ModelInfo>,
        optional: OptionalColumns,
    ) -> Self {
        let rows = |format, model| Form::Rows(Box::new(ResultWriter::new(format, model, optional)));
        let form = match output {
            Output::Table => Form::Table(Table::new(model.labels.clone(), optional.language)),
            Output::Jsonl => rows(ResultFormat::JsonLines, model),
            Output::Csv => rows(ResultFormat::Csv, model),
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
        result: Result<&ScoredPost, &RowFailure>,
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
    fn new(labels: Vec<String>, has_language: bool) -> Self {
        let longest = labels.iter().map(|label| label.chars().count()).max();
        Self {
            label_columns: longest.unwrap_or(0).max("error".len()),
            width: width(),
            labels,
            has_language,
        }
    }

    fn row(&self, post: &str, result: Result<&ScoredPost, &RowFailure>) -> String {
        let label_columns = self.label_columns;
        let (label, score, language, text) = match result {
            Ok(ScoredPost {
                sentiment,
                language,
            }) => {
                let label = self.labels[sentiment.label_index].as_str();
                let language = language.map(|it| {
                    let mark = if it.is_unsupported { "!" } else { "" };
                    format!("{}{mark}", it.language.code)
                });
                let score = format!("{:.3}", sentiment.score());
                (label, score, language.unwrap_or_default(), post)
            }
            Err(error) => {
                let dash = || "-".to_owned();
                ("error", dash(), dash(), error.message.as_str())
            }
        };
        let left = label_columns + "  0.000  ".len();
        let (left, language) = if self.has_language {
            (left + "de!   ".len(), format!("{language:4}  "))
        } else {
            (left, String::new())
        };
        let text = shorten(text, self.width.saturating_sub(left).max(10));
        format!("{label:label_columns$}  {score:5}  {language}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldread::language::Language;
    use coldread::rows::{RowError, RowId};
    use coldread::scorer::PostLanguage;
    use coldread_engine::{PostError, Sentiment};

    /// Prints a sentiment, a truncated one and an error.
    fn check(output: Output, has_language: bool, expected: &[&str]) {
        let optional = OptionalColumns {
            language: has_language,
            model: false,
        };
        let labels = ["negative", "a, b"];
        let owned = labels.map(str::to_owned).to_vec();
        let model = Arc::new(ModelInfo::single_label("", owned, 512));
        let mut results = ResultPrinter::new(Vec::new(), output, model, optional);
        if let Form::Table(table) = &mut results.form {
            table.width = 40;
        }
        let row = |post: Result<&str, PostError>| Row {
            line: 1,
            id: Some(RowId::Number("7".to_owned())),
            post: post.map(str::to_owned).map_err(RowError::from),
        };
        let scored = |sentiment, code, confidence, is_unsupported| ScoredPost {
            sentiment,
            language: has_language.then_some(PostLanguage {
                language: Language { code, confidence },
                is_unsupported,
            }),
        };
        let sentiment = Sentiment::from_scores(&labels, &[0.98, 0.02]);
        let post = row(Ok("one\npost"));
        let result = scored(sentiment, "en", 0.75, false);
        results.write(1, &post, Ok(&result)).unwrap();
        let mut sentiment = Sentiment::from_scores(&labels, &[0.0, 1.0]);
        sentiment.truncated = true;
        let post = row(Ok("a post that is far too long to fit"));
        let result = scored(sentiment, "de", 0.9, true);
        results.write(2, &post, Ok(&result)).unwrap();
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
            false,
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
            false,
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
            false,
            &[
                "negative  0.980  one post",
                "a, b      1.000  a post that is far too…",
                "error     -      the text is empty; sen…",
            ],
        );
    }

    #[test]
    fn languages() {
        check(
            Output::Jsonl,
            true,
            &[
                r#"{"row":1,"id":7,"label":"negative","score":0.98,"scores":{"negative":0.98,"a, b":0.02},"language":"en","language_confidence":0.75}"#,
                r#"{"row":2,"id":7,"label":"a, b","score":1.0,"scores":{"negative":0.0,"a, b":1.0},"truncated":true,"language":"de","language_confidence":0.9,"warnings":["unsupported_language"]}"#,
                r#"{"row":3,"id":7,"error":{"code":"empty_text","message":"the text is empty; send at least one visible character"}}"#,
            ],
        );
        check(
            Output::Csv,
            true,
            &[
                r#"row,id,label,score,negative,"a, b",truncated,windows,language,language_confidence,warnings,error"#,
                "1,7,negative,0.98,0.98,0.02,false,,en,0.75,,",
                r#"2,7,"a, b",1,0,1,true,,de,0.9,unsupported_language,"#,
                "3,7,,,,,,,,,,empty_text",
            ],
        );
        check(
            Output::Table,
            true,
            &[
                "negative  0.980  en    one post",
                "a, b      1.000  de!   a post that is f…",
                "error     -      -     the text is empt…",
            ],
        );
    }
}
