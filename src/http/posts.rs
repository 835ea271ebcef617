//! The posts in a JSON body: `{"text": "..."}` or `{"texts": ["...", ...]}`.
//!
//! Read in one pass straight into strings; no tree of the document is built, and
//! reading ends at the first fault or at the limit, whatever the body's length.
//! serde's own messages quote the input and do not tell a wrong type from an
//! unknown field in a way that a program could use, so the visitors note the fault
//! beside serde's error.

use super::error::ApiError;
use crate::json::BatchText;
use coldread_engine::LongText;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;

/// Nesting beyond this is reported as such. A valid request has two levels.
pub(super) const MAX_DEPTH: usize = 32;

/// How much of an unknown field's name is repeated to the caller, in characters.
const MAX_QUOTED_CHARS: usize = 64;

/// What a request asks for; it decides the shape of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posts {
    One(String),
    Many(Vec<String>),
}

/// What [`parse`] takes, as a JSON schema; `text` is that of a post that is alone.
pub(super) fn schema(text: &Value, long_text: &Value, max_posts: usize) -> Value {
    let shape = |title: &str, field: &str, schema: Value| {
        json!({
            "title": title,
            "type": "object",
            "properties": { field: schema, "long_text": long_text },
            "required": [field],
            "additionalProperties": false,
        })
    };
    let texts = json!({
        "description": format!("The posts, at most {max_posts}. One that cannot be scored has its error in its place."),
        "type": "array",
        "items": { "type": ["string", "null"] },
        "minItems": 1,
    });
    json!({ "oneOf": [shape("One post", "text", text.clone()), shape("Many posts", "texts", texts)] })
}

/// Reads a body that holds at most `max_posts` posts.
pub(crate) fn parse(json: &str, max_posts: usize) -> Result<(Posts, Option<LongText>), ApiError> {
    let mut notes = Notes {
        max_posts,
        at: Place::Body,
        fault: None,
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let posts = BodySeed(&mut notes).deserialize(&mut deserializer);
    posts
        .and_then(|posts| deserializer.end().map(|()| posts))
        .map_err(|error| match (fault(json, &error), notes.fault) {
            (Some(too_deep @ ApiError::JsonTooDeep { .. }), _) => too_deep,
            (_, Some(noted)) => noted,
            (fault, None) => fault.unwrap_or_else(|| notes.at.wrong_type()),
        })
}

/// What is wrong with a body of JSON that was not read to its end; `None` if it is not
/// what the reader expected.
pub(super) fn fault(json: &str, error: &serde_json::Error) -> Option<ApiError> {
    if is_deeper_than(json, MAX_DEPTH) {
        return Some(ApiError::JsonTooDeep {
            max_depth: MAX_DEPTH,
        });
    }
    let is_data = error.classify() == serde_json::error::Category::Data;
    (!is_data).then(|| invalid_json(json, error))
}

/// What the visitors know beyond serde's error.
struct Notes {
    max_posts: usize,
    /// Where the value being read stands.
    at: Place,
    /// The fault, if it is not one of JSON itself.
    fault: Option<ApiError>,
}

impl Notes {
    /// Notes the fault; serde's error only has to end the reading.
    fn fail<T, E: Error>(&mut self, fault: ApiError) -> Result<T, E> {
        self.fault = Some(fault);
        Err(E::custom("noted"))
    }
}

enum Place {
    Body,
    Text,
    Texts,
    LongText,
    Item(usize),
}

impl Place {
    fn wrong_type(&self) -> ApiError {
        let (path, expected) = match self {
            Self::LongText => return ApiError::InvalidLongText,
            Self::Body => (
                "the body".to_owned(),
                "a JSON object, such as {\"text\": \"...\"}",
            ),
            Self::Text => ("`text`".to_owned(), "a string"),
            Self::Texts => ("`texts`".to_owned(), "a list of strings"),
            Self::Item(i) => (format!("`texts[{i}]`"), "a string"),
        };
        ApiError::InvalidType { path, expected }
    }
}

struct BodySeed<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = (Posts, Option<LongText>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Text,
    Texts,
    LongText,
    Unknown(String),
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = (Posts, Option<LongText>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let notes = self.0;
        let (mut text, mut texts, mut long_text) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Text if text.is_some() => {
                    return notes.fail(ApiError::DuplicateField("text"));
                }
                Field::Texts if texts.is_some() => {
                    return notes.fail(ApiError::DuplicateField("texts"));
                }
                Field::LongText if long_text.is_some() => {
                    return notes.fail(ApiError::DuplicateField("long_text"));
                }
                Field::LongText => {
                    notes.at = Place::LongText;
                    let named = map.next_value::<String>()?.parse().ok();
                    if named.is_none() {
                        return notes.fail(ApiError::InvalidLongText);
                    }
                    long_text = named;
                }
                Field::Text => {
                    notes.at = Place::Text;
                    text = Some(map.next_value::<String>()?);
                }
                Field::Texts => texts = Some(map.next_value_seed(TextsSeed(notes))?),
                Field::Unknown(name) => {
                    let name = name.chars().take(MAX_QUOTED_CHARS).collect();
                    return notes.fail(ApiError::UnknownField(name));
                }
            }
        }
        match (text, texts) {
            (Some(_), Some(_)) => notes.fail(ApiError::ConflictingFields),
            (None, None) => notes.fail(ApiError::MissingField),
            (Some(text), None) => Ok((Posts::One(text), long_text)),
            (None, Some(texts)) if texts.is_empty() => notes.fail(ApiError::NoTexts),
            (None, Some(texts)) => Ok((Posts::Many(texts), long_text)),
        }
    }
}

