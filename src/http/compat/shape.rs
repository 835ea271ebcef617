//! JSON of a known shape, read into types with bounded memory.

use super::call::CompatError;
use crate::http::error::ApiError;
use crate::http::posts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a body. `shape` is what is said of one that is JSON, but not of this shape:
/// serde's own words would quote the post.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    json: &'a str,
    shape: &'static str,
) -> Result<T, ApiError> {
    serde_json::from_str(json)
        .map(|Object(body)| body)
        .map_err(|error| fault(json, &error, shape))
}

/// What to say of a body that could not be read.
pub(super) fn fault(json: &str, error: &serde_json::Error, shape: &'static str) -> ApiError {
    if json.trim_ascii().is_empty() {
        return CompatError::Request(shape).into();
    }
    posts::fault(json, error).unwrap_or_else(|| CompatError::Request(shape).into())
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
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A list of which no more than `MAX` items are kept, however many there are.
pub(super) struct AtMost<T, const MAX: usize> {
    items: Vec<T>,
    is_more: bool,
}

impl<T, const MAX: usize> AtMost<T, MAX> {
    /// The items, of which there is at least one.
    pub(super) fn some(self) -> Result<Vec<T>, ApiError> {
        if self.is_more {
            return Err(CompatError::BatchTooLarge { max: MAX }.into());
        }
        if self.items.is_empty() {
            return Err(CompatError::EmptyBatch.into());
        }
        Ok(self.items)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AtMostVisitor(PhantomData))
    }
}

struct AtMostVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMostVisitor<T, MAX> {
    type Value = AtMost<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let mut is_more = false;
        while items.len() < MAX {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(AtMost { items, is_more }),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            is_more = true;
        }
        Ok(AtMost { items, is_more })
    }
}
