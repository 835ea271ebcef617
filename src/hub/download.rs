//! Transfers: list a model's files, and get one of them whole or not at all.
//!
//! The protocol, as Python's client and the `hf-hub` crate speak it:
//!
//! - `GET /api/models/OWNER/NAME/revision/REVISION` has the commit (`sha`) and the names.
//! - `HEAD /OWNER/NAME/resolve/COMMIT/FILE`, without following a redirect to another
//!   host, has `X-Repo-Commit`, the hash (`X-Linked-Etag`, else `ETag`) and the size
//!   (`X-Linked-Size`, else `Content-Length`). A relative redirect is a renamed model.
//! - `GET` of the same leads to the contents, large files by way of a redirect to a
//!   CDN, and takes `Range`.

use super::cache::Place;
use super::environment::Environment;
use super::id::{is_commit, is_hex};
use super::{HubError, HubId};
use hf_hub::{HFClient, HFError};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How often something is tried again that failed without getting further.
const RETRIES: u32 = 3;
/// The wait before the first of them; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A Hub that wants a longer break than this is taken at its word.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence in the midst of an answer.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_RENAMES: usize = 5;

/// How far the download of a file has come.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The network's side of the Hub.
pub(super) struct Downloader {
    runtime: Runtime,
    hub: HFClient,
    /// Follows redirects; the token stays behind where they leave the Hub.
    follow: Client,
    /// Does not, for headers that only the Hub itself sends.
    stay: Client,
    token: Option<String>,
}

/// What the Hub says of a file.
struct Announced {
    /// SHA-256 of a large file, git's SHA-1 of a small one; which, its length tells.
    hash: String,
    size: u64,
}

impl Downloader {
    pub(super) fn new(environment: Environment) -> Result<Self, HubError> {
        let Environment {
            endpoint,
            cache,
            token,
        } = environment;
        let bad = |e: &dyn std::fmt::Display| HubError::BadAnswer(e.to_string());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| bad(&e))?;
        // Encrypted all the way, or as its user says.
        let https_only = endpoint.starts_with("https:");
        let client = |redirects| {
            let client = Client::builder()
                .user_agent(concat!("coldread/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .https_only(https_only)
                .redirect(redirects);
            client.build().map_err(|e| bad(&e))
        };
        let follow = client(Policy::default())?;
        let mut hub = HFClient::builder()
            .client(follow.clone())
            .endpoint(endpoint)
            .cache_dir(cache)
            .retry_max_attempts(0);
        if let Some(token) = &token {
            hub = hub.token(token);
        }
        Ok(Self {
            runtime,
            hub: hub.build().map_err(|e| bad(&e))?,
            follow,
            stay: client(Policy::none())?,
            token,
        })
    }

    /// The commit of a revision, and the names of its files.
    pub(super) fn list(&self, id: &HubId) -> Result<(String, BTreeSet<String>), HubError> {
        let repo = self.hub.model(&id.owner, &id.name);
        let info = self.runtime.block_on(async {
            let mut tries = Tries::default();
            loop {
                match repo.info().revision(&id.revision).send().await {
                    Ok(info) => return Ok::<_, HubError>(info),
                    Err(error) => tries.wait(self.listing_failed(error, id)).await?,
                }
            }
        })?;
        let commit = info.sha.filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| HubError::BadAnswer("it names no commit".into()))?;
        let siblings = info.siblings.unwrap_or_default();
        Ok((commit, siblings.into_iter().map(|s| s.rfilename).collect()))
    }

