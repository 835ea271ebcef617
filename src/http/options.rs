//! The options of a request: how its posts are scored. A JSON body can name them, and so can the
//! query of any request.

use super::error::ApiError;
use crate::scorer::PostOptions;
use coldread_engine::LongText;

/// The options that a body or a query names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NamedOptions {
    pub(super) long_text: Option<LongText>,
    pub(super) detect_language: Option<bool>,
}

impl NamedOptions {
    /// The options in a query.
    pub(super) fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        let value = |wanted: &str| {
            let pairs = query.unwrap_or_default().split('&');
            let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let long_text = value("long_text").map(|name| {
            let long_text = name.parse();
            long_text.map_err(|_| ApiError::InvalidLongText)
        });
        let detect_language = value("detect_language").map(|name| {
            let detect_language = name.parse();
            detect_language.map_err(|_| ApiError::InvalidDetectLanguage)
        });
        Ok(Self {
            long_text: long_text.transpose()?,
            detect_language: detect_language.transpose()?,
        })
    }

    /// These options, and others where these name none.
    #[must_use]
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            long_text: self.long_text.or(others.long_text),
            detect_language: self.detect_language.or(others.detect_language),
        }
    }
}

impl From<NamedOptions> for PostOptions {
    fn from(named: NamedOptions) -> Self {
        Self {
            long_text: named.long_text.unwrap_or_default(),
            detect_language: named.detect_language.unwrap_or_default(),
            model: None,
        }
    }
}
