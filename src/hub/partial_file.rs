//! A file that is being downloaded: what has arrived, and its hash so far.

use super::HubError;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An incomplete file and the hash of what it holds.
pub(super) struct PartialFile {
    path: PathBuf,
    file: File,
    hash: Hash,
    expected: String,
    /// Bytes that have arrived.
    pub(super) done: u64,
    /// Bytes in all.
    pub(super) size: u64,
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

impl PartialFile {
    /// Opens the file, keeping what an earlier download left. `expected` is the SHA-256
    /// or git's SHA-1 of the whole.
    pub(super) fn open(path: PathBuf, expected: &str, size: u64) -> Result<Self, HubError> {
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
            hash: Hash::new(expected, size),
            expected: expected.to_owned(),
            done: 0,
            size,
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

    /// Discards what has arrived.
    pub(super) fn restart(&mut self) -> Result<(), HubError> {
        let empty = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))
        };
        empty(&mut self.file).map_err(HubError::cache(&self.path))?;
        self.hash = Hash::new(&self.expected, self.size);
        self.done = 0;
        Ok(())
    }

    /// Appends bytes; more than were announced are an error.
    pub(super) fn add(&mut self, bytes: &[u8], name: &str) -> Result<(), HubError> {
        if self.done + bytes.len() as u64 > self.size {
            self.restart()?;
            let what = format!(
                "{name}: more bytes than the {} that were announced",
                self.size
            );
            return Err(HubError::BadAnswer(what));
        }
        let written = self.file.write_all(bytes);
        written.map_err(HubError::cache(&self.path))?;
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Whether the hash is the expected one.
    pub(super) fn is_sound(&self) -> bool {
        self.hash.hex() == self.expected
    }

    /// Renames the file to the blob if its hash is right, and deletes it otherwise.
    pub(super) fn finish(self, blob: &Path, name: &str) -> Result<(), HubError> {
        if !self.is_sound() {
            fs::remove_file(&self.path).map_err(HubError::cache(&self.path))?;
            return Err(HubError::Mismatch(name.to_owned()));
        }
        let synced = self.file.sync_all();
        synced.map_err(HubError::cache(&self.path))?;
        fs::rename(&self.path, blob).map_err(HubError::cache(blob))
    }
}
