//! What can go wrong on the way to a model of the Hub.

use coldread_model::LoadError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a model of the Hub is not there. Displayed as `code: message`.
#[derive(Debug, Clone)]
pub enum HubError {
    /// What was asked for cannot be the name of a model.
    InvalidId {
        /// What was asked for.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such model, or no such revision of it.
    NotFound(String),
    /// A token is needed, or the one there is was refused.
    Unauthorized {
        /// The model.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The token's owner may not have the model, such as a gated one.
    Forbidden(String),
    /// Too many requests, and the wait is too long.
    RateLimited(Option<Duration>),
    /// No connection, or none that lasts.
    Unreachable {
        /// The Hub's address.
        endpoint: String,
        /// What the network said.
        reason: String,
    },
    /// The Hub answered, but not as the Hub does.
    BadAnswer(String),
    /// What arrived is not what the Hub announced.
    Mismatch(String),
    /// Offline, and the cache lacks the model.
    NotCached(String),
    /// The model has not the files that are needed.
    Unusable {
        /// The model.
        id: String,
        /// What is missing.
        reason: String,
    },
    /// The token has characters that no token has.
    InvalidToken,
    /// The cache cannot be read or written.
    Cache {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
    /// The model's own files say that it cannot run.
    Model(Arc<LoadError>),
}

impl HubError {
    /// The error's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidId { .. } => "hub_invalid_id",
            Self::NotFound(_) => "hub_not_found",
            Self::Unauthorized { .. } => "hub_unauthorized",
            Self::Forbidden(_) => "hub_forbidden",
            Self::RateLimited(_) => "hub_rate_limited",
            Self::Unreachable { .. } => "hub_unreachable",
            Self::BadAnswer(_) => "hub_bad_answer",
            Self::Mismatch(_) => "hub_hash_mismatch",
            Self::NotCached(_) => "hub_not_cached",
            Self::Unusable { .. } => "hub_unusable_model",
            Self::InvalidToken => "hub_invalid_token",
            Self::Cache { .. } => "hub_cache",
            Self::Model(_) => "hub_unsupported_model",
        }
    }

    pub(super) fn cache(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Cache {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        match self {
            Self::InvalidId { id, reason } => {
                write!(
                    f,
                    "{id:?} is neither a file or folder nor a model of the Hub: {reason}"
                )
            }
            Self::NotFound(what) => write!(f, "the Hub has no {what}"),
            Self::Unauthorized {
                id,
                with_token: false,
            } => write!(
                f,
                "the Hub has no public model {id}; a private or gated one needs a token in HF_TOKEN"
            ),
            Self::Unauthorized {
                id,
                with_token: true,
            } => write!(f, "the Hub does not take the token for {id}"),
            Self::Forbidden(id) => write!(
                f,
                "the token's owner may not have {id}; a gated model's terms are accepted on its page"
            ),
            Self::RateLimited(Some(wait)) => write!(
                f,
                "the Hub wants no more requests for {} s; try later, or with a token",
                wait.as_secs()
            ),
            Self::RateLimited(None) => {
                write!(
                    f,
                    "the Hub wants no more requests; try later, or with a token"
                )
            }
            Self::Unreachable { endpoint, reason } => {
                write!(f, "{endpoint} cannot be reached: {reason}")
            }
            Self::BadAnswer(what) => write!(f, "the Hub's answer cannot be used: {what}"),
            Self::Mismatch(file) => {
                write!(
                    f,
                    "{file}: what arrived has not the hash that the Hub names"
                )
            }
            Self::NotCached(id) => write!(
                f,
                "{id} is not, or not whole, in the cache, and offline nothing is downloaded"
            ),
            Self::Unusable { id, reason } => write!(f, "{id}: {reason}"),
            Self::InvalidToken => write!(f, "the token has characters that no token has"),
            Self::Cache { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Model(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for HubError {}

impl From<LoadError> for HubError {
    fn from(error: LoadError) -> Self {
        Self::Model(Arc::new(error))
    }
}
