//! Where a packed model's bytes are: mapped, part of the program, or owned.

use super::format::ALIGN;
use memmap2::Mmap;
use std::borrow::Cow;

/// Bytes that begin on a 64-byte boundary.
pub(super) enum Storage {
    /// A file; pages begin on larger boundaries.
    Mapped(Mmap),
    /// Part of the program, aligned there.
    Static(&'static [u8]),
    /// A copy: `buffer[start..start + len]`.
    Owned {
        buffer: Vec<u8>,
        start: usize,
        len: usize,
    },
}

impl Storage {
    /// Takes bytes as they are if they are aligned, and copies them otherwise.
    pub(super) fn new(bytes: Cow<'static, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) if is_aligned(bytes) => Self::Static(bytes),
            Cow::Borrowed(bytes) => Self::copy(bytes),
            Cow::Owned(bytes) if is_aligned(&bytes) => Self::Owned {
                start: 0,
                len: bytes.len(),
                buffer: bytes,
            },
            Cow::Owned(bytes) => Self::copy(&bytes),
        }
    }

    fn copy(bytes: &[u8]) -> Self {
        // The buffer is never grown, so that its contents stay where they are.
        let mut buffer = vec![0; bytes.len() + ALIGN];
        let start = buffer.as_ptr().align_offset(ALIGN);
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Self::Owned {
            buffer,
            start,
            len: bytes.len(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned { buffer, start, len } => &buffer[*start..*start + *len],
        }
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGN)
}