    fn listing_failed(&self, error: HFError, id: &HubId) -> Failure {
        match error {
            HFError::RateLimited {
                retry_after: wait, ..
            } => Failure::Passing(HubError::RateLimited(wait), wait),
            HFError::Http { context } => self.status(context.status, None, id),
            HFError::AuthRequired { .. } => self.status(StatusCode::UNAUTHORIZED, None, id),
            HFError::Forbidden { .. } => self.status(StatusCode::FORBIDDEN, None, id),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                Failure::Final(HubError::NotFound(format!("model {id}")))
            }
            HFError::Request { source, .. } if !source.is_decode() => self.unreachable(&source),
            other => Failure::Final(HubError::BadAnswer(last_cause(&other))),
        }
    }

    /// Sees that a file of at most `limit` bytes is in its place in the cache.
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
        self.runtime.block_on(async {
            let url = self.url(id, commit, name)?;
            let announced = self.head(id, commit, name, url.clone()).await?;
            if announced.size > limit {
                let size = announced.size;
                return Err(HubError::Unusable {
                    id: id.to_string(),
                    reason: format!("{name} has {size} bytes; such a file may have {limit}"),
                });
            }
            let _lock = place.lock(&announced.hash, name)?;
            if place.is_filled() {
                // Another process has just finished it.
                return Ok(());
            }
            // Perhaps another commit has the same.
            let blob = place.blob(&announced.hash);
            if !fs::metadata(&blob).is_ok_and(|blob| blob.len() == announced.size) {
                tracing::info!(file = name, bytes = announced.size, "downloading");
                let mut partial = Partial::open(place.partial(&announced.hash), &announced)?;
                let had = partial.done;
                self.receive(id, name, &url, &mut partial, progress).await?;
                if had > 0 && !partial.is_sound() {
                    // What an earlier download left was perhaps no part of it.
                    partial.restart()?;
                    self.receive(id, name, &url, &mut partial, progress).await?;
                }
                partial.finish(&blob, name)?;
            }
            place.fill(&announced.hash)
        })
    }

    fn url(&self, id: &HubId, commit: &str, name: &str) -> Result<Url, HubError> {
        let (endpoint, owner, model) = (self.hub.endpoint(), &id.owner, &id.name);
        let url = format!("{endpoint}/{owner}/{model}/resolve/{commit}/{name}");
        Url::parse(&url).map_err(|e| HubError::BadAnswer(e.to_string()))
    }

    /// A request with the token, of the contents as they are.
    fn request(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header(ACCEPT_ENCODING, "identity");
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// What the Hub says of a file.
    async fn head(
        &self,
        id: &HubId,
        commit: &str,
        name: &str,
        mut url: Url,
    ) -> Result<Announced, HubError> {
        let mut tries = Tries::default();
        let mut renames = 0;
        loop {
            let response = match self.request(self.stay.head(url.clone())).send().await {
                Ok(response) => response,
                Err(error) => {
                    tries.wait(self.unreachable(&error)).await?;
                    continue;
                }
            };
            let headers = response.headers();
            if let Some(renamed) = relative_redirect(&response) {
                renames += 1;
                if renames > MAX_RENAMES {
                    return Err(HubError::BadAnswer(format!("{name}: too many redirects")));
                }
                url = renamed;
                continue;
            }
            let status = response.status();
            if status == StatusCode::NOT_FOUND {
                return Err(HubError::NotFound(format!("file {name} in {id}")));
            }
            if !status.is_success() && !status.is_redirection() {
                tries
                    .wait(self.status(status, retry_after(headers), id))
                    .await?;
                continue;
            }
            return announced(headers, commit)
                .map_err(|what| HubError::BadAnswer(format!("{name}: {what}")));
        }
    }

    /// Gets what the partial file lacks.
    async fn receive(
        &self,
        id: &HubId,
        name: &str,
        url: &Url,
        partial: &mut Partial,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<(), HubError> {
        let mut tries = Tries::default();
        while partial.done < partial.size {
            let before = partial.done;
            let Err(failure) = self.receive_once(id, name, url, partial, progress).await else {
                continue;
            };
            if partial.done > before {
                // It got further: the count of tries begins anew.
                tries = Tries::default();
            }
            tries.wait(failure).await?;
        }
        Ok(())
    }

    async fn receive_once(
        &self,
        id: &HubId,
        name: &str,
        url: &Url,
        partial: &mut Partial,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<(), Failure> {
        let mut request = self.request(self.follow.get(url.clone()));
        if partial.done > 0 {
            request = request.header(RANGE, format!("bytes={}-", partial.done));
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|e| self.unreachable(&e))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if partial.done > 0 => {
                if !continues_at(response.headers(), partial.done) {
                    let what = format!("{name}: another part than was asked for");
                    return Err(Failure::Final(HubError::BadAnswer(what)));
                }
            }
            // The whole, whatever was asked for.
            StatusCode::OK => partial.restart()?,
            StatusCode::RANGE_NOT_SATISFIABLE if partial.done > 0 => partial.restart()?,
            status => return Err(self.status(status, retry_after(response.headers()), id)),
        }
        loop {
            let chunk = response.chunk().await.map_err(|e| self.unreachable(&e))?;
            let Some(chunk) = chunk else { break };
            partial.add(&chunk, name)?;
            progress(Transfer {
                file: name,
                done: partial.done,
                total: partial.size,
            });
        }
        if partial.done < partial.size {
            let reason = format!("{name} ends at byte {} of {}", partial.done, partial.size);
            return Err(Failure::Passing(self.unreachable_because(reason), None));
        }
        Ok(())
    }

    /// What a status other than success means.
    fn status(&self, status: StatusCode, wait: Option<Duration>, id: &HubId) -> Failure {
        let answered = || HubError::BadAnswer(format!("status {status}"));
        match status {
            StatusCode::UNAUTHORIZED => Failure::Final(HubError::Unauthorized {
                id: id.to_string(),
                with_token: self.token.is_some(),
            }),
            StatusCode::FORBIDDEN => Failure::Final(HubError::Forbidden(id.to_string())),
            StatusCode::NOT_FOUND => Failure::Final(HubError::NotFound(format!("model {id}"))),
            StatusCode::TOO_MANY_REQUESTS => Failure::Passing(HubError::RateLimited(wait), wait),
            status if status.is_server_error() => {
                Failure::Passing(self.unreachable_because(format!("status {status}")), wait)
            }
            _ => Failure::Final(answered()),
        }
    }

    /// No connection at all is told at once, a broken one is tried again.
    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason = self.unreachable_because(last_cause(error));
        if error.is_connect() || error.is_builder() {
            Failure::Final(reason)
        } else {
            Failure::Passing(reason, None)
        }
    }

    fn unreachable_because(&self, reason: String) -> HubError {
        HubError::Unreachable {
            endpoint: self.hub.endpoint().to_owned(),
            reason,
        }
    }
}

