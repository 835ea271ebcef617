//! coldread for WASI: scores lines of standard input with a packed model, and writes a JSON line
//! for each, as `coldread score --output jsonl` does.

use coldread_engine::{Model, PostResult};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;

/// Lines that are scored together.
const BATCH: usize = 64;
/// Longer lines are cut: the engine rejects posts that are far shorter.
const MAX_LINE: usize = 1 << 21;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: coldread-wasi MODEL.coldread < posts.txt")?;
    let model = Model::open(path)?;
    let mut classifier = model.classifier();
    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    let mut row = 0;
    loop {
        let mut posts = Vec::with_capacity(BATCH);
        while posts.len() < BATCH {
            match next_line(&mut input)? {
                Some(post) => posts.push(post),
                None => break,
            }
        }
        if posts.is_empty() {
            return Ok(());
        }
        for result in classifier.classify(&posts)? {
            row += 1;
            writeln!(output, "{}", line(row, &result, model.labels()))?;
        }
    }
}

/// The next line without its end, at most `MAX_LINE` bytes of it. What is not UTF-8 becomes
/// replacement characters.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut has_line = false;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            break;
        }
        has_line = true;
        let end = part.iter().position(|&byte| byte == b'\n');
        let length = end.unwrap_or(part.len());
        let room = MAX_LINE - line.len();
        line.extend_from_slice(&part[..length.min(room)]);
        input.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(has_line.then(|| String::from_utf8_lossy(&line).into_owned()))
}

fn line(row: usize, result: &PostResult, labels: &[String]) -> Value {
    match result {
        Ok(sentiment) => {
            let scores = labels.iter().zip(&sentiment.scores);
            let scores: serde_json::Map<String, Value> = scores
                .map(|(label, &score)| (label.clone(), number(score)))
                .collect();
            let mut line = json!({
                "row": row, "label": sentiment.label(), "score": number(sentiment.score()), "scores": scores,
            });
            if sentiment.truncated {
                line["truncated"] = json!(true);
            }
            line
        }
        Err(error) => json!({
            "row": row, "error": { "code": error.code(), "message": error.to_string() },
        }),
    }
}

/// The number with the fewest digits that is this one in single precision.
fn number(score: f32) -> Value {
    json!(score.to_string().parse::<f64>().unwrap_or(f64::NAN))
}
