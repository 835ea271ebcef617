//! AVX2 on weights of any range: `vpmaddwd` on values widened to 16 bits. And the float
//! lanes of every 256-bit instruction set.
//!
//! `vpmaddubsw` would multiply u8 by i8 directly, but it saturates at 16 bits:
//! 255 * 127 twice is 64,770. `avx2_narrow` uses it where weights are small enough. Here
//! both sides are widened: activations when they
//! are stored (the codes of a step as `k0 k2 k1 k3`, 16 bits each, so that a
//! broadcast of 32 bits is an operand), weights on their way into a register: a
//! shift right by 8 leaves `k1 k3` of each channel, a shift left and right
//! `k0 k2`. Two `vpmaddwd` and two `vpaddd` are then 64 operations on three
//! ports: at most 48 a cycle. Every product pair fits into i32, so sums are exact.
//!
//! The tile is 6 rows by one panel: 12 accumulators, one pair of widened weights
//! and two registers for activations and products, 16 in all.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use super::gemm::{Kernel, opaque};
use super::simd::{LANES, Simd};
use std::arch::x86_64::*;

/// Proof that this CPU has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Sixteen lanes in two registers.
pub(crate) type F = [__m256; 2];
pub(crate) type I = [__m256i; 2];

/// Expressions that need AVX2 and FMA.
macro_rules! avx2 {
    ($e:expr) => {{
        // SAFETY: an `Avx2` exists only if `new` saw AVX2 and FMA, and every
        // pointer comes from a reference to an array of the width that is accessed.
        unsafe { $e }
    }};
}

/// Folds 16 lanes by the tree that `Simd::sum` states.
macro_rules! fold {
    ($v:expr, $ps256:ident, $ps:ident, $ss:ident) => {
        avx2!({
            let v = $ps256($v[0], $v[1]);
            let v = $ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = $ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32($ss(v, _mm_movehdup_ps(v)))
        })
    };
}

