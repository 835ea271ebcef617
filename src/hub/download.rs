//! The Hub's HTTP API: list a model's files, and download one of them, whole or not at all.
//!
//! The protocol, as Python's client speaks it:
//!
//! - `GET /api/models/OWNER/NAME/revision/REVISION` has the commit (`sha`) and the names.
//! - `HEAD /OWNER/NAME/resolve/COMMIT/FILE`, without following a redirect to another
//!   host, has `X-Repo-Commit`, the hash (`X-Linked-Etag`, else `ETag`) and the size
//!   (`X-Linked-Size`, else `Content-Length`). A redirect on the Hub itself is a renamed
//!   model.
//! - `GET` of the same leads to the contents, large files by way of a redirect to a
//!   CDN, and takes `Range`.

use super::cache::Place;
use super::environment::Environment;
use super::id::{is_commit, is_hex};
use super::partial_file::PartialFile;
use super::{HubError, HubId};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::io::{ErrorKind, Read};
use std::time::Duration;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION,
    RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};

/// Retries of a step that made no progress.
const RETRIES: u32 = 3;
/// The wait before the first retry; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A longer `Retry-After` than this is an error.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause within a response.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_REDIRECTS: usize = 10;
/// The longest list of a model's files, in bytes.
const MAX_LISTING: u64 = 16 << 20;

/// Progress of a file's download.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Bytes that have arrived.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A blocking client of one Hub. It needs no async runtime, so that it can be used
/// within one.
pub(super) struct Downloader {
    agent: Agent,
    endpoint: String,
    /// The value of `Authorization`.
    token: Option<HeaderValue>,
}

/// What the Hub announces of a file.
struct Announced {
    /// SHA-256 of a large file (64 digits), git's SHA-1 of a small one (40).
    hash: String,
    size: u64,
}

