//! Models from the Hugging Face Hub, in the cache that its Python users share.
//!
//! [`Hub::fetch`] makes sure that a model's files are in the cache and returns their
//! folder, an ordinary model folder. Only what is needed is downloaded: configuration,
//! tokenizer, weights in the first format of [`Weights::NAMES`] that there is. Of a model that
//! is in GGUF only, it returns that one file.
//!
//! The client is our own, on `ureq`, because the `hf-hub` crate, in its releases 0.4, 0.5
//! and 1.0, compares no hashes, gives up on another process's download after seconds, and
//! either keeps partial files under names that Python does not know (0.x)
//! or restarts a broken download from its first byte (1.0, with 107 crates).
//!
//! Responses of the Hub are trusted only as far as they can be checked: file names are the
//! requested ones, a commit is forty hexadecimal digits, and a file is kept only if its SHA-256
//! (large files) or git's SHA-1 (small ones) is the announced one. The token is sent to the Hub
//! only, never to hosts that it redirects to, and is in no message.

mod cache;
mod download;
mod environment;
mod error;
mod id;
mod partial_file;

pub use download::Transfer;
pub use error::HubError;
pub use id::HubId;

use cache::Repo;
use coldread_model::tokenizer::TokenizerFiles;
use coldread_model::{ModelConfig, Weights, config, profile, tensors};
use download::Downloader;
use environment::Environment;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Optional files of our own: how text is normalised, and the temperature.
const OPTIONAL: [&str; 2] = [profile::FILE, "calibration.json"];

/// Larger configurations and tokenizers are rejected: the largest known have some 35 MB.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// The Hub and its local cache.
pub struct Hub {
    cache: PathBuf,
    offline: bool,
    downloader: Downloader,
}

impl Hub {
    /// The Hub that the environment names: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HOME`, `HF_HUB_CACHE`. With `offline` the network is not used.
    pub fn from_env(offline: bool) -> Result<Self, HubError> {
        let environment = Environment::read()?;
        Ok(Self {
            cache: environment.cache.clone(),
            offline,
            downloader: Downloader::new(environment),
        })
    }

    /// The folder of a model's files, or its GGUF file, downloaded where the cache lacks them.
    ///
    /// A branch is looked up each time; where the Hub cannot be reached, or the cache is
    /// read-only and the branch has moved, the commit that was last seen is used. A commit
    /// that is complete in the cache needs no network.
    pub fn fetch(
        &self,
        id: &HubId,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<PathBuf, HubError> {
        let repo = Repo::new(&self.cache, id);
        let cached = || {
            let folder = repo.snapshot(&repo.commit(&id.revision)?);
            complete(&folder, id)
        };
        if self.offline {
            return cached().ok_or_else(|| HubError::NotCached(id.to_string()));
        }
        if id.is_pinned()
            && let Some(folder) = cached()
        {
            return Ok(folder);
        }
        match self.download(id, &repo, progress) {
            Err(error) if error.leaves_the_cache_usable() => {
                let folder = cached().ok_or_else(|| error.clone())?;
                tracing::warn!(%error, "the Hub is unreachable; using the cached model");
                Ok(folder)
            }
            other => other,
        }
    }

    fn download(
        &self,
        id: &HubId,
        repo: &Repo,
        progress: &mut dyn FnMut(Transfer<'_>),
    ) -> Result<PathBuf, HubError> {
        let (commit, names) = self.downloader.list(id)?;
        let folder = repo.snapshot(&commit);
        let mut get = |name: &str| {
            let place = repo.place(&commit, name);
            let limit = if is_weights(name) || is_gguf(name) {
                u64::MAX
            } else {
                MAX_SMALL_FILE
            };
            self.downloader
                .get(id, &commit, name, &place, limit, progress)
        };
        let unusable = |reason| HubError::Unusable {
            id: id.to_string(),
            reason,
        };
        if let Some(file) = gguf(&names, id).map_err(unusable)? {
            if cfg!(not(feature = "candle")) {
                return Err(unusable(
                    "a language model, which this build does not run; build one that does: cargo \
                     build --release --features full"
                        .into(),
                ));
            }
            get(file)?;
            remember(repo, id, &commit);
            return Ok(folder.join(file));
        }
        let wanted = wanted(&names).map_err(unusable)?;
        // First, so that a model that cannot run is rejected before its weights come down.
        get(config::FILE)?;
        let config = ModelConfig::open(&folder)?;
        if !TokenizerFiles::are_there(&config, |name| names.contains(name)) {
            return Err(unusable("it has no tokenizer in a supported format".into()));
        }
        for name in &wanted {
            get(name)?;
        }
        for name in further(&folder)? {
            if !names.contains(&name) {
                return Err(unusable(format!(
                    "it lacks {name:?}, to which another of its files refers"
                )));
            }
            get(&name)?;
        }
        remember(repo, id, &commit);
        Ok(folder)
    }
}

fn remember(repo: &Repo, id: &HubId, commit: &str) {
    if let Err(error) = repo.remember(&id.revision, commit) {
        // The model is there all the same; offline it cannot be found by this revision.
        tracing::warn!(%error, "cannot update the cache");
    }
}

fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// The GGUF file to take: the one that the id names, or the only one of a model that has no
/// other weights. `None` where the model is a folder.
fn gguf<'a>(names: &'a BTreeSet<String>, id: &HubId) -> Result<Option<&'a str>, String> {
    let has_other_weights = Weights::NAMES.iter().any(|name| names.contains(*name));
    // Parts of a model whose file was split, and what language models see pictures with, do not
    // run alone.
    let is_whole = |name: &&str| !name.contains("-of-0") && !name.starts_with("mmproj");
    let files: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_gguf(name) && !name.contains('/'))
        .filter(is_whole)
        .collect();
    let matching: Vec<&str> = match &id.gguf {
        None if has_other_weights || files.is_empty() => return Ok(None),
        None => files.clone(),
        Some(wanted) => files
            .iter()
            .filter(|name| names_file(wanted, name))
            .copied()
            .collect(),
    };
    match matching[..] {
        [file] => Ok(Some(file)),
        [] if files.is_empty() => Err("it has no GGUF file that runs".into()),
        [] => Err(format!(
            "no GGUF file of that name; it has {}",
            files.join(", ")
        )),
        _ => Err(format!(
            "it has several GGUF files: {}; name one by its end, as in {}/{}:Q4_K_M",
            matching.join(", "),
            id.owner,
            id.name
        )),
    }
}

