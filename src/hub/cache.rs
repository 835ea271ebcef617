//! The layout of the Hub's local cache, which Python's `huggingface_hub` shares.
//!
//! ```text
//! models--OWNER--NAME/
//!   refs/main                       the last known commit of `main`
//!   blobs/HASH                      a file's contents, under the hash the Hub names
//!   blobs/HASH.incomplete           the part of it that has been downloaded
//!   snapshots/COMMIT/config.json    links to blobs
//! .locks/models--OWNER--NAME/HASH.lock
//! ```

use super::id::is_commit;
use super::{HubError, HubId};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A model's part of the cache.
pub(super) struct Repo {
    root: PathBuf,
    locks: PathBuf,
}

/// Where a file of a commit goes.
pub(super) struct Place {
    blobs: PathBuf,
    locks: PathBuf,
    link: PathBuf,
}

impl Repo {
    pub(super) fn new(cache: &Path, id: &HubId) -> Self {
        let folder = format!("models--{}--{}", id.owner, id.name);
        Self {
            root: cache.join(&folder),
            locks: cache.join(".locks").join(folder),
        }
    }

    /// The commit that a revision was last seen at.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records the commit that a revision was seen at, once its files are there.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        create_parent(&path)?;
        // Renamed, so that nobody reads half of it.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        fs::write(&partial, commit).map_err(HubError::cache(&partial))?;
        fs::rename(&partial, &path).map_err(HubError::cache(&path))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The path of a file of a commit; the caller has checked both.
    pub(super) fn place(&self, commit: &str, name: &str) -> Place {
        Place {
            blobs: self.root.join("blobs"),
            locks: self.locks.clone(),
            link: self.snapshot(commit).join(name),
        }
    }
}

impl Place {
    /// Whether the file is there; a link to a blob that is gone is not.
    pub(super) fn is_filled(&self) -> bool {
        self.link.is_file()
    }

    /// The blob of contents with this hash.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.blobs.join(hash)
    }

    /// What has come down of the blob so far.
    pub(super) fn partial(&self, hash: &str) -> PathBuf {
        self.blobs.join(format!("{hash}.incomplete"))
    }

    /// Waits until no other process is busy with the blob.
    pub(super) fn lock(&self, hash: &str, name: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        create_parent(&path)?;
        create_parent(&self.blob(hash))?;
        let file = File::create(&path).map_err(HubError::cache(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(file = name, "waiting for another process's download");
                file.lock().map_err(HubError::cache(&path))?;
            }
            Err(TryLockError::Error(error)) => return Err(HubError::cache(&path)(error)),
        }
        Ok(file)
    }

    /// Puts the blob into the commit's folder. In one step, for another process may be
    /// reading what is there.
    pub(super) fn fill(&self, hash: &str) -> Result<(), HubError> {
        create_parent(&self.link)?;
        let mut partial = self.link.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        // The link is in snapshots/COMMIT.
        let target = Path::new("../../blobs").join(hash);
        // Left by a process of the same number that was stopped here.
        let _ = fs::remove_file(&partial);
        symlink(&target, &partial).map_err(HubError::cache(&partial))?;
        fs::rename(&partial, &self.link).map_err(HubError::cache(&self.link))
    }
}

fn create_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(HubError::cache(parent))
}
