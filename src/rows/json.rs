//! Rows of JSON: one value per line, the elements of an array, or objects over several lines.
//!
//! A row is never parsed into a tree: only the post and the id of an object are read, so that
//! nesting costs no memory and an id keeps its digits.

use super::error::RowError;
use super::lines::{Line, LineCount, Lines};
use super::{Limits, Row, RowId};
use crate::json::replace_halves;
use coldread_engine::PostError;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The longest `window.YTD.tweets.part0 =` in front of an array.
const MAX_ASSIGNMENT_BYTES: usize = 256;

/// The paths of the post and the id in an object.
#[derive(Debug, Clone)]
struct FieldPaths {
    text: Vec<String>,
    id: Vec<String>,
    /// The post's path as the user wrote it.
    name: String,
}

impl FieldPaths {
    fn new(text: &str, id: &str) -> Self {
        Self {
            text: tokens(text),
            id: tokens(id),
            name: text.to_owned(),
        }
    }
}

/// A key, or a JSON pointer (RFC 6901) if it begins with a slash.
pub(crate) fn tokens(field: &str) -> Vec<String> {
    match field.strip_prefix('/') {
        None => vec![field.to_owned()],
        Some(pointer) => {
            let tokens = pointer.split('/');
            tokens
                .map(|token| token.replace("~1", "/").replace("~0", "~"))
                .collect()
        }
    }
}

/// Reads JSON in any of these forms, which it recognizes by the beginning.
pub(super) struct Json {
    form: Form,
    /// Bytes that were examined to recognize the form and remain to be parsed.
    pending: Vec<u8>,
    field_paths: Vec<FieldPaths>,
    is_default: bool,
    limits: Limits,
}

enum Form {
    /// Not known yet: the bytes so far.
    Unknown(Vec<u8>, LineCount),
    Lines(Lines),
    Values(Values),
}

impl Json {
    pub(super) fn new(field: Option<&str>, limits: Limits) -> Self {
        Self {
            form: Form::Unknown(Vec::new(), LineCount::default()),
            pending: Vec::new(),
            field_paths: vec![FieldPaths::new(field.unwrap_or("text"), "id")],
            is_default: field.is_none(),
            limits,
        }
    }