// SAFETY: `Avx2::new` saw the features.
unsafe impl Simd for Avx2 {
    type F = F;
    type I = I;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        avx2!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        avx2!([
            _mm256_loadu_ps(x.as_ptr()),
            _mm256_loadu_ps(x.as_ptr().add(8))
        ])
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32; LANES]) {
        avx2!({
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v[1]);
        });
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> I {
        avx2!([
            _mm256_loadu_si256(x.as_ptr().cast()),
            _mm256_loadu_si256(x.as_ptr().add(8).cast())
        ])
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> F {
        avx2!({
            let v = _mm_loadu_si128(x.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(v))),
            ]
        })
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        avx2!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        avx2!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        avx2!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        avx2!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        avx2!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1])
        ])
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        avx2!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn to_i32(self, v: F) -> I {
        avx2!([_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1])])
    }
    #[inline(always)]
    fn to_f32(self, v: I) -> F {
        avx2!([_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1])])
    }
    #[inline(always)]
    fn scale_exp2(self, p: F, t: F) -> F {
        avx2!([scale_exp2(p[0], t[0]), scale_exp2(p[1], t[1])])
    }
    #[inline(always)]
    fn keep_first(self, v: F, n: usize, fill: F) -> F {
        avx2!([
            keep_first(v[0], n.min(8), fill[0]),
            keep_first(v[1], n.clamp(8, 16) - 8, fill[1])
        ])
    }
    #[inline(always)]
    fn sum(self, v: F) -> f32 {
        fold!(v, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
    }
    #[inline(always)]
    fn min_lane(self, v: F) -> f32 {
        fold!(v, _mm256_min_ps, _mm_min_ps, _mm_min_ss)
    }
    #[inline(always)]
    fn max_lane(self, v: F) -> f32 {
        fold!(v, _mm256_max_ps, _mm_max_ps, _mm_max_ss)
    }
    #[inline(always)]
    fn transpose(self, rows: [F; LANES]) -> [F; LANES] {
        avx2!({
            let quarter =
                |from: usize, half: usize| transpose(std::array::from_fn(|i| rows[from + i][half]));
            let (a, b, c, d) = (quarter(0, 0), quarter(8, 0), quarter(0, 1), quarter(8, 1));
            std::array::from_fn(|i| {
                if i < 8 {
                    [a[i], b[i]]
                } else {
                    [c[i - 8], d[i - 8]]
                }
            })
        })
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn scale_exp2(p: __m256, t: __m256) -> __m256 {
    let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn keep_first(v: __m256, n: usize, fill: __m256) -> __m256 {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes);
    _mm256_blendv_ps(fill, v, _mm256_castsi256_ps(mask))
}

/// Eight by eight.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    let mut a = r;
    for i in 0..4 {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut b = a;
    for g in 0..2 {
        for j in 0..2 {
            let (lo, hi) = (a[4 * g + j], a[4 * g + 2 + j]);
            b[4 * g + 2 * j] = _mm256_shuffle_ps::<0x44>(lo, hi);
            b[4 * g + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(lo, hi);
        }
    }
    let mut out = b;
    for j in 0..4 {
        out[j] = _mm256_permute2f128_ps::<0x20>(b[j], b[4 + j]);
        out[4 + j] = _mm256_permute2f128_ps::<0x31>(b[j], b[4 + j]);
    }
    out
}

// SAFETY: `Avx2::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for Avx2 {
    type S = Self;
    const MR: usize = 6;
    const NP: usize = 1;
    const CODE_BYTES: usize = 2;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn store_codes(self, q: [I; 4], out: &mut [u8]) {
        let out: &mut [u8; 128] = out.try_into().expect("64 codes of 16 bits");
        avx2!(store_wide_codes(q, out));
    }

    fn peak(self, rounds: u64) -> u64 {
        // SAFETY: an `Avx2` proves the instructions; registers only, all declared.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm0, ymm0, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm1, ymm1, ymm13",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm2, ymm2, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm3, ymm3, ymm13",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm4, ymm4, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm5, ymm5, ymm13",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm6, ymm6, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm7, ymm7, ymm13",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm8, ymm8, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm9, ymm9, ymm13",
                "vpmaddwd ymm12, ymm14, ymm15",
                "vpaddd ymm10, ymm10, ymm12",
                "vpmaddwd ymm13, ymm14, ymm15",
                "vpaddd ymm11, ymm11, ymm13",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds.max(1) => _,
                out("ymm0") _,
                out("ymm1") _,
                out("ymm2") _,
                out("ymm3") _,
                out("ymm4") _,
                out("ymm5") _,
                out("ymm6") _,
                out("ymm7") _,
                out("ymm8") _,
                out("ymm9") _,
                out("ymm10") _,
                out("ymm11") _,
                out("ymm12") _,
                out("ymm13") _,
                options(nomem, nostack),
            );
        }
        rounds.max(1) * 12 * 32
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
    ) -> [[I; NP]; MR] {
        // SAFETY: the features as above; the caller vouches for the pointers.
        unsafe { tile(a, a_stride, b, panel_bytes, steps) }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store_wide_codes(q: [I; 4], out: &mut [u8; 128]) {
    for (q, out) in q.into_iter().zip(out.as_chunks_mut::<32>().0) {
        let low = _mm256_setzero_si256();
        let high = _mm256_set1_epi32(255);
        let x = _mm256_min_epi32(_mm256_max_epi32(q[0], low), high);
        let y = _mm256_min_epi32(_mm256_max_epi32(q[1], low), high);
        // The pack interleaves the steps of x and y; back in order, each step's
        // middle codes change places.
        let steps = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(x, y));
        let steps = _mm256_shufflelo_epi16::<0b11_01_10_00>(steps);
        let steps = _mm256_shufflehi_epi16::<0b11_01_10_00>(steps);
        // SAFETY: `out` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), steps) };
    }
}

/// Clamps 64 codes to 0..=255 and stores a byte of each.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn store_codes(q: [I; 4], out: &mut [u8; 64]) {
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (q, out) in q.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        // Both packs saturate, which is the clamp; they interleave 128-bit
        // blocks, which the permutation undoes.
        let words = [
            _mm256_packs_epi32(q[0][0], q[0][1]),
            _mm256_packs_epi32(q[1][0], q[1][1]),
        ];
        let bytes = _mm256_packus_epi16(words[0], words[1]);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        // SAFETY: `out` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
    }
}

/// # Safety
/// As `Kernel::tile`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const MR: usize, const NP: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    panel_bytes: usize,
    steps: usize,
) -> [[I; NP]; MR] {
    let mut acc = [[[_mm256_setzero_si256(); 2]; NP]; MR];
    let mut rows = [0, 3].map(|r| a.wrapping_add(r * a_stride));
    for step in 0..steps {
        for p in 0..NP {
            for half in 0..2 {
                // SAFETY: a step of a panel is 64 bytes within the weights.
                let w = unsafe {
                    let w = b.add(p * panel_bytes + step * 64 + half * 32);
                    _mm256_loadu_si256(w.cast())
                };
                let odd = _mm256_srai_epi16::<8>(w);
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w));
                for r in 0..MR {
                    // SAFETY: a step is 8 bytes of each of the caller's rows.
                    let (x_even, x_odd) = unsafe {
                        let x = rows[r / 3].add(r % 3 * a_stride).cast::<i32>();
                        (x.read_unaligned(), x.add(1).read_unaligned())
                    };
                    let y = &mut acc[r][p][half];
                    *y = _mm256_add_epi32(*y, _mm256_madd_epi16(_mm256_set1_epi32(x_even), even));
                    *y = _mm256_add_epi32(*y, _mm256_madd_epi16(_mm256_set1_epi32(x_odd), odd));
                }
                // Or else the compiler keeps twelve broadcasts for the other half and
                // spills accumulators for them; loading them again costs nothing.
                rows = rows.map(opaque);
            }
        }
        rows = rows.map(|row| row.wrapping_add(8));
    }
    acc
}
