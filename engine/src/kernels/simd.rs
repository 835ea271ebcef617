//! Sixteen `f32` lanes, whatever the registers' width.
//!
//! All float code of this crate is written once, over [`Simd`], and instantiated
//! for every instruction set. A lane sees the same sequence of IEEE operations
//! everywhere (fused multiply-adds included) and lanes are summed by one fixed
//! tree, so that a result is the same bit for bit on every CPU. For NaN and
//! infinities only this much is promised: no panic and no access out of bounds.
//!
//! A value of a type that implements [`Simd`] is the proof that the CPU has the
//! instructions behind it. The methods are `inline(always)` and come into their
//! own inside a `#[target_feature]` function (see `ops`); elsewhere they are
//! correct but slow.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// What a row-wise computation needs of the hardware.
///
/// # Safety
/// A value of the type must be proof that the CPU has the instructions behind its methods.
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `i32`.
    type I: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    fn load_i32(self, x: &[i32; LANES]) -> Self::I;
    /// Sixteen `i8` as floats.
    fn load_i8(self, x: &[i8; LANES]) -> Self::F;

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller one; `b` where only `a` is NaN. Which of two zeros of different signs it
    /// gives is left open: nothing that is made of it depends on the sign.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger one, as for `min`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;

    /// To the nearest integer, ties to even; unspecified outside of `i32`.
    fn to_i32(self, v: Self::F) -> Self::I;
    fn to_f32(self, v: Self::I) -> Self::F;
    /// `bits(p) + (bits(t) << 23)`: multiplies `p` by two to the power that stands
    /// in the lowest bits of `t`'s mantissa, as long as no exponent overflows.
    fn scale_exp2(self, p: Self::F, t: Self::F) -> Self::F;

    /// Lanes below `n` of `v`, `fill` in the others.
    fn keep_first(self, v: Self::F, n: usize, fill: Self::F) -> Self::F;
    /// The lanes' sum: lane `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, v: Self::F) -> f32;
    /// The smallest lane, by the same tree.
    fn min_lane(self, v: Self::F) -> f32;
    /// The largest lane, by the same tree.
    fn max_lane(self, v: Self::F) -> f32;
    /// Rows become columns.
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES];

    /// Loads up to sixteen values, zero after them.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        if let Some(x) = x.first_chunk::<LANES>() {
            return self.load(x);
        }
        let mut lanes = [0.0; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// Stores the first `out.len()` lanes, sixteen at most.
    #[inline(always)]
    fn store_part(self, v: Self::F, out: &mut [f32]) {
        if let Some(out) = out.first_chunk_mut::<LANES>() {
            return self.store(v, out);
        }
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}
