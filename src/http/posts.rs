//! The posts in a JSON body: `{"text": "..."}` or `{"texts": ["...", ...]}`.
//!
//! Parsed in one pass straight into strings, without a tree of the document. Parsing stops at
//! the first error or limit, however long the body is. serde's own messages quote the input, and
//! programs cannot tell a wrong type from an unknown field by them, so the visitors record an
//! [`ApiError`] beside serde's.

use super::error::ApiError;
use super::options::NamedOptions;
use crate::json::BatchText;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
#[cfg(test)]
use serde_json::{Value, json};
use std::fmt;

/// The deepest nesting of a body. A valid request has two levels.
pub(super) const MAX_DEPTH: usize = 32;

/// The most characters of an unknown field's name that an error message quotes.
const MAX_QUOTED_CHARS: usize = 64;

/// The posts of a request, in the form that determines the form of the response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posts {
    One(String),
    Many(Vec<String>),
}

/// The JSON schema of the bodies that [`parse`] accepts; `text` is the schema of a single post, and
/// the others are those of the options.
#[cfg(test)]
pub(super) fn schema(text: &Value, long_text: &Value, detect_language: &Value) -> Value {
    let shape = |title: &str, field: &str, schema: Value| {
        json!({
            "title": title,
            "type": "object",
            "properties": { field: schema, "long_text": long_text, "detect_language": detect_language },
            "required": [field],
            "additionalProperties": false,
        })
    };
    let texts = json!({
        "description": "The posts, at most {max_posts}. A post that cannot be scored gets an error in its place.",
        "type": "array",
        "items": { "type": ["string", "null"] },
        "minItems": 1,
    });
    json!({ "oneOf": [shape("One post", "text", text.clone()), shape("Many posts", "texts", texts)] })
}

/// Parses a body of at most `max_posts` posts.
pub(crate) fn parse(json: &str, max_posts: usize) -> Result<(Posts, NamedOptions), ApiError> {
    let mut state = ParseState {
        max_posts,
        at: Location::Body,
        error: None,
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let posts = BodySeed(&mut state).deserialize(&mut deserializer);
    posts
        .and_then(|posts| deserializer.end().map(|()| posts))
        .map_err(|error| match (syntax_error(json, &error), state.error) {
            (Some(too_deep @ ApiError::JsonTooDeep { .. }), _) => too_deep,
            (_, Some(recorded)) => recorded,
            (Some(syntax_error), None) => syntax_error,
            (None, None) => state.at.wrong_type(),
        })
}

/// Why a body is not JSON that can be parsed; `None` if it is JSON, but not of the expected form.
pub(super) fn syntax_error(json: &str, error: &serde_json::Error) -> Option<ApiError> {
    if is_deeper_than(json, MAX_DEPTH) {
        return Some(ApiError::JsonTooDeep {
            max_depth: MAX_DEPTH,
        });
    }
    let is_data = error.classify() == serde_json::error::Category::Data;
    (!is_data).then(|| invalid_json(json, error))
}

/// What the visitors know beyond serde's error.
struct ParseState {
    max_posts: usize,
    /// The location of the value being parsed.
    at: Location,
    /// The error, if the JSON itself is valid.
    error: Option<ApiError>,
}

impl ParseState {
    /// Records the error and stops the parser with a placeholder.
    fn fail<T, E: Error>(&mut self, error: ApiError) -> Result<T, E> {
        self.error = Some(error);
        Err(E::custom("recorded"))
    }
}

enum Location {
    Body,
    Text,
    Texts,
    LongText,
    DetectLanguage,
    Item(usize),
}

impl Location {
    fn wrong_type(&self) -> ApiError {
        let (path, expected) = match self {
            Self::LongText => return ApiError::InvalidLongText,
            Self::DetectLanguage => return ApiError::InvalidDetectLanguage,
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

struct BodySeed<'a>(&'a mut ParseState);

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = (Posts, NamedOptions);

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
    DetectLanguage,
    Unknown(String),
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = (Posts, NamedOptions);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let state = self.0;
        let (mut text, mut texts) = (None, None);
        let mut options = NamedOptions::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::Text if text.is_some() => {
                    return state.fail(ApiError::DuplicateField("text"));
                }
                Field::Texts if texts.is_some() => {
                    return state.fail(ApiError::DuplicateField("texts"));
                }
                Field::LongText if options.long_text.is_some() => {
                    return state.fail(ApiError::DuplicateField("long_text"));
                }
                Field::LongText => {
                    state.at = Location::LongText;
                    let named = map.next_value::<String>()?.parse().ok();
                    if named.is_none() {
                        return state.fail(ApiError::InvalidLongText);
                    }
                    options.long_text = named;
                }
                Field::DetectLanguage if options.detect_language.is_some() => {
                    return state.fail(ApiError::DuplicateField("detect_language"));
                }
                Field::DetectLanguage => {
                    state.at = Location::DetectLanguage;
                    options.detect_language = Some(map.next_value::<bool>()?);
                }
                Field::Text => {
                    state.at = Location::Text;
                    text = Some(map.next_value::<String>()?);
                }
                Field::Texts => texts = Some(map.next_value_seed(TextsSeed(state))?),
                Field::Unknown(name) => {
                    let name = name.chars().take(MAX_QUOTED_CHARS).collect();
                    return state.fail(ApiError::UnknownField(name));
                }
            }
        }
        match (text, texts) {
            (Some(_), Some(_)) => state.fail(ApiError::ConflictingFields),
            (None, None) => state.fail(ApiError::MissingField),
            (Some(text), None) => Ok((Posts::One(text), options)),
            (None, Some(texts)) if texts.is_empty() => state.fail(ApiError::NoTexts),
            (None, Some(texts)) => Ok((Posts::Many(texts), options)),
        }
    }
}

