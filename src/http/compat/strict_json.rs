//! Parses JSON of a known form into types, with bounded memory.

use super::error::{CompatError, FormatError};
use crate::http::posts;
use serde::de::DeserializeOwned;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Parses a body. `expected` is the message for JSON of another form, because serde's own
/// message would quote the post.
pub(super) fn parse<T: DeserializeOwned>(
    json: &str,
    expected: &'static str,
) -> Result<T, CompatError> {
    serde_json::from_str(json)
        .map(|StrictObject(body)| body)
        .map_err(|error| body_error(json, &error, expected))
}

/// The error of a body that could not be parsed.
pub(super) fn body_error(
    json: &str,
    error: &serde_json::Error,
    expected: &'static str,
) -> CompatError {
    if json.trim_ascii().is_empty() {
        return FormatError::Request(expected).into();
    }
    posts::syntax_error(json, error)
        .map_or_else(|| FormatError::Request(expected).into(), CompatError::Api)
}

/// Whether this has the form of a language code, such as `en` or `zh-Hant`.
pub(super) fn is_language(code: &str) -> bool {
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut parts = code.split('-');
    let primary = parts.next().unwrap_or_default();
    let is_primary = (2..=8).contains(&primary.len());
    is_primary && primary.bytes().all(|byte| byte.is_ascii_alphabetic()) && parts.all(is_part)
}

/// The language of a code, without script and region: `zh` of `zh-Hant`.
pub(super) fn primary_language(code: &str) -> String {
    let primary = code.split('-').next().unwrap_or_default();
    primary.to_ascii_lowercase()
}

/// Accepts objects only. By default serde also accepts a list, with the fields' values in order.
#[derive(Default)]
pub(super) struct StrictObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for StrictObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StrictObjectVisitor(PhantomData))
    }
}

struct StrictObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for StrictObjectVisitor<T> {
    type Value = StrictObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StrictObject<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(StrictObject)
    }
}

/// A list that keeps at most `MAX` items, however many the input has.
pub(super) struct BoundedVec<T, const MAX: usize> {
    items: Vec<T>,
    is_too_long: bool,
}

impl<T, const MAX: usize> BoundedVec<T, MAX> {
    /// The items. Fails if there are none or too many.
    pub(super) fn checked(self) -> Result<Vec<T>, CompatError> {
        if self.is_too_long {
            return Err(FormatError::BatchTooLarge { max: MAX }.into());
        }
        if self.items.is_empty() {
            return Err(FormatError::EmptyBatch.into());
        }
        Ok(self.items)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedVec<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVecVisitor(PhantomData))
    }
}

struct BoundedVecVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVecVisitor<T, MAX> {
    type Value = BoundedVec<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let mut is_too_long = false;
        while items.len() < MAX {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(BoundedVec { items, is_too_long }),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            is_too_long = true;
        }
        Ok(BoundedVec { items, is_too_long })
    }
}
