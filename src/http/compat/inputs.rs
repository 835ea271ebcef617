//! Texts under one key of an object, and predictions for them: what Hugging Face,
//! Text Embeddings Inference, SageMaker and Vertex AI have in common.

use super::call::CompatError;
use super::shape;
use crate::http::error::ApiError;
use coldread_engine::Sentiment;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fmt;

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

/// Reads the texts under `key`, and nothing else. Of a list at most `max` places are read.
pub(super) fn parse(
    json: &str,
    key: &'static str,
    max: usize,
    shape: &'static str,
) -> Result<Inputs, ApiError> {
    let is_more = Cell::new(false);
    let seed = Body {
        key,
        list: List {
            max,
            is_more: &is_more,
        },
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let inputs = seed.deserialize(&mut deserializer);
    let inputs = inputs.and_then(|inputs| deserializer.end().map(|()| inputs));
    inputs
        .map_err(|error| {
            if is_more.get() {
                CompatError::BatchTooLarge { max }.into()
            } else {
                shape::fault(json, &error, shape)
            }
        })?
        .ok_or_else(|| CompatError::Request(shape).into())
}

/// Whether a body is an object with `key`. What is no JSON has none.
pub(super) fn has(json: &str, key: &'static str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(Has(key)).unwrap_or(false)
}

struct Has(&'static str);

impl<'de> Visitor<'de> for Has {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has = false;
        while let Some(is_key) = map.next_key_seed(IsKey(&[self.0]))? {
            has |= is_key;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(has)
    }
}

struct Body<'a> {
    key: &'static str,
    list: List<'a>,
}

#[derive(Clone, Copy)]
struct List<'a> {
    max: usize,
    is_more: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Option<Inputs>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Option<Inputs>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut inputs = None;
        while let Some(is_key) = map.next_key_seed(IsKey(&[self.key]))? {
            if is_key {
                inputs = Some(map.next_value_seed(self.list)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(inputs)
    }
}

/// Tells whether a key is one of these, without keeping it.
struct IsKey<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(self.0.contains(&key))
    }
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
        object(map).map(Inputs::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
        let mut list = Vec::new();
        while list.len() < self.max {
            match seq.next_element_seed(Place)? {
                Some(input) => list.push(input),
                None => return Ok(Inputs::Many(list)),
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            self.is_more.set(true);
            return Err(A::Error::custom("noted"));
        }
        Ok(Inputs::Many(list))
    }
}

struct Place;

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Input;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Input, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
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

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input, A::Error> {
        object(map).map(Input::Text)
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

/// The text of `{"text": "..."}`, of which there is one. No model here takes the second text
/// of a pair, which must not be dropped without a word.
fn object<'de, A: MapAccess<'de>>(mut map: A) -> Result<String, A::Error> {
    let mut text = None;
    while let Some(key) = map.next_key::<String>()? {
        let is_text = TEXT_KEYS.contains(&key.as_str());
        if is_text && text.is_some() {
            return Err(A::Error::custom("two texts"));
        }
        if is_text {
            text = Some(map.next_value()?);
        } else if key == "text_pair" {
            if map.next_value::<Option<IgnoredAny>>()?.is_some() {
                return Err(A::Error::custom("a pair"));
            }
        } else {
            map.next_value::<IgnoredAny>()?;
        }
    }
    text.ok_or_else(|| A::Error::missing_field("text"))
}

/// How logits become scores, where the caller has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
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

/// A place of an answer: one label, or a list of them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Ranked))]
#[serde(untagged)]
pub(super) enum Ranked<'a> {
    One(Prediction<'a>),
    List(Vec<Prediction<'a>>),
}

impl<'a> Ranked<'a> {
    /// The answer of these lists, one a text, or of what is in them one after another.
    pub(super) fn of(
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
        parse(json, "inputs", 3, "the shape").map_err(|error| error.to_string())
    }

    fn text(text: &str) -> Input {
        Input::Text(text.to_owned())
    }

    #[test]
    fn texts_stand_in_many_shapes() {
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
    }

    #[test]
    fn other_shapes_are_told_the_right_one() {
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
            r#"{"inputs":{"text":"a","text_pair":"b"}}"#,
            r#"{"inputs":[{"text_pair":"b","text":"a"}]}"#,
        ] {
            assert_eq!(read(json), Err("the shape".to_owned()), "{json}");
        }
        let deep = format!(r#"{{"inputs":{}"#, "[".repeat(100_000));
        assert!(read(&deep).expect_err("deep").contains("nested"));
        assert!(
            read(r#"{"inputs":"a"#)
                .expect_err("cut")
                .contains("not valid JSON")
        );
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