struct TextsSeed<'a>(&'a mut ParseState);

impl<'de> DeserializeSeed<'de> for TextsSeed<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        self.0.at = Location::Texts;
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TextsSeed<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let state = self.0;
        let mut texts = Vec::new();
        loop {
            state.at = Location::Item(texts.len());
            if texts.len() == state.max_posts {
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    let max_posts = state.max_posts;
                    return state.fail(ApiError::TooManyPosts { max_posts });
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

/// serde's messages about syntax give the position and do not quote the input.
fn invalid_json(json: &str, error: &serde_json::Error) -> ApiError {
    if json.trim_ascii().is_empty() {
        return ApiError::InvalidJson("it is empty; send {\"text\": \"...\"}".to_owned());
    }
    ApiError::InvalidJson(error.to_string())
}

/// Whether brackets outside strings nest deeper than `max_depth`.
///
/// Only called for requests that are rejected anyway, because no valid one is that deep.
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
    use coldread_engine::LongText;

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
    fn posts_are_not_changed() {
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
    fn the_wrong_field_is_named() {
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
    fn long_text_is_parsed() {
        let long_text = |json: &str| parse(json, 3).map(|(_, options)| options.long_text);
        assert_eq!(long_text(r#"{"text":"a"}"#).expect("fine"), None);
        let window = long_text(r#"{"long_text":"window","text":"a"}"#);
        assert_eq!(window.expect("fine"), Some(LongText::Window));
        let expected = r#"`long_text` must be "truncate", "window" or "error""#;
        check_error(r#"{"text":"a","long_text":"cut"}"#, expected);
        check_error(r#"{"text":"a","long_text":null}"#, expected);
    }

    #[test]
    fn detect_language_is_parsed() {
        let detects = |json: &str| parse(json, 3).expect(json).1.detect_language;
        assert_eq!(detects(r#"{"text":"a"}"#), None);
        assert_eq!(
            detects(r#"{"text":"a","detect_language":true}"#),
            Some(true)
        );
        assert_eq!(
            detects(r#"{"detect_language":false,"texts":["a"]}"#),
            Some(false)
        );
        for value in ["\"en\"", "\"true\"", "1", "null"] {
            let json = format!(r#"{{"text":"a","detect_language":{value}}}"#);
            check_error(&json, "`detect_language` must be true or false");
        }
        check_error(
            r#"{"text":"a","detect_language":true,"detect_language":true}"#,
            "the field `detect_language` appears twice; send it once",
        );
    }

    #[test]
    fn an_unknown_field_is_quoted_in_part() {
        let name = "é".repeat(100_000);
        let quoted = "é".repeat(64);
        check_error(
            &format!(r#"{{"{name}":1}}"#),
            &format!(
                "unknown field `{quoted}`; expected `text`, `texts`, `long_text` or `detect_language`"
            ),
        );
    }

    #[test]
    fn the_number_of_posts_is_limited_while_parsing() {
        check_error(
            r#"{"texts":["a","b","c",4]}"#,
            "`texts` has more than 3 posts; split the request",
        );
    }

    #[test]
    fn too_deep_is_told_from_other_errors() {
        let deep = |json: &str| matches!(parse(json, 3), Err(ApiError::JsonTooDeep { .. }));
        assert!(deep(&"[".repeat(100_000)));
        assert!(deep(&format!(r#"{{"text":{}"#, "[".repeat(32))));
        assert!(!deep(&format!(r#"{{"text":{}"#, "[".repeat(31))));
        let brackets = "[".repeat(100);
        assert!(!deep(&format!(r#"{{"text":"{brackets}\"{brackets}"}}"#)));
        assert!(!deep(&format!(r#"{{"text":1,"t":"\"{brackets}"#)));
    }

    #[test]
    fn invalid_json_is_reported_with_its_position() {
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
