//! Symmetric int8 quantization, one scale a row.
//!
//! A row of weights (an output channel, or a token's embedding) becomes codes
//! and one scale, so that a weight is about `code * scale`. Codes of the
//! [full](WeightRange::Full) range go from -127 to 127 and none is clipped; those of the
//! [narrow](WeightRange::Narrow) and the [grouped](WeightRange::Grouped) range go from -64 to 63,
//! where a scale that clips a few weights can be better for the others. `docs/internals/quantization.md` has the figures.

use crate::layout::{GROUP_STEPS, KR, MAX_GROUP_SUM, MAX_K, WeightRange, group_of};

/// The largest code of the full range. -128 is left out: codes stay symmetric.
pub const MAX_CODE: f32 = 127.0;

/// Scales that are tried for a narrow row: the one that clips nothing, less so many
/// [`SCALE_STEP`]s.
const SCALES: usize = 20;
const SCALE_STEP: f32 = 1.0 / 64.0;

/// A matrix with one int8 row and scale per output channel or token.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedRows {
    /// Row-major codes, `scales.len() * k` of them.
    pub codes: Vec<i8>,
    /// The scale of each row.
    pub scales: Vec<f32>,
    /// Columns.
    pub k: usize,
    /// What the codes are limited to.
    pub range: WeightRange,
}

impl QuantizedRows {
    /// An empty matrix of `k` columns with room for `rows` rows.
    pub fn with_capacity(range: WeightRange, rows: usize, k: usize) -> Self {
        assert!(k <= MAX_K, "sums over {k} products may not fit an i32");
        Self {
            range,
            codes: Vec::with_capacity(rows * k),
            scales: Vec::with_capacity(rows),
            k,
        }
    }

    /// Quantizes a row of finite weights and appends it.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.k, "a row has k columns");
        let [low, high] = code_bounds(self.range);
        let scale = unclipped_scale(self.range, row);
        if scale == 0.0 {
            self.codes.resize(self.codes.len() + row.len(), 0);
            self.scales.push(0.0);
            return;
        }
        let scale = match self.range {
            WeightRange::Full => scale,
            WeightRange::Narrow | WeightRange::Grouped => best_scale(row, scale, low, high),
        };
        let mut room = Room::<1>::new(self.range, self.k);
        // Division, not multiplication with the inverse: the largest weight gets
        // exactly the largest code, and no rounding step is added.
        self.codes.extend(row.iter().enumerate().map(|(input, w)| {
            let code = (w / scale).round_ties_even().clamp(low, high);
            room.take(input, [code])[0] as i8
        }));
        self.scales.push(scale);
    }

    /// The sum of each row's codes.
    pub fn col_sums(&self) -> Vec<i32> {
        self.codes
            .chunks_exact(self.k)
            .map(|row| row.iter().map(|&code| i32::from(code)).sum())
            .collect()
    }
}

/// The least scale that clips no weight of a row; 0 for a row of zeros, or of weights so small
/// that a step cannot be told from zero.
pub(crate) fn unclipped_scale(range: WeightRange, row: &[f32]) -> f32 {
    let [low, high] = code_bounds(range);
    let (min, max) = row.iter().fold((0.0_f32, 0.0_f32), |(min, max), &w| {
        (min.min(w), max.max(w))
    });
    let scale = (min / low).max(max / high);
    if scale.is_normal() {
        return scale;
    }
    assert!(max - min < 1.0, "weights are finite");
    0.0
}

/// What the codes that are chosen already leave to the others of their groups, for some rows side
/// by side.
#[derive(Debug)]
pub(crate) struct Room<const ROWS: usize> {
    /// By group, what is left for positive and for negative codes; empty if groups have no limit.
    left: Vec<[[f32; ROWS]; 2]>,
}

impl<const ROWS: usize> Room<ROWS> {
    pub(crate) fn new(range: WeightRange, k: usize) -> Self {
        let groups = match range {
            WeightRange::Full | WeightRange::Narrow => 0,
            WeightRange::Grouped => k.div_ceil(GROUP_STEPS * KR) * 2,
        };
        Self {
            left: vec![[[f32::from(MAX_GROUP_SUM); ROWS]; 2]; groups],
        }
    }

    /// Codes for an input, as near to the wanted ones as there is room.
    #[inline]
    pub(crate) fn take(&mut self, input: usize, mut codes: [f32; ROWS]) -> [f32; ROWS] {
        if let Some([positive, negative]) = self.left.get_mut(group_of(input)) {
            for ((code, positive), negative) in codes.iter_mut().zip(positive).zip(negative) {
                *code = code.min(*positive).max(-*negative);
                *positive -= code.max(0.0);
                *negative += code.min(0.0);
            }
        }
        codes
    }
}

/// The smallest and the largest code of a range.
pub(crate) fn code_bounds(range: WeightRange) -> [f32; 2] {
    match range {
        WeightRange::Full => [-MAX_CODE, MAX_CODE],
        WeightRange::Narrow | WeightRange::Grouped => range.bounds().map(f32::from),
    }
}