    /// Consumes `bytes` up to the end of a row, or all of them if they have none.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Option<Row> {
        if matches!(self.form, Form::Unknown(..)) {
            self.recognize(bytes);
        }
        self.read_pending().or_else(|| self.read_known(bytes))
    }

    /// Parses the pending bytes.
    fn read_pending(&mut self) -> Option<Row> {
        let first = std::mem::take(&mut self.pending);
        let mut rest = &first[..];
        let row = self.read_known(&mut rest);
        self.pending = rest.to_vec();
        row
    }

    fn read_known(&mut self, bytes: &mut &[u8]) -> Option<Row> {
        loop {
            match &mut self.form {
                Form::Unknown(..) => return None,
                Form::Lines(lines) => {
                    let line = lines.read(bytes)?;
                    let row = self.line(&line);
                    if row.is_some() {
                        return row;
                    }
                }
                Form::Values(values) => match values.read(bytes)? {
                    Step::Value(value) => return Some(self.value(&value)),
                    Step::End => {
                        let count = std::mem::take(&mut values.count);
                        self.form = Form::Lines(Lines::new(self.limits.max_row_bytes, count));
                    }
                },
            }
        }
    }

    /// The last rows, at the end of the input; all rows if it is short.
    pub(super) fn finish(&mut self) -> Vec<Row> {
        if let Form::Unknown(first, count) = &mut self.form {
            self.pending = std::mem::take(first);
            let count = std::mem::take(count);
            self.form = Form::Lines(Lines::new(self.limits.max_row_bytes, count));
        }
        let mut rows = Vec::new();
        while !self.pending.is_empty() {
            rows.extend(self.read_pending());
        }
        rows.extend(match &mut self.form {
            Form::Lines(lines) => lines.finish().and_then(|line| self.line(&line)),
            Form::Values(values) => values.finish().map(|value| self.value(&value)),
            Form::Unknown(..) => None,
        });
        rows
    }

    fn line(&self, line: &Line) -> Option<Row> {
        if line.length > self.limits.max_row_bytes {
            return Some(self.too_long(line.number, line.length));
        }
        self.row(line.number, &line.bytes)
    }

    /// Recognizes the form as soon as there are enough bytes.
    fn recognize(&mut self, bytes: &mut &[u8]) {
        let Form::Unknown(first, count) = &mut self.form else {
            return;
        };
        while let Some((&byte, rest)) = bytes.split_first() {
            if first.is_empty() && byte.is_ascii_whitespace() {
                count.add(&[byte]);
                *bytes = rest;
                continue;
            }
            first.push(byte);
            *bytes = rest;
            let is_end = matches!(byte, b'\n' | b'\r');
            let is_array = |first: &[u8]| first == b"[" || is_assignment(first);
            let form = match first[0] {
                _ if is_array(first) => {
                    let mut lines = std::mem::take(count);
                    lines.add(first);
                    if first.len() > 1 && self.is_default {
                        self.field_paths = vec![
                            FieldPaths::new("/tweet/full_text", "/tweet/id_str"),
                            FieldPaths::new("full_text", "id_str"),
                            FieldPaths::new("text", "id_str"),
                        ];
                    }
                    self.form = Form::Values(Values::new(Container::Array, lines, self.limits));
                    return;
                }
                // The beginning of a pretty-printed object.
                b'{' if is_end && first.trim_ascii() == b"{" => Form::Values(Values::new(
                    Container::Sequence,
                    std::mem::take(count),
                    self.limits,
                )),
                b'{' if byte == b'{' || matches!(byte, b' ' | b'\t') => continue,
                letter
                    if letter.is_ascii_alphabetic()
                        && first.len() < MAX_ASSIGNMENT_BYTES
                        && may_be_assignment(first) =>
                {
                    continue;
                }
                _ => Form::Lines(Lines::new(self.limits.max_row_bytes, std::mem::take(count))),
            };
            self.pending = std::mem::take(first);
            self.form = form;
            return;
        }
    }

    fn too_long(&self, line: u64, bytes: usize) -> Row {
        let max_bytes = self.limits.max_row_bytes;
        Row::failed(line, RowError::RowTooLong { bytes, max_bytes })
    }

    fn value(&self, value: &Value) -> Row {
        if value.length > self.limits.max_row_bytes {
            return self.too_long(value.line, value.length);
        }
        if value.is_cut {
            let reason = "the input ends inside it".to_owned();
            return Row::failed(value.line, RowError::InvalidJson(reason));
        }
        let row = self.row(value.line, &value.bytes);
        row.unwrap_or_else(|| {
            let reason = "a comma has no value before it".to_owned();
            Row::failed(value.line, RowError::InvalidJson(reason))
        })
    }

    /// Parses one row; `None` if it is blank.
    fn row(&self, line: u64, bytes: &[u8]) -> Option<Row> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Some(Row::failed(line, RowError::InvalidUtf8));
        };
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return None;
        }
        let text = match check(text) {
            Ok(()) => Cow::Borrowed(text),
            Err(error) => return Some(Row::failed(line, error)),
        };
        let text = replace_halves(&text);
        let (id, post) = self.fields(&text);
        let post = post.and_then(|post| self.limits.check(post));
        Some(Row { line, id, post })
    }

    fn fields(&self, json: &str) -> (Option<RowId>, Result<String, RowError>) {
        if json.starts_with('"') {
            return (None, string(json).ok_or_else(|| self.missing()));
        }
        for paths in &self.field_paths {
            if let Some(text) = at(json, &paths.text) {
                let id = at(json, &paths.id).and_then(row_id);
                return (id, string(text).ok_or_else(|| self.missing()));
            }
        }
        let id = at(json, &self.field_paths[0].id).and_then(row_id);
        (id, Err(self.missing()))
    }

    fn missing(&self) -> RowError {
        RowError::MissingField(self.field_paths[0].name.clone())
    }
}

/// Whether this is exactly `name.of.something = [`.
fn is_assignment(first: &[u8]) -> bool {
    first.ends_with(b"[") && may_be_assignment(first) && first.contains(&b'=')
}

/// Whether this may be the beginning of one.
fn may_be_assignment(first: &[u8]) -> bool {
    let (name, value) = match first.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&first[..equals], &first[equals + 1..]),
        None => (first, &b""[..]),
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._$ \t".contains(byte);
    name.iter().all(in_name) && matches!(value.trim_ascii(), b"" | b"[")
}

/// Checks that this is exactly one JSON value.
fn check(json: &str) -> Result<(), RowError> {
    let checked: Result<&RawValue, _> = serde_json::from_str(json);
    checked.map(drop).map_err(|error| {
        let reason = error.to_string();
        // serde's line number counts from the beginning of the row.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        RowError::InvalidJson(format!("{reason} at column {}", error.column()))
    })
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

fn row_id(json: &str) -> Option<RowId> {
    match json.as_bytes().first()? {
        b'"' => string(json).map(RowId::Text),
        b'-' | b'0'..=b'9' => Some(RowId::Number(json.to_owned())),
        _ => None,
    }
}

/// The value at a JSON pointer in valid JSON, as written.
pub(crate) fn json_at<'a>(json: &'a str, pointer: &str) -> Option<&'a str> {
    let json = json.trim_ascii();
    match pointer {
        "" => Some(json),
        pointer => at(json, &tokens(pointer)),
    }
}