/// A model's files, as the Hub lists them.
#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Downloader {
    pub(super) fn new(environment: Environment) -> Self {
        let Environment {
            endpoint, token, ..
        } = environment;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .user_agent(concat!("coldread/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            // Redirects must not leave HTTPS either.
            .https_only(endpoint.starts_with("https:"))
            .http_status_as_error(false)
            // `send` follows them itself, because it decides who gets the token.
            .max_redirects(0)
            .build();
        Self {
            agent: config.into(),
            endpoint,
            token,
        }
    }

    /// The commit of a revision, and the names of its files.
    pub(super) fn list(&self, id: &HubId) -> Result<(String, BTreeSet<String>), HubError> {
        let revision = id.revision.replace('/', "%2F").replace('+', "%2B");
        let uri = self.uri(&format!(
            "api/models/{}/{}/revision/{revision}",
            id.owner, id.name
        ))?;
        let listing = retry(|| {
            let mut response = self.send(&Method::GET, &uri, 0)?;
            if response.status() != StatusCode::OK {
                return Err(self.status(response.status(), response.headers(), id));
            }
            let body = response.body_mut().with_config().limit(MAX_LISTING);
            let json = body.read_to_vec().map_err(|e| self.broken(reason(&e)))?;
            let listing = serde_json::from_slice::<Listing>(&json);
            listing.map_err(|e| bad_answer(format!("its list of files: {e}")))
        })?;
        let commit = listing.sha.filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| HubError::BadAnswer("it names no commit".into()))?;
        let names = listing.siblings.into_iter().map(|file| file.rfilename);
        Ok((commit, names.collect()))
    }

    /// Makes sure that a file of at most `limit` bytes is in its place in the cache.
    pub(super) fn get(
        &self,
        id: &HubId,
        commit: &str,
        name: &str,
        place: &Place,
        limit: u64,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<(), HubError> {
        if place.is_filled() {
            return Ok(());
        }
        let uri = self.uri(&format!("{}/{}/resolve/{commit}/{name}", id.owner, id.name))?;
        let announced = retry(|| self.head(id, commit, name, &uri))?;
        if announced.size > limit {
            return Err(HubError::Unusable {
                id: id.to_string(),
                reason: format!(
                    "{name} has {} bytes; the limit for such a file is {limit}",
                    announced.size
                ),
            });
        }
        let _lock = place.lock(&announced.hash, name)?;
        if place.is_filled() {
            // Another process has just finished it.
            return Ok(());
        }
        // Another commit may have the same file.
        let blob = place.blob(&announced.hash);
        if !fs::metadata(&blob).is_ok_and(|blob| blob.len() == announced.size) {
            tracing::info!(file = name, bytes = announced.size, "downloading");
            let path = place.partial(&announced.hash);
            let mut partial = PartialFile::open(path, &announced.hash, announced.size)?;
            let kept = partial.done;
            self.receive(id, name, &uri, &mut partial, progress)?;
            if kept > 0 && !partial.is_sound() {
                // What an earlier download left may have been of something else.
                partial.restart()?;
                self.receive(id, name, &uri, &mut partial, progress)?;
            }
            partial.finish(&blob, name)?;
        }
        place.fill(&announced.hash)
    }

    fn uri(&self, path: &str) -> Result<Uri, HubError> {
        let uri = format!("{}/{path}", self.endpoint);
        uri.parse().map_err(|_| HubError::Unreachable {
            endpoint: self.endpoint.clone(),
            reason: "HF_ENDPOINT is invalid; expected an address such as https://huggingface.co"
                .into(),
        })
    }

    /// Sends a request from byte `start` on and follows redirects: `GET` wherever they
    /// lead, `HEAD` on the Hub alone, whose headers are wanted. The token goes to the
    /// Hub's own origin alone.
    fn send(&self, method: &Method, uri: &Uri, start: u64) -> Result<Response<Body>, Failure> {
        let is_hub =
            |other: &Uri| (other.scheme(), other.authority()) == (uri.scheme(), uri.authority());
        let mut target = uri.clone();
        for _ in 0..MAX_REDIRECTS {
            let mut request = Request::builder()
                .method(method)
                .uri(&target)
                // Hashes and sizes are of the contents as they are.
                .header(ACCEPT_ENCODING, "identity");
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| is_hub(&target)) {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.body(()).map_err(|e| bad_answer(e.to_string()))?;
            let response = self.agent.run(request).map_err(|e| self.unreachable(&e))?;
            // The address may be signed; its host is not.
            tracing::trace!(%method, host = target.host(), status = %response.status(), "answered");
            let location = response.headers().get(LOCATION);
            let Some(location) = location.filter(|_| response.status().is_redirection()) else {
                return Ok(response);
            };
            let next = resolve(location, &target)
                .ok_or_else(|| bad_answer("a redirect to an invalid address"))?;
            if method == Method::HEAD && !is_hub(&next) {
                return Ok(response);
            }
            target = next;
        }
        Err(bad_answer("too many redirects"))
    }

    /// What the Hub announces of a file.
    fn head(&self, id: &HubId, commit: &str, name: &str, uri: &Uri) -> Result<Announced, Failure> {
        let response = self
            .send(&Method::HEAD, uri, 0)
            .map_err(|failure| match failure {
                Failure::Final(HubError::BadAnswer(what)) => bad_answer(format!("{name}: {what}")),
                other => other,
            })?;
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::NOT_FOUND {
            let what = format!("file {name} in {id}");
            return Err(Failure::Final(HubError::NotFound(what)));
        }
        if !status.is_success() && !status.is_redirection() {
            return Err(self.status(status, headers, id));
        }
        announced(headers, commit).map_err(|what| bad_answer(format!("{name}: {what}")))
    }

    /// Downloads what the partial file lacks.
    fn receive(
        &self,
        id: &HubId,
        name: &str,
        uri: &Uri,
        partial: &mut PartialFile,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<(), HubError> {
        let mut retries = Retries::default();
        while partial.done < partial.size {
            let before = partial.done;
            let Err(failure) = self.receive_once(id, name, uri, partial, progress) else {
                continue;
            };
            if partial.done > before {
                // It made progress, so that the count begins anew.
                retries = Retries::default();
            }
            retries.wait(failure)?;
        }
        Ok(())
    }

    fn receive_once(
        &self,
        id: &HubId,
        name: &str,
        uri: &Uri,
        partial: &mut PartialFile,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<(), Failure> {
        let mut response = self.send(&Method::GET, uri, partial.done)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if partial.done > 0 => {
                if !continues_at(response.headers(), partial.done) {
                    return Err(bad_answer(format!("{name}: not the requested range")));
                }
            }
            // The whole, whatever was asked for.
            StatusCode::OK => partial.restart()?,
            StatusCode::RANGE_NOT_SATISFIABLE if partial.done > 0 => partial.restart()?,
            status => return Err(self.status(status, response.headers(), id)),
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => partial.add(&buffer[..len], name)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error.to_string())),
            }
            progress(Transfer {
                file: name,
                done: partial.done,
                total: partial.size,
            });
        }
        if partial.done < partial.size {
            let (done, size) = (partial.done, partial.size);
            return Err(self.broken(format!("{name} ends at byte {done} of {size}")));
        }
        Ok(())
    }

    /// What a status other than success means.
    fn status(&self, status: StatusCode, headers: &HeaderMap, id: &HubId) -> Failure {
        let wait = retry_after(headers);
        let error = match status {
            StatusCode::UNAUTHORIZED => HubError::Unauthorized {
                id: id.to_string(),
                with_token: self.token.is_some(),
            },
            StatusCode::FORBIDDEN => HubError::Forbidden(id.to_string()),
            StatusCode::NOT_FOUND => {
                let code = headers.get("x-error-code");
                HubError::NotFound(if code.is_some_and(|code| code == "RevisionNotFound") {
                    format!("branch, tag or commit called {:?} in {id}", id.revision)
                } else {
                    format!("model {id}")
                })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Failure::Passing(HubError::RateLimited(wait), wait);
            }
            status if status.is_server_error() => {
                return Failure::Passing(self.error(format!("status {status}")), wait);
            }
            status => HubError::BadAnswer(format!("status {status}")),
        };
        Failure::Final(error)
    }

    /// A connection that cannot be made fails at once; a broken one is retried.
    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let is_passing = match error {
            ureq::Error::Timeout(timeout) => {
                !matches!(timeout, Timeout::Connect | Timeout::Resolve)
            }
            ureq::Error::Io(error) => matches!(
                error.kind(),
                ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::TimedOut
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::WouldBlock
            ),
            error => matches!(error, ureq::Error::Protocol(_)),
        };
        if is_passing {
            self.broken(reason(error))
        } else {
            Failure::Final(self.error(reason(error)))
        }
    }

    fn broken(&self, reason: String) -> Failure {
        Failure::Passing(self.error(reason), None)
    }

    fn error(&self, reason: String) -> HubError {
        HubError::Unreachable {
            endpoint: self.endpoint.clone(),
            reason,
        }
    }
}