/// Whether `wanted` is the file's name or, after a dash or a dot, the end of it.
fn names_file(wanted: &str, file: &str) -> bool {
    let (wanted, file) = (wanted.to_ascii_lowercase(), file.to_ascii_lowercase());
    let stem = file.strip_suffix(".gguf").unwrap_or(&file);
    wanted == file
        || stem
            .strip_suffix(&wanted)
            .is_some_and(|start| start.is_empty() || start.ends_with(['-', '.']))
}

/// Whether the file, one of those that are taken, holds weights: it may have any size.
fn is_weights(name: &str) -> bool {
    [".safetensors", ".bin"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The files to take of those that there are, `config.json` apart.
fn wanted(names: &BTreeSet<String>) -> Result<Vec<&'static str>, String> {
    let there = |name: &&str| names.contains(*name);
    if !names.contains(config::FILE) {
        return Err("it has no config.json".into());
    }
    let mut wanted: Vec<_> = OPTIONAL.into_iter().filter(there).collect();
    let tokenizers = TokenizerFiles::NAMES.into_iter().filter(there);
    if names.contains(TokenizerFiles::NAMES[0]) {
        wanted.push(TokenizerFiles::NAMES[0]);
    } else {
        wanted.extend(tokenizers);
    }
    match Weights::NAMES.into_iter().find(there) {
        Some(weights) => wanted.push(weights),
        None => {
            let other = Weights::unsupported(names.iter().map(String::as_str));
            let other = other.map_or_else(String::new, |(name, format)| {
                format!("; {name} is in the format {format}")
            });
            return Err(format!(
                "it has no weights in a supported format: {}{other}",
                Weights::NAMES.join(", ")
            ));
        }
    }
    Ok(wanted)
}

/// The files that files of the folder name: shards of the weights, a table of emoji.
fn further(folder: &Path) -> Result<Vec<String>, coldread_model::LoadError> {
    let mut names = Vec::new();
    let [single, index, _] = Weights::NAMES.map(|name| folder.join(name));
    if !single.exists() && index.exists() {
        names.extend(tensors::shards(&index)?);
    }
    names.extend(profile::emoji_file(folder)?);
    Ok(names)
}

/// The model of the folder, if it has all that would be downloaded.
fn complete(folder: &Path, id: &HubId) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let there = |name: &str| folder.join(name).is_file();
    // A file whose blob is gone is not there.
    let names: BTreeSet<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| there(name))
        .collect();
    if let Some(file) = gguf(&names, id).ok()? {
        return Some(folder.join(file));
    }
    // A model that cannot run is complete as well: loading it says why.
    let is_complete = wanted(&names).is_ok()
        && ModelConfig::open(folder)
            .map_or(true, |config| TokenizerFiles::are_there(&config, there))
        && further(folder).is_ok_and(|names| names.iter().all(|name| there(name)));
    is_complete.then(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: Result<&[&str], &str>) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        match (wanted(&names), expected) {
            (Ok(wanted), Ok(expected)) => assert_eq!(wanted, expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expected) => panic!("{got:?}, {expected:?}"),
        }
    }

    #[test]
    fn a_hub_can_be_asked_within_an_async_runtime() {
        let cache = tempfile::tempdir().expect("a folder");
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", unused.local_addr().expect("bound"));
        drop(unused);
        let hub = Hub {
            cache: cache.path().to_owned(),
            offline: false,
            downloader: Downloader::new(Environment {
                endpoint,
                cache: cache.path().to_owned(),
                token: None,
            }),
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        let id = HubId::parse("acme/mood", None).expect("an id");
        let got = runtime.block_on(async { hub.fetch(&id, &mut |_| {}) });
        assert!(matches!(got, Err(HubError::Unreachable { .. })), "{got:?}");
    }

    #[test]
    fn a_cache_that_cannot_be_written_may_be_used() {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let at = |kind: std::io::ErrorKind| HubError::cache(Path::new("file"))(kind.into());
        assert!(at(PermissionDenied).leaves_the_cache_usable());
        assert!(at(ReadOnlyFilesystem).leaves_the_cache_usable());
        assert!(!at(StorageFull).leaves_the_cache_usable());
        assert!(!HubError::NotFound("model".into()).leaves_the_cache_usable());
    }

    /// The file, `None` for a folder, or a part of the error.
    type Expected = Result<Option<&'static str>, &'static str>;

    #[test]
    fn a_gguf_file_is_named_or_the_only_weights() {
        let two = [
            "README.md",
            "m-Q4_K_M.gguf",
            "m-Q8_0.gguf",
            "mmproj-F16.gguf",
        ];
        let split = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        let cases: [(&[&str], &str, Expected); 9] = [
            (&["m.gguf", "config.json"], "a/b", Ok(Some("m.gguf"))),
            (&["m.gguf", "model.safetensors"], "a/b", Ok(None)),
            (
                &["m.gguf", "model.safetensors"],
                "a/b:m",
                Ok(Some("m.gguf")),
            ),
            (&["config.json"], "a/b", Ok(None)),
            (&two, "a/b:q8_0", Ok(Some("m-Q8_0.gguf"))),
            (&two, "a/b:m-Q4_K_M.gguf", Ok(Some("m-Q4_K_M.gguf"))),
            (
                &two,
                "a/b",
                Err("several GGUF files: m-Q4_K_M.gguf, m-Q8_0.gguf"),
            ),
            (&two, "a/b:8_0", Err("no GGUF file of that name")),
            (&split, "a/b:m", Err("no GGUF file that runs")),
        ];
        for (names, id, expected) in cases {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let id = HubId::parse(id, None).expect("an id");
            match (gguf(&names, &id), expected) {
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (got, expected) => assert_eq!(got, expected.map_err(str::to_owned)),
            }
        }
    }

    #[test]
    fn only_what_is_needed_is_wanted() {
        check(
            &[
                "README.md",
                "config.json",
                "tokenizer.json",
                "vocab.txt",
                "model.safetensors",
                "pytorch_model.bin",
                "tf_model.h5",
                "onnx/model.onnx",
            ],
            Ok(&["tokenizer.json", "model.safetensors"]),
        );
        check(
            &[
                "config.json",
                "merges.txt",
                "vocab.json",
                "special_tokens_map.json",
                "pytorch_model.bin",
            ],
            Ok(&[
                "special_tokens_map.json",
                "vocab.json",
                "merges.txt",
                "pytorch_model.bin",
            ]),
        );
        check(&["tokenizer.json", "model.safetensors"], Err("config.json"));
        check(&["config.json", "tf_model.h5"], Err("model.safetensors"));
    }
}
