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
