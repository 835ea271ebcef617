//! Symmetric int8 quantization, one scale a row.
//!
//! A row of weights (an output channel, or a token's embedding) becomes codes
//! from -127 to 127 and one scale, so that a weight is `code * scale` within half
//! a step. -128 is left out: codes stay symmetric, and `|u8 * code|` stays below
//! 255 * 127, which [`MAX_K`] rests on. `docs/quantization.md` says why the
//! scale is `max |w| / 127` and not one that clips.

/// The largest code.
pub const MAX_CODE: f32 = 127.0;

/// The most inputs for which a sum of `u8 * code` products fits an `i32`.
pub const MAX_K: usize = (i32::MAX / (255 * 127)) as usize;

/// A matrix with one int8 row and scale per output channel or token.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedRows {
    /// Row-major codes, `scales.len() * k` of them.
    pub codes: Vec<i8>,
    /// The scale of each row.
    pub scales: Vec<f32>,
    /// Columns.
    pub k: usize,
}

impl QuantizedRows {
    /// An empty matrix of `k` columns with room for `rows` rows.
    pub fn with_capacity(rows: usize, k: usize) -> Self {
        assert!(k <= MAX_K, "sums over {k} products may not fit an i32");
        Self {
            codes: Vec::with_capacity(rows * k),
            scales: Vec::with_capacity(rows),
            k,
        }
    }

    /// Quantizes a row of finite weights and appends it.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.k, "a row has k columns");
        let max = row.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
        let scale = max / MAX_CODE;
        if !scale.is_normal() {
            // All zero, or so small that a step cannot be told from zero.
            assert!(max < 1.0, "weights are finite");
            self.codes.resize(self.codes.len() + row.len(), 0);
            self.scales.push(0.0);
            return;
        }
        // Division, not multiplication with the inverse: the largest weight gets
        // exactly 127, and no rounding step is added.
        self.codes.extend(
            row.iter()
                .map(|w| (w / scale).round_ties_even().clamp(-MAX_CODE, MAX_CODE) as i8),
        );
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
    use proptest::prelude::*;

    fn quantized(row: &[f32]) -> QuantizedRows {
        let mut rows = QuantizedRows::with_capacity(1, row.len());
        rows.push(row);
        rows
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

    #[test]
    fn the_longest_sum_of_products_fits() {
        let k = i64::try_from(MAX_K).unwrap();
        assert!(k * 255 * 127 <= i64::from(i32::MAX));
        assert!((k + 1) * 255 * 127 > i64::from(i32::MAX));
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
        }
    }
}
