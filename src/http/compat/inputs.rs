//! What Hugging Face, Text Embeddings Inference, SageMaker and Vertex AI have in common: texts
//! under one key of an object, and predictions for them.

use super::error::{CompatError, FormatError};
use super::strict_json;
use crate::json::BatchText;
use coldread_engine::Sentiment;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer,
    MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::{Value, json};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

const NO_TEXT_PAIRS: &str =
    "text pairs are not supported; send each text by itself, without `text_pair`";

/// The keys under which an item that is an object can have its text.
const TEXT_KEYS: [&str; 3] = ["text", "content", "inputs"];

/// The value of the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    /// One text.
    One(String),
    /// A list.
    Many(Vec<Input>),
}

/// One item of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// `"..."`, or an object with the text under `text`, `content` or `inputs`.
    Text(String),
    /// `["..."]`, which is one text, or `["...", "..."]`, a pair.
    Sequence(Vec<String>),
}

/// The JSON schema of an item that is not a sequence; `text` is the schema of a text.
#[cfg(test)]
pub(super) fn schema(text: &Value) -> Value {
    let properties: serde_json::Map<_, _> = TEXT_KEYS
        .iter()
        .map(|key| ((*key).to_owned(), text.clone()))
        .collect();
    json!({ "anyOf": [text, {
        "type": "object",
        "properties": properties,
        "oneOf": TEXT_KEYS.map(|key| json!({ "required": [key] })),
    }] })
}

/// Parses a body: at most `max` texts under `key`, and the other fields as `T`.
pub(super) fn parse<T: DeserializeOwned>(
    json: &str,
    key: &'static str,
    max: usize,
    expected: &'static str,
) -> Result<(Inputs, T), CompatError> {
    let body = parse_body(json, ParseState::new(key, max, &[]), expected)?;
    Ok(body.ok_or(FormatError::Request(expected))?)
}

/// Parses a body of a route that accepts native bodies as well; `None` if it is a native body or
/// neither. A native body is recognized at its first key, so that little is parsed twice.
pub(super) fn parse_unless_native<T: DeserializeOwned>(
    json: &str,
    key: &'static str,
    max: usize,
    expected: &'static str,
) -> Result<Option<(Inputs, T)>, CompatError> {
    parse_body(json, ParseState::new(key, max, &NATIVE_KEYS), expected)
}

const NATIVE_KEYS: [&str; 2] = ["text", "texts"];

fn parse_body<T: DeserializeOwned>(
    json: &str,
    mut state: ParseState,
    expected: &'static str,
) -> Result<Option<(Inputs, T)>, CompatError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let others = BodySeed(&mut state, PhantomData::<T>).deserialize(&mut deserializer);
    let others = others.and_then(|others| deserializer.end().map(|()| others));
    match (others, state.inputs, state.error.take()) {
        (Ok(others), inputs, _) => Ok(inputs.map(|inputs| (inputs, others))),
        (Err(_), _, Some(recorded)) => Err(recorded.into()),
        // The native parser will report the error.
        (Err(error), ..) if state.allows_native && !state.seen.is_format(&error) => Ok(None),
        (Err(error), ..) => Err(strict_json::body_error(json, &error, expected)),
    }
}

/// What to look for in a body, and what has been found.
struct ParseState {
    key: &'static str,
    max: usize,
    native_keys: &'static [&'static str],
    allows_native: bool,
    seen: Seen,
    inputs: Option<Inputs>,
    /// The error, where serde's is too general.
    error: Cell<Option<FormatError>>,
}

/// How far the body is known to be a native one or of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Object,
    NativeKey,
    Key,
}

impl Seen {
    /// Whether a body with this error was meant to be of the format.
    fn is_format(self, error: &serde_json::Error) -> bool {
        match self {
            Self::Nothing | Self::NativeKey => false,
            // Of the fields beside the texts, only the format's have types that can be wrong.
            Self::Object => error.is_data(),
            Self::Key => true,
        }
    }
}

