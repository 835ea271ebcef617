//! The limit on memory for request bodies, over all requests.

use super::error::ApiError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of bodies may be held at a time, over all requests.
pub(super) struct MemoryLimiter {
    held_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl MemoryLimiter {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            held_bytes: Arc::default(),
            max_bytes,
        }
    }

    /// How many are held now.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Acquire)
    }

    /// A share of nothing yet.
    pub(super) fn permit(&self) -> MemoryPermit {
        MemoryPermit {
            bytes: 0,
            held_bytes: Arc::clone(&self.held_bytes),
            max_bytes: self.max_bytes,
        }
    }
}

/// What one request holds of the budget; given back when dropped.
pub(super) struct MemoryPermit {
    bytes: usize,
    held_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl MemoryPermit {
    /// Takes more, if it is there.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let before = self.held_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        if before + bytes > self.max_bytes {
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    /// Takes what is missing to hold `bytes` in all, if it is there.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        match bytes.saturating_sub(self.bytes) {
            0 => Ok(()),
            missing => self.grow(missing),
        }
    }

    /// Another of the same budget, of nothing yet.
    pub(super) fn sibling(&self) -> Self {
        Self {
            bytes: 0,
            held_bytes: Arc::clone(&self.held_bytes),
            max_bytes: self.max_bytes,
        }
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
