//! Texts under one key of an object, and predictions for them: what Hugging Face,
//! Text Embeddings Inference, SageMaker and Vertex AI have in common.

use super::error::{CompatError, CompatFailure};
use super::strict_json;
use coldread_engine::Sentiment;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer,
    MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

const NO_TEXT_PAIRS: &str =
    "this model takes no pairs; send each text by itself, without `text_pair`";

/// Where an object that stands for a text has it.
const TEXT_KEYS: [&str; 3] = ["text", "content", "inputs"];

/// What stands under the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    /// One text.
    One(String),
    /// A list.
    Many(Vec<Input>),
}

/// One place of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// `"..."`, or an object with the text under `text`, `content` or `inputs`.
    Text(String),
    /// `["..."]`, which is one text, or a pair of them.
    Sequence(Vec<String>),
}

/// One place of a list that holds no sequences, as a JSON schema; `text` is that of a text.
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

/// Parses a body: the texts under `key`, of which at most `max`, and beside them what `T`
/// has.
pub(super) fn parse<T: DeserializeOwned>(
    json: &str,
    key: &'static str,
    max: usize,
    expected: &'static str,
) -> Result<(Inputs, T), CompatFailure> {
    let body = read(json, Reading::new(key, max, &[]), expected)?;
    Ok(body.ok_or(CompatError::Request(expected))?)
}

/// Parses a body of a route that takes native bodies as well: `None` if it is one of these,
/// or neither. A native body is recognized at its first key, so that little is parsed twice.
pub(super) fn parse_unless_native<T: DeserializeOwned>(
    json: &str,
    key: &'static str,
    max: usize,
    expected: &'static str,
) -> Result<Option<(Inputs, T)>, CompatFailure> {
    read(json, Reading::new(key, max, &NATIVE_KEYS), expected)
}

const NATIVE_KEYS: [&str; 2] = ["text", "texts"];

fn read<T: DeserializeOwned>(
    json: &str,
    mut reading: Reading,
    expected: &'static str,
) -> Result<Option<(Inputs, T)>, CompatFailure> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let rest = Body(&mut reading, PhantomData::<T>).deserialize(&mut deserializer);
    let rest = rest.and_then(|rest| deserializer.end().map(|()| rest));
    match (rest, reading.inputs, reading.fault.take()) {
        (Ok(rest), inputs, _) => Ok(inputs.map(|inputs| (inputs, rest))),
        (Err(_), _, Some(fault)) => Err(fault.into()),
        // The native parser says what is wrong.
        (Err(error), ..) if reading.allows_native && !reading.seen.is_format(&error) => Ok(None),
        (Err(error), ..) => Err(strict_json::fault(json, &error, expected)),
    }
}

/// What is looked for in a body, and what was found.
struct Reading {
    key: &'static str,
    max: usize,
    native_keys: &'static [&'static str],
    allows_native: bool,
    seen: Seen,
    inputs: Option<Inputs>,
    /// What is wrong, where serde's error does not say it.
    fault: Cell<Option<CompatError>>,
}

/// What tells native bodies and those of the format apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Object,
    NativeKey,
    Key,
}

impl Seen {
    /// Whether a body that has this error was meant to be of the format.
    fn is_format(self, error: &serde_json::Error) -> bool {
        match self {
            Self::Nothing | Self::NativeKey => false,
            // Of the fields beside the texts, only the format's can have a wrong type.
            Self::Object => error.is_data(),
            Self::Key => true,
        }
    }
}

impl Reading {
    fn new(key: &'static str, max: usize, native_keys: &'static [&'static str]) -> Self {
        Self {
            key,
            max,
            native_keys,
            allows_native: !native_keys.is_empty(),
            seen: Seen::Nothing,
            inputs: None,
            fault: Cell::new(None),
        }
    }
}

/// A body in one pass: the texts by way of [`Inputs`], the rest by that of `T`.
struct Body<'a, T>(&'a mut Reading, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Body<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Body<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let reading = self.0;
        reading.seen = Seen::Object;
        T::deserialize(MapAccessDeserializer::new(Rest { map, reading }))
    }
}