impl ParseState {
    fn new(key: &'static str, max: usize, native_keys: &'static [&'static str]) -> Self {
        Self {
            key,
            max,
            native_keys,
            allows_native: !native_keys.is_empty(),
            seen: Seen::Nothing,
            inputs: None,
            error: Cell::new(None),
        }
    }
}

/// Parses a body in one pass: the texts as [`Inputs`], the other fields as `T`.
struct BodySeed<'a, T>(&'a mut ParseState, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for BodySeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for BodySeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let state = self.0;
        state.seen = Seen::Object;
        T::deserialize(MapAccessDeserializer::new(OtherFields { map, state }))
    }
}

/// An object's fields without the texts, which are stored in the state.
struct OtherFields<'a, A> {
    map: A,
    state: &'a mut ParseState,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OtherFields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key == self.state.key {
                self.state.seen = Seen::Key;
                let inputs = InputsSeed {
                    max: self.state.max,
                    error: &self.state.error,
                };
                self.state.inputs = Some(self.map.next_value_seed(inputs)?);
                continue;
            }
            let is_native = self.state.native_keys.contains(&key.as_str());
            if is_native && self.state.seen == Seen::Object {
                self.state.seen = Seen::NativeKey;
                return Err(A::Error::custom("a native body"));
            }
            return seed.deserialize(key.into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// The kinds of keys in an item that is an object; a parsed key is not kept.
enum ItemKey {
    Text,
    Pair,
    Other,
}

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(ItemKeyVisitor)
    }
}

struct ItemKeyVisitor;

impl Visitor<'_> for ItemKeyVisitor {
    type Value = ItemKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<ItemKey, E> {
        Ok(match key {
            "text_pair" => ItemKey::Pair,
            key if TEXT_KEYS.contains(&key) => ItemKey::Text,
            _ => ItemKey::Other,
        })
    }
}

#[derive(Clone, Copy)]
struct InputsSeed<'a> {
    max: usize,
    error: &'a Cell<Option<FormatError>>,
}