struct TextsSeed<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for TextsSeed<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        self.0.at = Place::Texts;
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TextsSeed<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let notes = self.0;
        let mut texts = Vec::new();
        loop {
            notes.at = Place::Item(texts.len());
            if texts.len() == notes.max_posts {
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    let max_posts = notes.max_posts;
                    return notes.fail(ApiError::TooManyPosts { max_posts });
                }
                return Ok(texts);
            }
            match seq.next_element()? {
                Some(BatchText(text)) => texts.push(text),
                None => return Ok(texts),
            }
        }
    }
}

/// What is wrong with the JSON. serde's messages of this kind name the place and
/// quote nothing.
fn invalid_json(json: &str, error: &serde_json::Error) -> ApiError {
    if json.trim_ascii().is_empty() {
        return ApiError::InvalidJson("it is empty; send {\"text\": \"...\"}".to_owned());
    }
    ApiError::InvalidJson(error.to_string())
}

/// Whether brackets outside strings nest deeper than `max_depth`.
///
/// Only looked at when a request is refused anyway: no valid one is deep.
fn is_deeper_than(json: &str, max_depth: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if depth > max_depth {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Posts {
        Posts::One(text.to_owned())
    }

    fn check(json: &str, expected: &Posts) {
        assert_eq!(parse(json, 3).expect(json).0, *expected);
    }

    fn check_error(json: &str, expected: &str) {
        assert_eq!(
            parse(json, 3).expect_err(json).to_string(),
            expected,
            "{json}"
        );
    }

    #[test]
    fn posts_are_taken_as_they_are() {
        check(r#" {"text" : "a b" } "#, &one("a b"));
        check(
            r#"{"te\u0078t":"\u0000 \ud83d\ude00 \n"}"#,
            &one("\0 😀 \n"),
        );
        check(r#"{"text":""}"#, &one(""));
        let many = Posts::Many(["a", "", "c"].map(str::to_owned).to_vec());
        check(r#"{"texts":["a","","c"]}"#, &many);
        check(r#"{"texts":["a",null,"c"]}"#, &many);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        check_error(r#"{"texts":["a",5]}"#, "`texts[1]` must be a string");
        check_error(r#"{"texts":["a",["b"]]}"#, "`texts[1]` must be a string");
        check_error(r#"{"texts":"a"}"#, "`texts` must be a list of strings");
        check_error(r#"{"text":5}"#, "`text` must be a string");
        let object = r#"the body must be a JSON object, such as {"text": "..."}"#;
        check_error(r#""a""#, object);
        check_error("[]", object);
        check_error("null", object);
    }

    #[test]
    fn what_to_do_with_long_text_is_read() {
        let long_text = |json: &str| parse(json, 3).map(|(_, long_text)| long_text);
        assert_eq!(long_text(r#"{"text":"a"}"#).expect("fine"), None);
        let window = long_text(r#"{"long_text":"window","text":"a"}"#);
        assert_eq!(window.expect("fine"), Some(LongText::Window));
        let expected = r#"`long_text` must be "truncate", "window" or "error""#;
        check_error(r#"{"text":"a","long_text":"cut"}"#, expected);
        check_error(r#"{"text":"a","long_text":null}"#, expected);
    }

    #[test]
    fn an_unknown_field_is_quoted_in_part() {
        let name = "é".repeat(100_000);
        let quoted = "é".repeat(64);
        check_error(
            &format!(r#"{{"{name}":1}}"#),
            &format!("unknown field `{quoted}`; the fields are `text`, `texts` and `long_text`"),
        );
    }

    #[test]
    fn posts_are_counted_before_they_are_kept() {
        check_error(
            r#"{"texts":["a","b","c",4]}"#,
            "`texts` has more than 3 posts; split the request",
        );
    }

    #[test]
    fn depth_is_told_from_other_faults() {
        let deep = |json: &str| matches!(parse(json, 3), Err(ApiError::JsonTooDeep { .. }));
        assert!(deep(&"[".repeat(100_000)));
        assert!(deep(&format!(r#"{{"text":{}"#, "[".repeat(32))));
        assert!(!deep(&format!(r#"{{"text":{}"#, "[".repeat(31))));
        let brackets = "[".repeat(100);
        assert!(!deep(&format!(r#"{{"text":"{brackets}\"{brackets}"}}"#)));
        assert!(!deep(&format!(r#"{{"text":1,"t":"\"{brackets}"#)));
    }

    #[test]
    fn broken_json_says_where() {
        for (json, expected) in [
            ("", "it is empty; send {\"text\": \"...\"}"),
            (
                "{\"text\":\"a\"",
                "EOF while parsing an object at line 1 column 11",
            ),
            (
                "{\"text\":\"a\"}\n}",
                "trailing characters at line 2 column 1",
            ),
            (
                "{\"text\":\"a\n\"}",
                "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
            ),
        ] {
            check_error(json, &format!("the body is not valid JSON: {expected}"));
        }
    }
}
