//! What the page needs to score in the browser: the npm package `coldread`, from the operator's
//! folder, and this server's model, from its memory.
//!
//! The package is read once, at start. Every path contains a hash of all contents, so that browsers
//! keep the files for good, and a page never joins parts of two releases or another model. Nothing
//! else has a path.

use super::routes::Template;
use super::state::AppState;
use crate::config::ConfigError;
use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use coldread_engine::Model;
use coldread_model::PackedModel;
use coldread_model::packed::PackedTokenizer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

pub(super) const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const WASM: &str = "application/wasm";
pub(super) const MODEL: &str = "application/octet-stream";

/// The files of the package that a browser loads.
const PACKAGE: [(&str, &str); 5] = [
    ("tab.js", JAVASCRIPT),
    ("worker.js", JAVASCRIPT),
    ("coldread.js", JAVASCRIPT),
    ("coldread.wasm", WASM),
    ("coldread-relaxed.wasm", WASM),
];

/// The model's name, as in the package.
const MODEL_NAME: &str = "default.coldread";

/// A worker has a policy of its own, which lets it compile WebAssembly; the page's does not.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";

const PUBLIC: &str = "public, max-age=31536000, immutable";
const PRIVATE: &str = "private, max-age=31536000, immutable";

/// The package and the model, as the page loads them.
#[derive(Clone)]
pub struct WebEngine {
    hash: String,
    package: Vec<File>,
    model: File,
}

#[derive(Clone)]
struct File {
    name: &'static str,
    content_type: &'static str,
    content: Bytes,
}

impl WebEngine {
    /// Reads the package in a folder.
    ///
    /// # Errors
    /// If a file is missing, or the package would not give this server's scores.
    pub fn open(folder: &Path, models: &[Model]) -> Result<Self, ConfigError> {
        let [model] = models else {
            return Err(ConfigError::WebEngine(
                "the page cannot choose between two models; leave --also-model out".to_owned(),
            ));
        };
        let model = model.packed().filter(|model| has_own_tokenizer(model));
        let model = model.ok_or_else(|| {
            ConfigError::WebEngine(
                "this model does not run in a browser: it needs the int8 engine, and BERT's or \
                 XLM-RoBERTa's tokenizer"
                    .to_owned(),
            )
        })?;
        let read = |(name, content_type)| {
            let path = folder.join(name);
            let content = std::fs::read(&path).map_err(|error| {
                let path = path.display();
                ConfigError::WebEngine(format!(
                    "{path}: {error}; expected the folder of the npm package `coldread`"
                ))
            })?;
            Ok(File {
                name,
                content_type,
                content: content.into(),
            })
        };
        let package = PACKAGE.into_iter().map(read);
        let package = package.collect::<Result<Vec<File>, ConfigError>>()?;
        let mut hash = Sha256::new_with_prefix(model.fingerprint().to_be_bytes());
        for File { content, .. } in &package {
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let (first, _) = hash.as_chunks::<8>();
        Ok(Self {
            hash: format!("{:016x}", u64::from_be_bytes(first[0])),
            package,
            model: File {
                name: MODEL_NAME,
                content_type: MODEL,
                content: Bytes::from_owner(model.clone()),
            },
        })
    }

    /// Marks the page, which is at the root, as one that may score in the browser.
    pub(super) fn mark(&self, page: &str) -> String {
        let megabytes = self.model.content.len().div_ceil(1_000_000);
        let mark = format!(
            r#"data-server data-package="package/{}/" data-megabytes="{megabytes}""#,
            self.hash
        );
        page.replacen("data-server", &mark, 1)
    }

    fn path(&self, file: &File) -> String {
        format!("/package/{}/{}", self.hash, file.name)
    }

    fn route(&self, file: &File, cache_control: &'static str) -> Router<AppState> {
        let (path, hash, file) = (self.path(file), self.hash.clone(), file.clone());
        let handler = async move |headers: HeaderMap| file.respond(&hash, cache_control, &headers);
        Router::new().route(&path, get(handler))
    }

    pub(super) fn package_routes(&self) -> Router<AppState> {
        let routes = self.package.iter().map(|file| self.route(file, PUBLIC));
        routes.fold(Router::new(), Router::merge)
    }

    pub(super) fn model_route(&self, is_public: bool) -> Router<AppState> {
        self.route(&self.model, if is_public { PUBLIC } else { PRIVATE })
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = (String, Template)> {
        let files = self.package.iter().chain([&self.model]);
        files.map(|file| {
            let template = Template {
                name: "/package",
                is_health: false,
            };
            (self.path(file), template)
        })
    }
}

/// Without the contents, which are megabytes.
impl fmt::Debug for WebEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebEngine")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// Any other tokenizer is a library's, which the package lacks.
fn has_own_tokenizer(model: &PackedModel) -> bool {
    !matches!(model.tokenizer(), PackedTokenizer::Json(_))
}

impl File {
    fn respond(&self, hash: &str, cache_control: &'static str, request: &HeaderMap) -> Response {
        // Weak, because JavaScript may be compressed on its way.
        let etag = format!("W/\"{hash}\"");
        let mut known = request.get_all(IF_NONE_MATCH).iter();
        let is_known = known.any(|it| it == "*" || it.to_str().is_ok_and(|it| it.contains(&etag)));
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (CACHE_CONTROL, HeaderValue::from_static(cache_control)),
            (ETAG, HeaderValue::try_from(etag).expect("digits")),
        ];
        if is_known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.content.clone()).into_response()
    }
}