/// Why an attempt failed, and whether another one may succeed.
enum Failure {
    Final(HubError),
    /// With the wait that the Hub asked for, if it did.
    Passing(HubError, Option<Duration>),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

fn bad_answer(what: impl Into<String>) -> Failure {
    Failure::Final(HubError::BadAnswer(what.into()))
}

/// Attempts without progress so far.
#[derive(Default)]
struct Retries(u32);

impl Retries {
    /// Waits for the next attempt, or gives up.
    fn wait(&mut self, failure: Failure) -> Result<(), HubError> {
        let (error, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing(error, wait) => {
                (error, wait.unwrap_or(FIRST_WAIT * 2_u32.pow(self.0)))
            }
        };
        if self.0 == RETRIES || wait > LONGEST_WAIT {
            return Err(error);
        }
        self.0 += 1;
        tracing::debug!(%error, ?wait, "retrying");
        std::thread::sleep(wait);
        Ok(())
    }
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, HubError> {
    let mut retries = Retries::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => retries.wait(failure)?,
        }
    }
}

/// The address of a `Location`: absolute, or a path on the same host. Spellings that
/// browsers take for another host, such as `//host` or `/\host`, are none.
fn resolve(location: &HeaderValue, base: &Uri) -> Option<Uri> {
    let text = location.to_str().ok()?;
    if text.starts_with("https://") || text.starts_with("http://") {
        return text.parse().ok();
    }
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let uri = || format!("{scheme}://{authority}{text}").parse().ok();
    is_path.then(uri)?
}

/// Reads the headers that only the Hub itself sends.
fn announced(headers: &HeaderMap, commit: &str) -> Result<Announced, &'static str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if text("x-repo-commit") != Some(commit) {
        return Err("it is not of the requested commit");
    }
    let hash = text("x-linked-etag").or_else(|| text(ETAG.as_str()));
    let hash = hash.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    let hash = hash
        .filter(|hash| is_hex(hash, 64) || is_hex(hash, 40))
        .ok_or("its ETag is not a hash, so it cannot be verified")?;
    let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str()));
    let size = size.and_then(|size| size.parse().ok());
    Ok(Announced {
        hash: hash.to_owned(),
        size: size.ok_or("it has no size")?,
    })
}

/// Whole seconds; a date in their place is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

fn continues_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

/// An error's text without addresses: those of a CDN are signed.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::RequireHttpsOnly(_) => "a redirect away from HTTPS".into(),
        ureq::Error::BadUri(_) => "a redirect to an invalid address".into(),
        error => error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string),
    }
}
