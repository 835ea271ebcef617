//! WebAssembly's 128-bit vectors: sixteen lanes in four registers.
//!
//! Two things are built from what the engine has, and give the same bits either way:
//!
//! - **Products.** [`Wasm`] widens codes and weights to 16 bits for `i32x4.dot_i16x8_s`, which takes
//!   weights of the full range. [`WasmNarrow`] is on `i32x4.relaxed_dot_i8x16_i7x16_add_s`, which
//!   multiplies signed bytes by numbers of 7 bits: codes are stored less 128, and weights from -64
//!   to 63 are loaded plus 64. With `s = code - 128` that sums `s * (w + 64)`, so that 64 times
//!   the row's sum of `s` is taken off in the tile and `128 * col_sum` is added afterwards. The
//!   specification leaves only operands of 8 bits open; those of 7 are the same everywhere.
//!   Where that instruction is `pmaddubsw` and more, which [`is_pmaddubsw`] tries once, [`WasmPairs`]
//!   multiplies as [`super::avx2_narrow`] does: codes as they are by narrow weights as they are.
//! - **Fused multiply-adds**, which the portable instructions lack. The product of two `f32` is exact
//!   in `f64`; their sum with the third is rounded to odd there (Boldo and Melquiond, 2008), and then
//!   once to `f32`, as a fused one is. `f32x4.relaxed_madd` may be fused or not, so [`is_fused`] tries it once.
//!
//! Source: WebAssembly specification 3.0, and its relaxed vector instructions.

use super::gemm::Kernel;
use super::simd::{LANES, Simd};
#[cfg(target_feature = "relaxed-simd")]
use coldread_model::layout::WeightRange;
use std::arch::wasm32::*;

/// Vectors of a module that was built with `simd128`: without it the engine does not load it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wasm<const FUSED: bool>;

type F = [v128; 4];

/// Whether this engine's relaxed multiply-add rounds once.
#[cfg(target_feature = "relaxed-simd")]
pub(crate) fn is_fused() -> bool {
    // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24; rounded in between it is 0.
    let a = std::hint::black_box(f32x4_splat(1.0 + 1.0 / 4096.0));
    let c = std::hint::black_box(f32x4_splat(-1.0 - 1.0 / 2048.0));
    f32x4_extract_lane::<0>(f32x4_relaxed_madd(a, a, c)) != 0.0
}

/// Whether the relaxed dot products are x86's `pmaddubsw`, which takes unsigned by signed bytes and
/// saturates the sum of two products, and of which a sum of four takes five instructions.
#[cfg(target_feature = "relaxed-simd")]
pub(crate) fn is_pmaddubsw() -> bool {
    let a = std::hint::black_box(i8x16_splat(127));
    let b = std::hint::black_box(u8x16_splat(255));
    let pairs = i16x8_relaxed_dot_i8x16_i7x16(a, b);
    let fours = i32x4_relaxed_dot_i8x16_i7x16_add(a, b, i32x4_splat(0));
    let most = i16::MAX;
    i16x8_extract_lane::<0>(pairs) == most && i32x4_extract_lane::<0>(fours) == 2 * i32::from(most)
}

/// `a * b + c`, rounded once.
#[inline(always)]
fn fma<const FUSED: bool>(a: v128, b: v128, c: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    if FUSED {
        return f32x4_relaxed_madd(a, b, c);
    }
    let high = |v| i32x4_shuffle::<2, 3, 2, 3>(v, v);
    let low = fma_f64(a, b, c);
    let high = fma_f64(high(a), high(b), high(c));
    i32x4_shuffle::<0, 1, 4, 5>(low, high)
}

/// The two low lanes of `a * b + c`, rounded once.
#[inline(always)]
fn fma_f64(a: v128, b: v128, c: v128) -> v128 {
    let promote = |v| f64x2_promote_low_f32x4(v);
    let (product, c) = (f64x2_mul(promote(a), promote(b)), promote(c));
    let sum = f64x2_add(product, c);
    // What rounding took away (Knuth's two-sum).
    let added = f64x2_sub(sum, product);
    let error = f64x2_add(
        f64x2_sub(product, f64x2_sub(sum, added)),
        f64x2_sub(c, added),
    );
    // To odd: an even sum that is not exact moves one step towards the exact one.
    let is_even = i64x2_eq(v128_and(sum, i64x2_splat(1)), i64x2_splat(0));
    let is_inexact = f64x2_ne(error, f64x2_splat(0.0));
    let towards = v128_or(i64x2_shr(v128_xor(error, sum), 63), i64x2_splat(1));
    let step = v128_and(towards, v128_and(is_even, is_inexact));
    f32x4_demote_f64x2_zero(i64x2_add(sum, step))
}

