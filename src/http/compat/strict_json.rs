//! JSON of a known form, parsed into types with bounded memory.

use super::error::{CompatError, CompatFailure};
use crate::http::posts;
use serde::de::DeserializeOwned;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a body. `expected` is what is said of one that is JSON, but not of this form:
/// serde's own words would quote the post.
pub(super) fn parse<T: DeserializeOwned>(
    json: &str,
    expected: &'static str,
) -> Result<T, CompatFailure> {
    serde_json::from_str(json)
        .map(|StrictObject(body)| body)
        .map_err(|error| fault(json, &error, expected))
}

/// What to say of a body that could not be read.
pub(super) fn fault(
    json: &str,
    error: &serde_json::Error,
    expected: &'static str,
) -> CompatFailure {
    if json.trim_ascii().is_empty() {
        return CompatError::Request(expected).into();
    }
    posts::fault(json, error)
        .map_or_else(|| CompatError::Request(expected).into(), CompatFailure::Api)
}

/// Whether this could be a language's code, such as `en` or `zh-Hant`.
pub(super) fn is_language(code: &str) -> bool {
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut parts = code.split('-');
    let primary = parts.next().unwrap_or_default();
    let is_primary = (2..=8).contains(&primary.len());
    is_primary && primary.bytes().all(|byte| byte.is_ascii_alphabetic()) && parts.all(is_part)
}

/// An object. Without this a list would be taken for one as well, its items for the
/// values of the fields in the order of our own type.
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

/// A list of which no more than `MAX` items are kept, however many there are.
pub(super) struct BoundedVec<T, const MAX: usize> {
    items: Vec<T>,
    is_more: bool,
}

impl<T, const MAX: usize> BoundedVec<T, MAX> {
    /// The items, of which there is at least one.
    pub(super) fn some(self) -> Result<Vec<T>, CompatFailure> {
        if self.is_more {
            return Err(CompatError::BatchTooLarge { max: MAX }.into());
        }
        if self.items.is_empty() {
            return Err(CompatError::EmptyBatch.into());
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
        let mut is_more = false;
        while items.len() < MAX {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(BoundedVec { items, is_more }),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            is_more = true;
        }
        Ok(BoundedVec { items, is_more })
    }
}
