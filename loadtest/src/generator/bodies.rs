//! What is sent: posts from a file, or made-up ones of a post's usual length.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::csv_input::InputFile;

/// Different bodies at most; they are sent in turn.
const MOST: usize = 10_000;
/// Made-up posts.
const MADE: usize = 1_000;
/// Bytes of a file at most.
const MOST_BYTES: u64 = 1 << 30;

/// JSON bodies, ready to send.
pub struct Bodies {
    bodies: Vec<Bytes>,
    /// Characters of a post, mean.
    pub mean_chars: f64,
}

impl Bodies {
    /// Bodies of `batch` posts each, from `path` or made up.
    pub fn new(path: Option<&Path>, batch: usize, seed: u64) -> Result<Self> {
        ensure!((1..=10_000).contains(&batch), "--batch must be 1 to 10000");
        let posts = match path {
            Some(path) => read(path)?,
            None => made_up(seed),
        };
        let mean_chars = posts.iter().map(|post| post.chars().count()).sum::<usize>() as f64
            / posts.len() as f64;
        let count = posts.len().div_ceil(batch).min(MOST);
        let mut endless = posts.iter().cycle();
        let bodies = (0..count)
            .map(|_| {
                let texts: Vec<&String> = endless.by_ref().take(batch).collect();
                let body = if batch == 1 {
                    json!({ "text": texts[0] })
                } else {
                    json!({ "texts": texts })
                };
                Bytes::from(body.to_string())
            })
            .collect();
        Ok(Self { bodies, mean_chars })
    }

    /// The `index`-th body, from the first on again after the last.
    pub fn get(&self, index: usize) -> Bytes {
        self.bodies[index % self.bodies.len()].clone()
    }
}

/// Posts of a file: lines of a `.txt`, else the column `text` or the last one.
fn read(path: &Path) -> Result<Vec<String>> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .with_context(|| format!("{shown}"))?
        .len();
    ensure!(size <= MOST_BYTES, "{shown}: larger than a gibibyte");
    let extension = path.extension().and_then(|extension| extension.to_str());
    let posts = match extension {
        Some("csv") => columns(path, b',')?,
        Some("tsv") => columns(path, b'\t')?,
        _ => {
            let bytes = std::fs::read(path).with_context(|| format!("{shown}"))?;
            let mut posts = Vec::new();
            for (place, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
                let line = std::str::from_utf8(line)
                    .with_context(|| format!("{shown}:{}: not UTF-8", place + 1))?;
                if !line.trim().is_empty() {
                    posts.push(line.trim_end_matches('\r').to_owned());
                }
            }
            posts
        }
    };
    ensure!(!posts.is_empty(), "{shown} contains no posts");
    Ok(posts)
}

fn columns(path: &Path, delimiter: u8) -> Result<Vec<String>> {
    let file = InputFile::new(path);
    let source = std::fs::File::open(path).map_err(|source| file.read_error(source))?;
    let reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        // A tab-separated post may begin with a quotation mark.
        .quoting(delimiter == b',')
        .from_reader(source);
    let mut posts = Vec::new();
    let mut column = None;
    for (place, record) in file.records(reader).enumerate() {
        let (line, record) = record?;
        if place == 0 {
            column = record
                .iter()
                .position(|name| name.eq_ignore_ascii_case("text"));
            if column.is_some() {
                continue;
            }
        }
        let post = column.map_or(record.iter().next_back(), |column| record.get(column));
        let post = post.ok_or_else(|| file.row_error(line, "too few columns"))?;
        if !post.trim().is_empty() {
            posts.push(post.to_owned());
        }
    }
    Ok(posts)
}

/// Posts of some thirty words at most, out of a few dozen.
fn made_up(seed: u64) -> Vec<String> {
    const WORDS: [&str; 48] = [
        "love", "hate", "this", "phone", "camera", "battery", "the", "new", "update", "is", "so",
        "good", "bad", "slow", "fast", "awful", "great", "today", "finally", "again", "never",
        "always", "my", "team", "match", "song", "video", "train", "coffee", "rain", "sun", "why",
        "how", "please", "thanks", "friends", "work", "monday", "weekend", "#news", "#happy",
        "@someone", "😍", "😡", "🎉", "lol", "omg", "really",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..MADE)
        .map(|_| {
            let words = rng.random_range(3..32);
            let words: Vec<&str> = (0..words)
                .map(|_| WORDS[rng.random_range(0..WORDS.len())])
                .collect();
            words.join(" ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &[u8]) -> Vec<String> {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        match value.get("text") {
            Some(text) => vec![text.as_str().unwrap().to_owned()],
            None => value["texts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect(),
        }
    }

    fn bodies_of(name: &str, content: &[u8], batch: usize) -> Result<Bodies> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Bodies::new(Some(&path), batch, 1)
    }

    #[test]
    fn made_up_posts_repeat_with_the_seed() {
        let [once, again, other] = [1, 1, 2].map(|seed| Bodies::new(None, 1, seed).unwrap().get(5));
        assert_eq!(once, again);
        assert_ne!(once, other);
        let bodies = Bodies::new(None, 32, 1).unwrap();
        assert_eq!(texts(&bodies.get(0)).len(), 32);
        assert_eq!(bodies.get(0), bodies.get(32), "in turn");
    }

    #[test]
    fn posts_of_a_file() {
        let lines = bodies_of("a.txt", "one\r\n\n\"two\"\n".as_bytes(), 1).unwrap();
        assert_eq!(texts(&lines.get(1)), ["\"two\""]);
        let tsv = bodies_of("a.tsv", b"2\t\"so good\n0\tawful\n", 2).unwrap();
        assert_eq!(texts(&tsv.get(0)), ["\"so good", "awful"]);
        let csv = bodies_of("a.csv", b"id,text,x\n1,\"a, b\",y\n", 1).unwrap();
        assert_eq!(texts(&csv.get(7)), ["a, b"]);
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let message = |name, content| format!("{:#}", bodies_of(name, content, 1).err().unwrap());
        assert!(message("a.txt", b"ok\n\xff\n").contains("a.txt:2: not UTF-8"));
        assert!(message("a.csv", b"id,text\n1\n").contains("a.csv:2: too few columns"));
        assert!(message("a.txt", b"\n\n").contains("a.txt contains no posts"));
        assert!(Bodies::new(Some(Path::new("/no/such.txt")), 1, 1).is_err());
        assert!(Bodies::new(None, 0, 1).is_err());
    }
}
