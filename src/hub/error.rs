//! Errors of downloading a model from the Hub.

use coldread_model::LoadError;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a model could not be got from the Hub. Displayed as `code: message`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither a path nor the id of a model.
    #[error("{}: {id:?} is neither a file or folder nor a model of the Hub: {reason}", self.code())]
    InvalidId {
        /// What was asked for.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such model, revision or file.
    #[error("{}: the Hub has no {_0}", self.code())]
    NotFound(String),
    /// A token is needed, or the one that was sent was rejected.
    #[error("{}: {}", self.code(), unauthorized(id, *with_token))]
    Unauthorized {
        /// The model.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The token's owner has no access to the model, such as a gated one.
    #[error(
        "{}: the token has no access to {_0}; if the model is gated, accept its terms on its page",
        self.code()
    )]
    Forbidden(String),
    /// Too many requests, and the wait is too long.
    #[error("{}: the Hub is limiting requests{}; retry later, or with a token in HF_TOKEN", self.code(), for_seconds(*_0))]
    RateLimited(Option<Duration>),
    /// No connection, or it keeps breaking.
    #[error("{}: {endpoint} cannot be reached: {reason}", self.code())]
    Unreachable {
        /// The Hub's address.
        endpoint: String,
        /// What the network said.
        reason: String,
    },
    /// A response that a Hub does not send.
    #[error("{}: unexpected response from the Hub: {_0}", self.code())]
    BadAnswer(String),
    /// A file's hash is not the announced one.
    #[error("{}: {_0}: the file does not match the hash that the Hub announced; it was discarded, so try again", self.code())]
    Mismatch(String),
    /// Offline, and the cache lacks the model.
    #[error("{}: {_0} is not fully cached and --offline (HF_HUB_OFFLINE) is set", self.code())]
    NotCached(String),
    /// The model lacks files that are needed.
    #[error("{}: {id}: {reason}", self.code())]
    Unusable {
        /// The model.
        id: String,
        /// What is missing.
        reason: String,
    },
    /// The token has characters that no token has.
    #[error("{}: the Hugging Face token contains invalid characters; check HF_TOKEN", self.code())]
    InvalidToken,
    /// The cache cannot be read or written.
    #[error("{}: {}: {source}", self.code(), path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
    /// The model's own files say that it cannot run.
    #[error("{}: {_0}", self.code())]
    Model(#[source] Arc<LoadError>),
}

fn unauthorized(id: &str, with_token: bool) -> String {
    if with_token {
        return format!("the Hub rejected the token for {id}; check HF_TOKEN");
    }
    format!("the Hub has no public model {id}; a private or gated one needs a token in HF_TOKEN")
}

fn for_seconds(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!(" for {} s", wait.as_secs()))
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

    /// Whether a complete model in the cache is better than this error: the Hub cannot be
    /// reached, or what it has cannot be written.
    pub(super) fn leaves_the_cache_usable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Cache { source, .. } => matches!(
                source.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ),
            _ => false,
        }
    }

    pub(super) fn cache(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Cache {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

impl From<LoadError> for HubError {
    fn from(error: LoadError) -> Self {
        Self::Model(Arc::new(error))
    }
}