/// Why a try failed, and whether another one may do better.
enum Failure {
    Final(HubError),
    /// The Hub may say when to try again.
    Passing(HubError, Option<Duration>),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// How often something failed without getting further.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits for the next try, or gives up.
    async fn wait(&mut self, failure: Failure) -> Result<(), HubError> {
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
        tracing::debug!(%error, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Where a redirect without a host leads: a model under its new name, or in its true case.
/// The token goes along, and `/\evil` is a host as well, so that it is the address it makes
/// that has to be the Hub's.
fn relative_redirect(response: &Response) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let url = response.url().join(location).ok()?;
    let is_the_hubs = url.origin() == response.url().origin();
    (location.starts_with('/') && is_the_hubs).then_some(url)
}

/// Reads the headers that are the Hub's own.
fn announced(headers: &HeaderMap, commit: &str) -> Result<Announced, &'static str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if text("x-repo-commit") != Some(commit) {
        return Err("it is not of the commit that was asked for");
    }
    let hash = text("x-linked-etag").or_else(|| text(ETAG.as_str()));
    let hash = hash.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    let hash = hash
        .filter(|hash| is_hex(hash, 64) || is_hex(hash, 40))
        .ok_or("its ETag is no hash, so that it could not be verified")?;
    let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str()));
    let size = size.and_then(|size| size.parse().ok());
    Ok(Announced {
        hash: hash.to_owned(),
        size: size.ok_or("it has no size")?,
    })
}

/// Whole seconds; the date that may stand there instead is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

fn continues_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

/// The innermost cause, which names no address: those of a CDN are signed.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// A file that is coming down, and the hash of what is there.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Hash,
    expected: String,
    done: u64,
    size: u64,
}

enum Hash {
    Sha256(Box<Sha256>),
    /// Git's: of a header and the contents.
    Sha1(Box<Sha1>),
}

impl Hash {
    fn new(expected: &str, size: u64) -> Self {
        if expected.len() == 64 {
            return Self::Sha256(Box::default());
        }
        let header = format!("blob {size}\0");
        Self::Sha1(Box::new(Sha1::new_with_prefix(header)))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
        }
    }

    fn hex(&self) -> String {
        match self {
            Self::Sha256(hash) => hex(&hash.as_ref().clone().finalize()),
            Self::Sha1(hash) => hex(&hash.as_ref().clone().finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

impl Partial {
    /// Goes on with what an earlier download left.
    fn open(path: PathBuf, announced: &Announced) -> Result<Self, HubError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HubError::cache(&path))?;
        let mut partial = Self {
            path,
            file,
            hash: Hash::new(&announced.hash, announced.size),
            expected: announced.hash.clone(),
            done: 0,
            size: announced.size,
        };
        partial.rehash().map_err(HubError::cache(&partial.path))?;
        if partial.done > partial.size || (partial.done == partial.size && !partial.is_sound()) {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn rehash(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                len => {
                    self.hash.update(&buffer[..len]);
                    self.done += len as u64;
                }
            }
        }
    }

    /// Forgets what is there.
    fn restart(&mut self) -> Result<(), HubError> {
        let empty = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))
        };
        empty(&mut self.file).map_err(HubError::cache(&self.path))?;
        self.hash = Hash::new(&self.expected, self.size);
        self.done = 0;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8], name: &str) -> Result<(), HubError> {
        if self.done + bytes.len() as u64 > self.size {
            self.restart()?;
            let what = format!("{name}: more bytes than the {} it announced", self.size);
            return Err(HubError::BadAnswer(what));
        }
        let written = self.file.write_all(bytes);
        written.map_err(HubError::cache(&self.path))?;
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn is_sound(&self) -> bool {
        self.hash.hex() == self.expected
    }

    /// Makes it the blob if it is what was announced, and else leaves nothing of it.
    fn finish(self, blob: &Path, name: &str) -> Result<(), HubError> {
        if !self.is_sound() {
            fs::remove_file(&self.path).map_err(HubError::cache(&self.path))?;
            return Err(HubError::Mismatch(name.to_owned()));
        }
        let synced = self.file.sync_all();
        synced.map_err(HubError::cache(&self.path))?;
        fs::rename(&self.path, blob).map_err(HubError::cache(blob))
    }
}
