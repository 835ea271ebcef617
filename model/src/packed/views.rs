//! Sections of the file as the kernels' views.
//!
//! The lengths here and in [`Spec::len`](super::schema::Spec::len) describe the
//! same thing from two sides; the slices that [`Cursor`] takes stay within the
//! section because its length was compared with the shape's at opening. Indexing
//! and `bytemuck` check again, so that a mistake would be a panic.

use super::format::{ALIGN, Refusal, invalid};
use crate::layout::{self, KR, NR, WeightRange, padded_k, padded_n};
use bytemuck::AnyBitPattern;

/// A section whose kind, shape and length have been checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) start: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) range: WeightRange,
}

/// Takes one slice after the other from a file, each on a 64-byte boundary.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take<T: AnyBitPattern>(&mut self, len: usize) -> &'a [T] {
        let end = self.at + len * size_of::<T>();
        let slice = bytemuck::cast_slice(&self.file[self.at..end]);
        self.at = end.next_multiple_of(ALIGN);
        slice
    }
}

impl Section {
    fn cursor<'a>(&self, file: &'a [u8]) -> Cursor<'a> {
        Cursor {
            file,
            at: self.start,
        }
    }

    pub(super) fn linear<'a>(&self, file: &'a [u8]) -> layout::Linear<'a> {
        let (n, k) = (self.rows, self.cols);
        let mut cursor = self.cursor(file);
        layout::Linear {
            n,
            k,
            range: self.range,
            panels: cursor.take(padded_n(n) * padded_k(k)),
            scales: cursor.take(padded_n(n)),
            col_sums: cursor.take(padded_n(n)),
            bias: cursor.take(padded_n(n)),
        }
    }

    pub(super) fn embedding<'a>(&self, file: &'a [u8]) -> layout::Embedding<'a> {
        let mut cursor = self.cursor(file);
        layout::Embedding {
            rows: self.rows,
            width: self.cols,
            codes: cursor.take(self.rows * self.cols),
            scales: cursor.take(self.rows),
        }
    }

    pub(super) fn norm<'a>(&self, file: &'a [u8]) -> layout::LayerNorm<'a> {
        let mut cursor = self.cursor(file);
        layout::LayerNorm {
            weight: cursor.take(self.cols),
            bias: cursor.take(self.cols),
        }
    }

    pub(super) fn matrix<'a>(&self, file: &'a [u8]) -> &'a [f32] {
        self.cursor(file).take(self.rows * self.cols)
    }

    pub(super) fn dense<'a>(&self, file: &'a [u8]) -> layout::Dense<'a> {
        let (n, k) = (self.rows, self.cols);
        let mut cursor = self.cursor(file);
        layout::Dense {
            n,
            k,
            weight: cursor.take(n * k),
            bias: cursor.take(n),
        }
    }
}

/// Sees that weights are within the range that the table states.
pub(super) fn verify_range(name: &str, linear: &layout::Linear<'_>) -> Result<(), Refusal> {
    if linear.range.holds(linear.panels, linear.k) {
        return Ok(());
    }
    let [low, high] = linear.range.bounds();
    let groups = match linear.range {
        WeightRange::Grouped => " with bounded sums of groups",
        _ => "",
    };
    invalid(format!(
        "section {name}: a weight is not within {low} to {high}{groups}, the range that the \
         section table states; pack the model again"
    ))
}

/// Sees that column sums are the sums of their columns and scales are finite.
pub(super) fn verify_linear(name: &str, linear: &layout::Linear<'_>) -> Result<(), Refusal> {
    verify_scales(name, linear.scales)?;
    let panels = linear.panels.chunks_exact(NR * padded_k(linear.k));
    for (panel, col_sums) in panels.zip(linear.col_sums.chunks_exact(NR)) {
        let mut sums = [0_i32; NR];
        for step in panel.chunks_exact(NR * KR) {
            for (sum, codes) in sums.iter_mut().zip(step.chunks_exact(KR)) {
                *sum += codes.iter().map(|&code| i32::from(code)).sum::<i32>();
            }
        }
        if sums != col_sums {
            return invalid(format!(
                "section {name}: column sums do not fit the weights"
            ));
        }
    }
    Ok(())
}

pub(super) fn verify_scales(name: &str, scales: &[f32]) -> Result<(), Refusal> {
    if scales.iter().all(|scale| scale.is_finite()) {
        Ok(())
    } else {
        invalid(format!("section {name}: a scale is not finite"))
    }
}
