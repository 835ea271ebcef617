//! Memory that begins on a cache line.

use std::ops::{Deref, DerefMut};

/// One cache line, which is also one AVX-512 register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A plain number: any bytes are a value, and it divides a cache line.
pub trait Number: Copy + Default + 'static + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Number for $t {}
    )*};
}
numbers!(u8, i8, i32, f32);

/// A vector of numbers, 64-byte aligned, that begins as zeros.
#[derive(Clone)]
pub struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    number: std::marker::PhantomData<T>,
}

impl<T: Number> AlignedVec<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)];
        Self {
            lines,
            len,
            number: std::marker::PhantomData,
        }
    }

    /// Makes it `len` long or longer; what it held may be lost, and is zero then.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            *self = Self::new(len);
        }
    }

    /// Makes it `len` long or longer and keeps what it holds.
    pub fn extend(&mut self, len: usize) {
        if len > self.len {
            self.lines
                .resize((len * size_of::<T>()).div_ceil(64), Line([0; 64]));
            self.len = len;
        }
    }
}

impl<T: Number> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Number> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold `len` numbers, aligned for any of them, and every
        // byte was initialised; any bytes are a valid `Number`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the lines are borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedVec({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::AlignedVec;

    #[test]
    fn begins_on_a_cache_line_and_as_zeros() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut v = AlignedVec::<f32>::new(len);
            assert_eq!(v.len(), len);
            assert_eq!(v.as_ptr() as usize % 64, 0);
            assert!(v.iter().all(|&x| x == 0.0));
            v.fill(1.0);
        }
    }
}
