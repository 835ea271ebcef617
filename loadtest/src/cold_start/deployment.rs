//! Copies of executables: a fresh one is what a deployment is here, and nobody else
//! has it mapped.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Names of the folders: this, our process id, `-`, and something random.
const PREFIX: &str = ".cold-start-";

/// A copy of an executable on the same file system, gone when dropped.
#[derive(Debug)]
pub(super) struct Deployment {
    path: PathBuf,
    /// Removes the file.
    _folder: TempDir,
}

impl Deployment {
    pub(super) fn copy_of(original: &Path) -> Result<Self> {
        let name = format!("{PREFIX}{}-", std::process::id());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&name);
        // Where its folder is read-only, any other will do.
        let folder = match original.parent() {
            Some(parent) => builder.tempdir_in(parent).or_else(|_| builder.tempdir())?,
            None => builder.tempdir()?,
        };
        let path = folder
            .path()
            .join(original.file_name().context("a file name")?);
        fs::copy(original, &path).with_context(|| format!("copying {}", original.display()))?;
        Ok(Self {
            path,
            _folder: folder,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes from `folder` what a killed harness has left there.
pub(super) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
            .and_then(|(pid, _)| pid.parse().ok())
            .and_then(Pid::from_raw);
        if owner.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lives_beside_its_original_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join("program");
        fs::write(&original, "program").unwrap();
        let copy = Deployment::copy_of(&original).unwrap();
        assert!(copy.path().starts_with(folder.path()));
        assert_eq!(fs::read(copy.path()).unwrap(), b"program");
        // Ours is alive, and so is not left behind.
        sweep(folder.path());
        assert!(copy.path().exists());
        drop(copy);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_the_dead_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        // Above the largest process id that Linux gives.
        let left = folder.path().join(".cold-start-4194305-x");
        let other = folder.path().join("coldread");
        for path in [&left, &other] {
            fs::create_dir(path).unwrap();
        }
        sweep(folder.path());
        assert!(!left.exists() && other.exists());
    }
}