/// The value at a path in valid JSON, as written.
fn at<'a>(json: &'a str, path: &[String]) -> Option<&'a str> {
    path.iter().try_fold(json, |json, token| child(json, token))
}

fn child<'a>(json: &'a str, token: &str) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value: &RawValue = match json.as_bytes().first()? {
        b'{' => deserializer.deserialize_map(Member(token)).ok()??,
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            items.get(token.parse::<usize>().ok()?)?
        }
        _ => return None,
    };
    Some(value.get())
}

/// The last member with this name.
struct Member<'t>(&'t str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_match) = map.next_key_seed(IsName(self.0))? {
            if is_match {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct IsName<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// One of several values.
struct Value {
    bytes: Vec<u8>,
    length: usize,
    line: u64,
    is_cut: bool,
}

enum Step {
    Value(Value),
    /// The array has ended; what follows is not part of it.
    End,
}

/// What contains the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    /// An array that has ended.
    Closed,
    /// A sequence of values.
    Sequence,
}

/// Splits an array or a sequence into its values.
struct Values {
    container: Container,
    bytes: Vec<u8>,
    length: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    begins: u64,
    count: LineCount,
    limits: Limits,
}

impl Values {
    fn new(container: Container, count: LineCount, limits: Limits) -> Self {
        Self {
            container,
            bytes: Vec::new(),
            length: 0,
            depth: 0,
            in_string: false,
            is_escaped: false,
            begins: count.current(),
            count,
            limits,
        }
    }

    fn read(&mut self, bytes: &mut &[u8]) -> Option<Step> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let is_space = byte.is_ascii_whitespace();
            if self.container == Container::Closed {
                if !is_space && byte != b';' {
                    return Some(Step::End);
                }
                self.count.add(&[byte]);
                *bytes = rest;
                continue;
            }
            let line = self.count.current();
            self.count.add(&[byte]);
            *bytes = rest;
            if self.in_string {
                self.in_string = self.is_escaped || byte != b'"';
                self.is_escaped = byte == b'\\' && !self.is_escaped;
                self.keep(byte, line);
                continue;
            }
            if self.depth == 0 {
                match byte {
                    b']' if self.container == Container::Array => {
                        self.container = Container::Closed;
                        match self.take() {
                            Some(value) => return Some(Step::Value(value)),
                            None => continue,
                        }
                    }
                    b',' if self.container == Container::Array => {
                        let value = self.take();
                        return Some(Step::Value(value.unwrap_or_else(|| Self::nothing(line))));
                    }
                    _ if is_space && self.length == 0 => continue,
                    _ if is_space && self.container == Container::Sequence => {
                        return self.take().map(Step::Value);
                    }
                    _ => {}
                }
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.keep(byte, line);
            if self.container == Container::Sequence && self.depth == 0 && byte == b'}' {
                return self.take().map(Step::Value);
            }
        }
        None
    }

    fn keep(&mut self, byte: u8, line: u64) {
        if self.length == 0 {
            self.begins = line;
        }
        self.length += 1;
        if self.length <= self.limits.max_row_bytes {
            self.bytes.push(byte);
        } else {
            self.bytes = Vec::new();
        }
    }

    fn nothing(line: u64) -> Value {
        Value {
            bytes: Vec::new(),
            length: 0,
            line,
            is_cut: false,
        }
    }

    fn take(&mut self) -> Option<Value> {
        (self.length > 0).then(|| Value {
            bytes: std::mem::take(&mut self.bytes),
            length: std::mem::take(&mut self.length),
            line: self.begins,
            is_cut: false,
        })
    }

    /// The last value, which may be cut off.
    fn finish(&mut self) -> Option<Value> {
        let line = self.count.current();
        let is_cut = self.container == Container::Array || self.length > 0;
        let value = self.take().unwrap_or_else(|| Self::nothing(line));
        let is_whole = self.container == Container::Sequence && self.depth == 0 && !self.in_string;
        is_cut.then_some(Value {
            is_cut: !is_whole,
            ..value
        })
    }
}

impl Limits {
    /// The post, unless it is too long.
    pub(super) fn check(&self, post: String) -> Result<String, RowError> {
        let (bytes, max_bytes) = (post.len(), self.max_post_bytes);
        if bytes > max_bytes {
            return Err(PostError::TooLong { bytes, max_bytes }.into());
        }
        Ok(post)
    }
}
