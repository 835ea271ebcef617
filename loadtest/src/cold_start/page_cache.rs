//! Makes files cold: evicts their pages from the page cache and checks that they are gone.
//!
//! This is the crate's only `unsafe` code: mapping a file and mincore(2), which has no safe
//! wrapper. The mapped bytes are never read.

use crate::system;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Bytes of files, and how many of them are in the page cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Residency {
    pub(super) resident: u64,
    pub(super) total: u64,
}

impl Residency {
    /// Share of the bytes that is resident, in percent.
    pub(super) fn percent(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        100.0 * self.resident as f64 / self.total as f64
    }
}

/// Asks the kernel to forget the pages of `files`. It keeps those that another process
/// has mapped; [`residency`] tells.
pub(super) fn evict(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let file = open(path)?;
        let forget =
            || system::forget_pages(&file).with_context(|| format!("evicting {}", path.display()));
        forget()?;
        if resident(&file, path)?.resident > 0 {
            // Pages that are not on disk yet cannot be dropped. Asked for only where it
            // may help, for it takes milliseconds, and a model may come in many files.
            let _ = system::write_back(&file);
            forget()?;
        }
    }
    Ok(())
}

/// How much of `files` is in the page cache. Looking reads nothing.
pub(super) fn residency(files: &[PathBuf]) -> Result<Residency> {
    let mut sum = Residency::default();
    for path in files {
        let of_file = resident(&open(path)?, path)?;
        sum.total += of_file.total;
        sum.resident += of_file.resident;
    }
    Ok(sum)
}

fn resident(file: &File, path: &Path) -> Result<Residency> {
    let total = file.metadata()?.len();
    if total == 0 {
        return Ok(Residency::default());
    }
    let page = rustix::param::page_size() as u64;
    let pages = resident_pages(file, total.div_ceil(page) as usize)
        .with_context(|| format!("mincore of {}", path.display()))?;
    Ok(Residency {
        resident: (pages * page).min(total),
        total,
    })
}

#[allow(
    unsafe_code,
    reason = "mincore(2) has no safe wrapper; nothing that is mapped is read"
)]
fn resident_pages(file: &File, count: usize) -> std::io::Result<u64> {
    // SAFETY: the bytes of the mapping are never looked at, so that it does not matter
    // who changes or cuts the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(file)? };
    let mut pages = vec![0_u8; count];
    let page = rustix::param::page_size();
    // The file may have changed its length since it was asked for.
    let length = map.len().min(count * page);
    // SAFETY: `length` bytes are mapped at the pointer, which is the start of a page, and
    // `pages` has one byte for each page of them.
    let status = unsafe {
        libc::mincore(
            map.as_ptr().cast_mut().cast(),
            length,
            pages.as_mut_ptr().cast(),
        )
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(pages.iter().filter(|&&page| page & 1 == 1).count() as u64)
}

/// The regular files of `paths`, and those below the folders among them.
pub(super) fn files_below(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left = paths.to_vec();
    while let Some(path) = left.pop() {
        let kind = fs::metadata(&path).with_context(|| path.display().to_string())?;
        if kind.is_dir() {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                // Links would lead in circles, and out of the folder.
                if !entry.file_type()?.is_symlink() {
                    left.push(entry.path());
                }
            }
        } else if kind.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_resident_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a"), vec![1; 100_000]).unwrap();
        fs::write(folder.path().join("empty"), []).unwrap();
        let files = files_below(&[folder.path().to_owned()]).unwrap();
        assert_eq!(files.len(), 2);
        let before = residency(&files).unwrap();
        assert_eq!((before.resident, before.total), (100_000, 100_000));
        // Whether they go is the file system's choice: in memory they cannot.
        evict(&files).unwrap();
        assert!(residency(&files).unwrap().resident <= before.resident);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = PathBuf::from("/no/such/file");
        for error in [
            evict(std::slice::from_ref(&missing)).unwrap_err(),
            residency(std::slice::from_ref(&missing)).unwrap_err(),
            files_below(&[missing]).unwrap_err(),
        ] {
            assert!(format!("{error:#}").contains("/no/such/file"));
        }
    }
}