#[inline(always)]
fn load4<T>(x: &[T; 4]) -> v128 {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: sixteen bytes behind a reference.
    unsafe { v128_load(x.as_ptr().cast()) }
}

#[inline(always)]
fn each(f: impl Fn(usize) -> v128) -> F {
    [f(0), f(1), f(2), f(3)]
}

/// `a < b ? a : b`.
#[inline(always)]
fn min4(a: v128, b: v128) -> v128 {
    f32x4_pmin(b, a)
}

/// `a > b ? a : b`.
#[inline(always)]
fn max4(a: v128, b: v128) -> v128 {
    f32x4_pmax(b, a)
}

/// Folds 16 lanes by the tree that `Simd::sum` states.
#[inline(always)]
fn fold(v: F, f: impl Fn(v128, v128) -> v128) -> f32 {
    let v = f(f(v[0], v[2]), f(v[1], v[3]));
    let v = f(v, i32x4_shuffle::<2, 3, 2, 3>(v, v));
    let v = f(v, i32x4_shuffle::<1, 1, 1, 1>(v, v));
    f32x4_extract_lane::<0>(v)
}

// SAFETY: the module was built with these instructions.
unsafe impl<const FUSED: bool> Simd for Wasm<FUSED> {
    type F = F;
    type I = F;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [f32x4_splat(x); 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        each(|i| load4(&x.as_chunks().0[i]))
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32; LANES]) {
        for (v, out) in v.into_iter().zip(out.as_chunks_mut::<4>().0) {
            // SAFETY: sixteen bytes behind a reference.
            unsafe { v128_store(out.as_mut_ptr().cast(), v) };
        }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> F {
        each(|i| load4(&x.as_chunks().0[i]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> F {
        // SAFETY: sixteen bytes behind a reference.
        let v = unsafe { v128_load(x.as_ptr().cast()) };
        let (low, high) = (i16x8_extend_low_i8x16(v), i16x8_extend_high_i8x16(v));
        self.to_f32([
            i32x4_extend_low_i16x8(low),
            i32x4_extend_high_i16x8(low),
            i32x4_extend_low_i16x8(high),
            i32x4_extend_high_i16x8(high),
        ])
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        each(|i| f32x4_add(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        each(|i| f32x4_sub(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        each(|i| f32x4_mul(a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        each(|i| f32x4_div(a[i], b[i]))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        each(|i| fma::<FUSED>(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        each(|i| min4(a[i], b[i]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        each(|i| max4(a[i], b[i]))
    }
    #[inline(always)]
    fn to_i32(self, v: F) -> F {
        each(|i| i32x4_trunc_sat_f32x4(f32x4_nearest(v[i])))
    }
    #[inline(always)]
    fn to_f32(self, v: F) -> F {
        each(|i| f32x4_convert_i32x4(v[i]))
    }
    #[inline(always)]
    fn scale_exp2(self, p: F, t: F) -> F {
        each(|i| i32x4_add(p[i], i32x4_shl(t[i], 23)))
    }
    #[inline(always)]
    fn keep_first(self, v: F, n: usize, fill: F) -> F {
        each(|i| {
            let kept = i32x4_lt(i32x4(0, 1, 2, 3), i32x4_splat(n as i32 - 4 * i as i32));
            v128_bitselect(v[i], fill[i], kept)
        })
    }
    #[inline(always)]
    fn sum(self, v: F) -> f32 {
        fold(v, |a, b| f32x4_add(a, b))
    }
    #[inline(always)]
    fn min_lane(self, v: F) -> f32 {
        fold(v, min4)
    }
    #[inline(always)]
    fn max_lane(self, v: F) -> f32 {
        fold(v, max4)
    }
    #[inline(always)]
    fn transpose(self, rows: [F; LANES]) -> [F; LANES] {
        let mut out = rows;
        for (i, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
            for j in 0..4 {
                let block = transpose4([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                for (column, v) in block.into_iter().enumerate() {
                    out[4 * j + column][i] = v;
                }
            }
        }
        out
    }
}

#[inline(always)]
fn transpose4(r: [v128; 4]) -> [v128; 4] {
    let (a, b) = (
        i32x4_shuffle::<0, 4, 1, 5>(r[0], r[1]),
        i32x4_shuffle::<0, 4, 1, 5>(r[2], r[3]),
    );
    let (c, d) = (
        i32x4_shuffle::<2, 6, 3, 7>(r[0], r[1]),
        i32x4_shuffle::<2, 6, 3, 7>(r[2], r[3]),
    );
    [
        i64x2_shuffle::<0, 2>(a, b),
        i64x2_shuffle::<1, 3>(a, b),
        i64x2_shuffle::<0, 2>(c, d),
        i64x2_shuffle::<1, 3>(c, d),
    ]
}

/// Sixteen sums as bytes from 0 to 255; both narrowing steps saturate, which is the clamp.
#[inline(always)]
fn bytes(q: F) -> v128 {
    let (low, high) = (
        i16x8_narrow_i32x4(q[0], q[1]),
        i16x8_narrow_i32x4(q[2], q[3]),
    );
    u8x16_narrow_i16x8(low, high)
}

// SAFETY: as above; `tile` reads rows, panels and steps as told.
unsafe impl<const FUSED: bool> Kernel for Wasm<FUSED> {
    type S = Self;
    const MR: usize = 2;
    const NP: usize = 1;
    /// Codes are stored as the 16 bits that they are multiplied in.
    const CODE_BYTES: usize = 2;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn store_codes(self, q: [F; 4], out: &mut [u8]) {
        for (q, out) in q.into_iter().zip(out.as_chunks_mut::<32>().0) {
            let codes = bytes(q);
            // SAFETY: thirty-two bytes behind a reference.
            unsafe {
                v128_store(out.as_mut_ptr().cast(), u16x8_extend_low_u8x16(codes));
                v128_store(
                    out.as_mut_ptr().add(16).cast(),
                    u16x8_extend_high_u8x16(codes),
                );
            }
        }
    }

    fn peak(self, rounds: u64) -> u64 {
        peak(self, rounds)
    }

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        a: *const u8,
        a_stride: usize,
        b: *const i8,
        panel_bytes: usize,
        steps: usize,
        _next: *const i8,
    ) -> [[F; NP]; MR] {
        let mut out = [[[i32x4_splat(0); 4]; NP]; MR];
        for p in 0..NP {
            // Half a panel at a time: its sums of two channels a register fit the sixteen.
            for half in 0..2 {
                let mut acc = [[i32x4_splat(0); 4]; MR];
                for step in 0..steps {
                    // SAFETY: the caller vouches for panels and rows of `steps` steps.
                    unsafe {
                        let panel = b.add(p * panel_bytes + step * 64 + half * 32);
                        let w: [v128; 4] =
                            std::array::from_fn(|c| i16x8_load_extend_i8x8(panel.add(8 * c)));
                        for r in 0..MR {
                            let x = v128_load64_splat(a.add(r * a_stride + step * 8).cast());
                            for c in 0..4 {
                                acc[r][c] = i32x4_add(acc[r][c], i32x4_dot_i16x8(x, w[c]));
                            }
                        }
                    }
                }
                // Each register has two channels' sums in two parts.
                let join = |a, b| {
                    i32x4_add(
                        i32x4_shuffle::<0, 2, 4, 6>(a, b),
                        i32x4_shuffle::<1, 3, 5, 7>(a, b),
                    )
                };
                for r in 0..MR {
                    out[r][p][2 * half] = join(acc[r][0], acc[r][1]);
                    out[r][p][2 * half + 1] = join(acc[r][2], acc[r][3]);
                }
            }
        }
        out
    }
}

/// Operations on registers that are always there, for `bench`.
fn peak<K: Kernel>(kernel: K, rounds: u64) -> u64 {
    let codes = [1; 64];
    let panel = [1; 64];
    for _ in 0..rounds {
        let (a, b) = std::hint::black_box((codes.as_ptr(), panel.as_ptr()));
        // SAFETY: one step of one row, and of one panel.
        std::hint::black_box(unsafe { kernel.tile::<1, 1>(a, 64, b, 64, 1, b) });
    }
    rounds * 128
}

/// Narrow weights by relaxed dot products.
#[cfg(target_feature = "relaxed-simd")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct WasmNarrow<const FUSED: bool>;

// SAFETY: as above; `tile` reads rows, panels and steps as told.
#[cfg(target_feature = "relaxed-simd")]
unsafe impl<const FUSED: bool> Kernel for WasmNarrow<FUSED> {
    type S = Wasm<FUSED>;
    const MR: usize = 2;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const RANGE: WeightRange = WeightRange::Narrow;

    #[inline(always)]
    fn simd(self) -> Wasm<FUSED> {
        Wasm
    }

    #[inline(always)]
    fn store_codes(self, q: [F; 4], out: &mut [u8]) {
        for (q, out) in q.into_iter().zip(out.as_chunks_mut::<16>().0) {
            // SAFETY: sixteen bytes behind a reference.
            unsafe {
                v128_store(
                    out.as_mut_ptr().cast(),
                    v128_xor(bytes(q), u8x16_splat(128)),
                );
            }
        }
    }

    #[inline(always)]
    fn unsigned(self, acc: F, col_sums: F) -> F {
        each(|i| i32x4_add(acc[i], i32x4_shl(col_sums[i], 7)))
    }

    fn peak(self, rounds: u64) -> u64 {
        peak(self, rounds)
    }

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        a: *const u8,
        a_stride: usize,
        b: *const i8,
        panel_bytes: usize,
        steps: usize,
        _next: *const i8,
    ) -> [[F; NP]; MR] {
        let mut acc = [[[i32x4_splat(0); 4]; NP]; MR];
        let mut sums = [i32x4_splat(0); MR];
        debug_assert!(steps.is_multiple_of(4) || steps == 1);
        for step in 0..steps {
            // SAFETY: the caller vouches for panels and rows of `steps` steps.
            unsafe {
                if step % 4 == 0 && steps > 1 {
                    for r in 0..MR {
                        let x = v128_load(a.add(r * a_stride + step * 4).cast());
                        sums[r] = i32x4_relaxed_dot_i8x16_i7x16_add(x, i8x16_splat(1), sums[r]);
                    }
                }
                let x: [v128; MR] = std::array::from_fn(|r| {
                    v128_load32_splat(a.add(r * a_stride + step * 4).cast())
                });
                for p in 0..NP {
                    for c in 0..4 {
                        let w = v128_load(b.add(p * panel_bytes + step * 64 + c * 16).cast());
                        let w = i8x16_add(w, i8x16_splat(64));
                        for r in 0..MR {
                            acc[r][p][c] = i32x4_relaxed_dot_i8x16_i7x16_add(x[r], w, acc[r][p][c]);
                        }
                    }
                }
            }
        }
        for r in 0..MR {
            let sum = i32x4_add(sums[r], i32x4_shuffle::<2, 3, 0, 1>(sums[r], sums[r]));
            let sum = i32x4_add(sum, i32x4_shuffle::<1, 0, 3, 2>(sum, sum));
            let excess = i32x4_shl(sum, 6);
            for p in 0..NP {
                acc[r][p] = each(|c| i32x4_sub(acc[r][p][c], excess));
            }
        }
        acc
    }
}

/// Narrow weights by `pmaddubsw`, which [`is_pmaddubsw`] found: 2 * 255 * 64 is below its limit.
#[cfg(target_feature = "relaxed-simd")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct WasmPairs;

// SAFETY: as above; `tile` reads rows, panels and steps as told.
#[cfg(target_feature = "relaxed-simd")]
unsafe impl Kernel for WasmPairs {
    type S = Wasm<true>;
    const MR: usize = 2;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const RANGE: WeightRange = WeightRange::Narrow;

    #[inline(always)]
    fn simd(self) -> Wasm<true> {
        Wasm
    }

    #[inline(always)]
    fn store_codes(self, q: [F; 4], out: &mut [u8]) {
        for (q, out) in q.into_iter().zip(out.as_chunks_mut::<16>().0) {
            // SAFETY: sixteen bytes behind a reference.
            unsafe { v128_store(out.as_mut_ptr().cast(), bytes(q)) };
        }
    }

    fn peak(self, rounds: u64) -> u64 {
        peak(self, rounds)
    }

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        a: *const u8,
        a_stride: usize,
        b: *const i8,
        panel_bytes: usize,
        steps: usize,
        _next: *const i8,
    ) -> [[F; NP]; MR] {
        let mut acc = [[[i32x4_splat(0); 4]; NP]; MR];
        for step in 0..steps {
            // SAFETY: the caller vouches for panels and rows of `steps` steps.
            unsafe {
                let x: [v128; MR] = std::array::from_fn(|r| {
                    v128_load32_splat(a.add(r * a_stride + step * 4).cast())
                });
                for p in 0..NP {
                    for c in 0..4 {
                        let w = v128_load(b.add(p * panel_bytes + step * 64 + c * 16).cast());
                        for r in 0..MR {
                            let pairs = i16x8_relaxed_dot_i8x16_i7x16(w, x[r]);
                            let fours = i32x4_dot_i16x8(pairs, i16x8_splat(1));
                            acc[r][p][c] = i32x4_add(acc[r][p][c], fours);
                        }
                    }
                }
            }
        }
        acc
    }
}