impl<'de> DeserializeSeed<'de> for InputsSeed<'_> {
    type Value = Inputs;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inputs, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InputsSeed<'_> {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
        Ok(Inputs::One(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Inputs, E> {
        Ok(Inputs::One(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inputs, A::Error> {
        text_of_object(map, self.error).map(Inputs::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
        let mut list = Vec::new();
        while list.len() < self.max {
            match seq.next_element_seed(InputSeed(self.error))? {
                Some(input) => list.push(input),
                None => return Ok(Inputs::Many(list)),
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            let max = self.max;
            self.error.set(Some(FormatError::BatchTooLarge { max }));
            return Err(A::Error::custom("recorded"));
        }
        Ok(Inputs::Many(list))
    }
}

struct InputSeed<'a>(&'a Cell<Option<FormatError>>);

impl<'de> DeserializeSeed<'de> for InputSeed<'_> {
    type Value = Input;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Input, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InputSeed<'_> {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
        Ok(Input::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Input, E> {
        Ok(Input::Text(text))
    }

    /// `null` is read as an empty text, so that only this item fails where the format allows it.
    fn visit_unit<E: Error>(self) -> Result<Input, E> {
        Ok(Input::Text(String::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input, A::Error> {
        text_of_object(map, self.0).map(Input::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Input, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element()? {
            if texts.len() == 2 {
                return Err(A::Error::custom("more than a pair"));
            }
            texts.push(text);
        }
        Ok(Input::Sequence(texts))
    }
}

/// The one text of `{"text": "..."}`. An object with `text_pair` has two, which a model of single
/// posts cannot score.
fn text_of_object<'de, A: MapAccess<'de>>(
    mut map: A,
    error: &Cell<Option<FormatError>>,
) -> Result<String, A::Error> {
    let mut text = None;
    while let Some(key) = map.next_key()? {
        match key {
            ItemKey::Text if text.is_some() => return Err(A::Error::custom("two texts")),
            ItemKey::Text => text = Some(map.next_value::<BatchText>()?.0),
            ItemKey::Pair if map.next_value::<Option<IgnoredAny>>()?.is_some() => {
                error.set(Some(FormatError::Request(NO_TEXT_PAIRS)));
                return Err(A::Error::custom("recorded"));
            }
            ItemKey::Pair => {}
            ItemKey::Other => _ = map.next_value::<IgnoredAny>()?,
        }
    }
    text.ok_or_else(|| A::Error::missing_field("text"))
}

/// The function that turns logits into scores, if the client chooses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Function))]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Sigmoid,
    Softmax,
    /// The logits themselves.
    None,
}

/// The number of labels to return, which must be a whole number of at least 1; JSON does not
/// distinguish 1.0 from 1.
pub(super) fn label_count(top_k: f64) -> Option<usize> {
    (top_k >= 1.0 && top_k.fract() == 0.0).then_some(top_k as usize)
}

/// A label and its score.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Prediction))]
pub(super) struct Prediction<'a> {
    pub(super) label: &'a str,
    pub(super) score: f32,
}

/// One item of a response: a label, or a list of labels.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Ranked))]
#[serde(untagged)]
pub(super) enum Ranked<'a> {
    One(Prediction<'a>),
    List(Vec<Prediction<'a>>),
}

impl<'a> Ranked<'a> {
    /// The items of a response: the lists, one per text, or flattened into single labels.
    pub(super) fn from_lists(
        lists: impl Iterator<Item = Vec<Prediction<'a>>>,
        is_nested: bool,
    ) -> Vec<Self> {
        if is_nested {
            lists.map(Self::List).collect()
        } else {
            lists.flatten().map(Self::One).collect()
        }
    }
}

/// The `top_k` labels with the highest scores, highest first.
pub(super) fn predictions<'a>(
    sentiment: &Sentiment,
    labels: &'a [String],
    function: Option<Function>,
    top_k: usize,
) -> Vec<Prediction<'a>> {
    let logits = || sentiment.logits.iter().map(|&logit| f64::from(logit));
    let scores: Vec<f32> = match function {
        None => sentiment.scores.clone(),
        Some(Function::None) => sentiment.logits.clone(),
        Some(Function::Sigmoid) => logits()
            .map(|x| (1.0 / (1.0 + (-x).exp())) as f32)
            .collect(),
        Some(Function::Softmax) => {
            let highest = logits().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits().map(|x| (x - highest).exp()).sum();
            logits()
                .map(|x| ((x - highest).exp() / sum) as f32)
                .collect()
        }
    };
    let mut predictions: Vec<Prediction<'a>> = labels
        .iter()
        .zip(scores)
        .map(|(label, score)| Prediction { label, score })
        .collect();
    // A stable sort, so that ties keep the order of the labels, as in the native API.
    predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
    predictions.truncate(top_k);
    predictions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Inputs, String> {
        parse::<IgnoredAny>(json, "inputs", 3, "expected")
            .map(|(inputs, _)| inputs)
            .map_err(|error| error.to_string())
    }

    fn text(text: &str) -> Input {
        Input::Text(text.to_owned())
    }

    #[test]
    fn all_forms_of_texts_are_accepted() {
        let one = Ok(Inputs::One("a".to_owned()));
        assert_eq!(read(r#"{"inputs":"a"}"#), one);
        assert_eq!(
            read(r#"{"x":[{"inputs":1}],"inputs":{"text":"a"},"y":null}"#),
            one
        );
        let many = read(r#"{"inputs":["a",{"content":"b\n"},["c","d"]]}"#);
        let pair = Input::Sequence(vec!["c".to_owned(), "d".to_owned()]);
        assert_eq!(many, Ok(Inputs::Many(vec![text("a"), text("b\n"), pair])));
        assert_eq!(read(r#"{"inputs":[]}"#), Ok(Inputs::Many(Vec::new())));
        let many = read(r#"{"inputs":["a",null,{"text":null}]}"#);
        let expected = vec![text("a"), text(""), text("")];
        assert_eq!(many, Ok(Inputs::Many(expected)));
    }

    #[test]
    fn other_forms_get_an_error_with_the_right_form() {
        for json in [
            "{}",
            "[]",
            "",
            r#"{"inputs":null}"#,
            r#"{"inputs":5}"#,
            r#"{"inputs":["a",5]}"#,
            r#"{"inputs":[["a","b","c"]]}"#,
            r#"{"inputs":[{"txt":"a"}]}"#,
            r#"{"inputs":{"text":"a","content":"b"}}"#,
        ] {
            assert_eq!(read(json), Err("expected".to_owned()), "{json}");
        }
        for json in [
            r#"{"inputs":{"text":"a","text_pair":"b"}}"#,
            r#"{"inputs":[{"text_pair":"b","text":"a"}]}"#,
        ] {
            let message = read(json).expect_err("a pair");
            assert!(message.contains("pairs are not supported"), "{message}");
        }
        let one = Ok(Inputs::One("a".to_owned()));
        assert_eq!(read(r#"{"inputs":{"text":"a","text_pair":null}}"#), one);
        let deep = format!(r#"{{"inputs":{}"#, "[".repeat(100_000));
        assert!(read(&deep).expect_err("deep").contains("nested"));
        assert!(
            read(r#"{"inputs":"a"#)
                .expect_err("cut")
                .contains("not valid JSON")
        );
    }

    #[test]
    fn native_bodies_are_told_apart() {
        let read = |json| {
            parse_unless_native::<IgnoredAny>(json, "inputs", 3, "expected")
                .map(|body| body.map(|(inputs, _)| inputs))
                .map_err(|error| error.to_string())
        };
        for json in [
            r#"{"text":"a"}"#,
            r#"{"texts":["a"],"inputs":"b"}"#,
            "[]",
            "",
            "{}",
        ] {
            assert_eq!(read(json), Ok(None), "{json}");
        }
        let one = Ok(Some(Inputs::One("a".to_owned())));
        assert_eq!(read(r#"{"parameters":{},"inputs":"a"}"#), one);
        let expected = Err("expected".to_owned());
        assert_eq!(read(r#"{"inputs":5}"#), expected);
        assert_eq!(read(r#"{"inputs":5,"text":"a"}"#), expected);
    }

    #[test]
    fn lists_have_a_limit() {
        assert!(read(r#"{"inputs":["a","b","c"]}"#).is_ok());
        let message = read(r#"{"inputs":["a","b","c","d"]}"#).expect_err("too many");
        assert!(message.contains("more than 3 items"), "{message}");
    }

    #[test]
    fn the_function_is_applied_to_logits() {
        let mut sentiment = Sentiment::from_scores(&["a", "b"], &[0.25, 0.75]);
        sentiment.logits = vec![-1.0, 0.0];
        let labels = ["a", "b"].map(str::to_owned);
        let check = |function, top_k, expected: &[(&str, f32)]| {
            let predictions = predictions(&sentiment, &labels, function, top_k);
            let got: Vec<_> = predictions.iter().map(|it| (it.label, it.score)).collect();
            assert_eq!(got, expected, "{function:?}");
        };
        check(None, 5, &[("b", 0.75), ("a", 0.25)]);
        check(Some(Function::None), 1, &[("b", 0.0)]);
        check(
            Some(Function::Sigmoid),
            2,
            &[("b", 0.5), ("a", 0.268_941_43)],
        );
        check(
            Some(Function::Softmax),
            2,
            &[("b", 0.731_058_6), ("a", 0.268_941_43)],
        );
    }
}
