//! Files mapped into memory.

use crate::error::LoadError;
use crate::foreign;
use memmap2::Mmap;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// A file of any format, mapped for reading. Its pages are read when they are touched.
///
/// A file that is in use must be replaced by renaming a new one over it, never written in place.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If it is missing or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        map_any(path).map(Self)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file for reading; what is no model of this crate is rejected by name.
pub(crate) fn map(path: &Path) -> Result<Mmap, LoadError> {
    let map = map_any(path)?;
    foreign::check(path, &map)?;
    Ok(map)
}

/// Maps a file for reading.
///
/// Whoever replaces a model must write a new file and rename it over the old
/// one, as [`pack_to_file`](crate::import::pack_to_file) does: a mapping keeps
/// the old contents then. A file that is shortened in place ends the process
/// with SIGBUS, and one that is overwritten in place changes scores under way.
#[allow(
    unsafe_code,
    reason = "mapping a file is unsafe because others may change it"
)]
fn map_any(path: &Path) -> Result<Mmap, LoadError> {
    let read = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    // SAFETY: the mapping is private and read-only, and its bytes are only ever
    // read as plain numbers or checked text, for which every bit pattern is
    // valid, so that a writer elsewhere can make values wrong, not types. The
    // documentation above says what those who write model files must not do.
    unsafe { Mmap::map(&file) }.map_err(read)
}