/// An object's fields without the texts, which are kept aside as they come.
struct Rest<'a, A> {
    map: A,
    reading: &'a mut Reading,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key == self.reading.key {
                self.reading.seen = Seen::Key;
                let list = List {
                    max: self.reading.max,
                    fault: &self.reading.fault,
                };
                self.reading.inputs = Some(self.map.next_value_seed(list)?);
                continue;
            }
            let is_native = self.reading.native_keys.contains(&key.as_str());
            if is_native && self.reading.seen == Seen::Object {
                self.reading.seen = Seen::NativeKey;
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

/// A key of an object that stands for a text, without its letters.
enum Key {
    Text,
    Pair,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(match key {
            "text_pair" => Key::Pair,
            key if TEXT_KEYS.contains(&key) => Key::Text,
            _ => Key::Other,
        })
    }
}

#[derive(Clone, Copy)]
struct List<'a> {
    max: usize,
    fault: &'a Cell<Option<CompatError>>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Inputs;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inputs, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
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
        object(map, self.fault).map(Inputs::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
        let mut list = Vec::new();
        while list.len() < self.max {
            match seq.next_element_seed(Place(self.fault))? {
                Some(input) => list.push(input),
                None => return Ok(Inputs::Many(list)),
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            let max = self.max;
            self.fault.set(Some(CompatError::BatchTooLarge { max }));
            return Err(A::Error::custom("noted"));
        }
        Ok(Inputs::Many(list))
    }
}

struct Place<'a>(&'a Cell<Option<CompatError>>);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Input;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Input, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
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

    /// A text that is missing is an empty one, which errs in its place where it can.
    fn visit_unit<E: Error>(self) -> Result<Input, E> {
        Ok(Input::Text(String::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input, A::Error> {
        object(map, self.0).map(Input::Text)
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

/// The text of `{"text": "..."}`, of which there is one. With `text_pair` it would be two,
/// of which a model of single posts can make nothing.
fn object<'de, A: MapAccess<'de>>(
    mut map: A,
    fault: &Cell<Option<CompatError>>,
) -> Result<String, A::Error> {
    let mut text = None;
    while let Some(key) = map.next_key()? {
        match key {
            Key::Text if text.is_some() => return Err(A::Error::custom("two texts")),
            Key::Text => text = Some(map.next_value()?),
            Key::Pair if map.next_value::<Option<IgnoredAny>>()?.is_some() => {
                fault.set(Some(CompatError::Request(NO_TEXT_PAIRS)));
                return Err(A::Error::custom("noted"));
            }
            Key::Pair => {}
            Key::Other => _ = map.next_value::<IgnoredAny>()?,
        }
    }
    text.ok_or_else(|| A::Error::missing_field("text"))
}

/// How logits become scores, where the client has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Function))]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Sigmoid,
    Softmax,
    /// The logits as they are.
    None,
}

/// How many labels are asked for, which is a whole number from 1. JSON does not tell 1.0
/// from 1.
pub(super) fn count(top_k: f64) -> Option<usize> {
    (top_k >= 1.0 && top_k.fract() == 0.0).then_some(top_k as usize)
}

/// A label and its score.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Prediction))]
pub(super) struct Prediction<'a> {
    pub(super) label: &'a str,
    pub(super) score: f32,
}

/// A place of a response: one label, or a list of them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Ranked))]
#[serde(untagged)]
pub(super) enum Ranked<'a> {
    One(Prediction<'a>),
    List(Vec<Prediction<'a>>),
}

impl<'a> Ranked<'a> {
    /// The response of these lists, one a text, or of what is in them one after another.
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

/// The labels by score, highest first, and no more than `top_k`.
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
    // Stable: the first of equals stays the first, as natively.
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
    fn texts_are_found_in_all_their_forms() {
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
        let many = read(r#"{"inputs":["a",null]}"#);
        let expected = vec![text("a"), text("")];
        assert_eq!(many, Ok(Inputs::Many(expected)));
    }

    #[test]
    fn other_forms_are_told_the_right_one() {
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
            assert!(message.contains("takes no pairs"), "{message}");
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
    fn scores_are_what_the_function_makes_of_logits() {
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