/// The scale of least squared error, from `unclipped` down.
fn best_scale(row: &[f32], unclipped: f32, low: f32, high: f32) -> f32 {
    let scales = (0..SCALES).map(|i| unclipped * (1.0 - i as f32 * SCALE_STEP));
    let mut best = (f32::INFINITY, unclipped);
    for scale in scales.filter(|scale| scale.is_normal()) {
        let error = squared_error(row, scale, low, high);
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// The squared error of a row's codes, sixteen sums side by side, so
/// that the loop is vectorised.
fn squared_error(row: &[f32], scale: f32, low: f32, high: f32) -> f32 {
    /// Added and taken away again, it rounds what is far below it to an integer.
    const ROUND: f32 = 12_582_912.0;
    let inverse = 1.0 / scale;
    let mut sums = [0.0_f32; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    let mut last = [0.0; 16];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for (sum, w) in sums.iter_mut().zip(chunk) {
            let x = w * inverse;
            let code = ((x + ROUND) - ROUND).max(low).min(high);
            *sum += (x - code) * (x - code);
        }
    }
    sums.iter().sum::<f32>() * scale * scale
}

/// A linear layer, quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedLinear {
    /// One row an output channel.
    pub weight: QuantizedRows,
    /// One an output channel, f32.
    pub bias: Vec<f32>,
}

impl QuantizedLinear {
    /// Multiplies the outputs of the first `channels` channels with `factor`, by
    /// way of their scales and biases.
    pub fn scale_outputs(&mut self, channels: usize, factor: f32) {
        for value in self.weight.scales[..channels]
            .iter_mut()
            .chain(&mut self.bias[..channels])
        {
            *value *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pack_panels;
    use proptest::prelude::*;

    fn quantized(row: &[f32]) -> QuantizedRows {
        in_range(WeightRange::Full, row)
    }

    fn in_range(range: WeightRange, row: &[f32]) -> QuantizedRows {
        let mut rows = QuantizedRows::with_capacity(range, 1, row.len());
        rows.push(row);
        rows
    }

    /// A matrix that was trained for the grid is packed without a loss.
    #[test]
    fn weights_on_the_narrow_grid_stay_as_they_are() {
        for (codes, scale) in [([63_i8, -64, 0, 1], 0.5_f32), ([5, -64, 17, -3], 0.0123)] {
            let row = codes.map(|code| f32::from(code) * scale);
            assert_eq!(in_range(WeightRange::Narrow, &row).codes, codes);
        }
    }

    #[test]
    fn a_narrow_row_clips_what_stands_alone() {
        let mut row: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.7).sin()).collect();
        row[7] = 1.3;
        let rows = in_range(WeightRange::Narrow, &row);
        assert!(rows.scales[0] < 1.3 / 63.0 * 0.9, "{}", rows.scales[0]);
        assert_eq!(rows.codes[7], 63);
    }

    #[test]
    fn the_largest_weight_gets_the_largest_code() {
        for max in [1.0_f32, 0.1, 3.3e38, f32::MIN_POSITIVE * 200.0, 7.1e-5] {
            assert_eq!(
                quantized(&[max, -max, 0.0, max / 2.0]).codes[..3],
                [127, -127, 0]
            );
        }
    }

    #[test]
    fn rows_of_zeros() {
        for row in [
            [0.0, -0.0],
            [f32::MIN_POSITIVE, 0.0],
            [f32::from_bits(1), 0.0],
        ] {
            let rows = quantized(&row);
            assert_eq!(
                (&rows.codes[..], &rows.scales[..]),
                (&[0, 0][..], &[0.0][..])
            );
        }
    }

    proptest! {
        #[test]
        fn weights_are_kept_within_half_a_step(
            row in prop::collection::vec(-10.0_f32..10.0, 1..200),
        ) {
            let rows = quantized(&row);
            let scale = rows.scales[0];
            for (code, w) in rows.codes.iter().zip(&row) {
                prop_assert!((f32::from(*code) * scale - w).abs() <= scale * 0.500_01);
            }
            let sum: i32 = rows.codes.iter().map(|&c| i32::from(c)).sum();
            prop_assert_eq!(rows.col_sums(), [sum]);

            let grouped = in_range(WeightRange::Grouped, &row);
            prop_assert!(WeightRange::Grouped.holds(&pack_panels(&grouped.codes, 1, row.len()), row.len()));

            let rows = in_range(WeightRange::Narrow, &row);
            prop_assert!(WeightRange::Narrow.holds(&rows.codes, row.len()));
            let [low, high] = code_bounds(WeightRange::Narrow);
            let error = |scale| squared_error(&row, scale, low, high);
            let unclipped = row.iter().fold(0.0_f32, |max, w| max.max(w / low).max(w / high));
            prop_assert!(error(rows.scales[0]) <= error(unclipped));
        }
    }
}
