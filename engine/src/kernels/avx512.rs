//! AVX-512 with VNNI: `vpdpbusd` on 512 bits.
//!
//! One instruction adds, in each of 16 lanes, four products u8 x i8 to an i32,
//! without saturation: scalar's integers as long as the sum fits into an i32,
//! which `gemm` checks. Two a cycle make 256 operations.
//!
//! The tile is 8 rows by 3 panels: 24 accumulators, 3 registers of weights and
//! one broadcast of activations, 28 of 32. A step of 24 `vpdpbusd` needs 3 + 8
//! loads, so that the two load ports are less than half busy over the 12 cycles.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use super::gemm::{Kernel, opaque};
use super::simd::{LANES, Simd};
use coldread_model::layout::{K_ALIGN, KR};
use std::arch::x86_64::*;

/// Proof that this CPU has AVX-512 (F, BW, DQ, VL) with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }
}

/// Expressions that need AVX-512.
macro_rules! avx512 {
    ($e:expr) => {{
        // SAFETY: an `Avx512` exists only if `new` saw these features, and every
        // pointer comes from a reference to an array of the width that is accessed.
        unsafe { $e }
    }};
}

/// Folds 16 lanes by the tree that `Simd::sum` states.
macro_rules! fold {
    ($v:expr, $ps256:ident, $ps:ident, $ss:ident) => {
        avx512!({
            let v = $ps256(_mm512_castps512_ps256($v), _mm512_extractf32x8_ps::<1>($v));
            let v = $ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = $ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32($ss(v, _mm_movehdup_ps(v)))
        })
    };
}

// SAFETY: `Avx512::new` saw the features.
unsafe impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        avx512!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> __m512i {
        avx512!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(
            x.as_ptr().cast()
        ))))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn to_i32(self, v: __m512) -> __m512i {
        avx512!(_mm512_cvtps_epi32(v))
    }
    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn scale_exp2(self, p: __m512, t: __m512) -> __m512 {
        avx512!(_mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(p),
            _mm512_slli_epi32::<23>(_mm512_castps_si512(t))
        )))
    }
    #[inline(always)]
    fn keep_first(self, v: __m512, n: usize, fill: __m512) -> __m512 {
        let mask = if n >= LANES { u16::MAX } else { (1 << n) - 1 };
        avx512!(_mm512_mask_mov_ps(fill, mask, v))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        fold!(v, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
    }
    #[inline(always)]
    fn min_lane(self, v: __m512) -> f32 {
        fold!(v, _mm256_min_ps, _mm_min_ps, _mm_min_ss)
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        fold!(v, _mm256_max_ps, _mm_max_ps, _mm_max_ss)
    }
    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        avx512!(transpose(rows))
    }
}

/// Pairs of rows, then of pairs, then of 128-bit blocks, twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let mut a = r;
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // b[4g + j] holds column j (mod 4, per 128-bit block) of the rows 4g..4g + 4.
    let mut b = a;
    for g in 0..4 {
        for j in 0..2 {
            let (lo, hi) = (
                _mm512_castps_pd(a[4 * g + j]),
                _mm512_castps_pd(a[4 * g + 2 + j]),
            );
            b[4 * g + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi));
            b[4 * g + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi));
        }
    }
    let mut out = b;
    for j in 0..4 {
        let x = _mm512_shuffle_f32x4::<0x88>(b[j], b[4 + j]);
        let y = _mm512_shuffle_f32x4::<0x88>(b[8 + j], b[12 + j]);
        let z = _mm512_shuffle_f32x4::<0xdd>(b[j], b[4 + j]);
        let w = _mm512_shuffle_f32x4::<0xdd>(b[8 + j], b[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0x88>(x, y);
        out[4 + j] = _mm512_shuffle_f32x4::<0x88>(z, w);
        out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(x, y);
        out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(z, w);
    }
    out
}

// SAFETY: `Avx512::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for Avx512 {
    type S = Self;
    const MR: usize = 8;
    const NP: usize = 3;
    const CODE_BYTES: usize = 1;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn store_codes(self, q: [__m512i; 4], out: &mut [u8]) {
        let out: &mut [u8; 64] = out.try_into().expect("64 codes");
        avx512!(store_codes(q, out));
    }

    fn peak(self, rounds: u64) -> u64 {
        // SAFETY: an `Avx512` proves the instruction; registers only, all declared.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpdpbusd zmm0, zmm30, zmm31",
                "vpdpbusd zmm1, zmm30, zmm31",
                "vpdpbusd zmm2, zmm30, zmm31",
                "vpdpbusd zmm3, zmm30, zmm31",
                "vpdpbusd zmm4, zmm30, zmm31",
                "vpdpbusd zmm5, zmm30, zmm31",
                "vpdpbusd zmm6, zmm30, zmm31",
                "vpdpbusd zmm7, zmm30, zmm31",
                "vpdpbusd zmm8, zmm30, zmm31",
                "vpdpbusd zmm9, zmm30, zmm31",
                "vpdpbusd zmm10, zmm30, zmm31",
                "vpdpbusd zmm11, zmm30, zmm31",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds.max(1) => _,
                out("zmm0") _,
                out("zmm1") _,
                out("zmm2") _,
                out("zmm3") _,
                out("zmm4") _,
                out("zmm5") _,
                out("zmm6") _,
                out("zmm7") _,
                out("zmm8") _,
                out("zmm9") _,
                out("zmm10") _,
                out("zmm11") _,
                options(nomem, nostack),
            );
        }
        rounds.max(1) * 12 * 128
    }

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        a: *const u8,
        a_stride: usize,
        b: *const i8,
        panel_bytes: usize,
        steps: usize,
        next: *const i8,
    ) -> [[__m512i; NP]; MR] {
        // SAFETY: the features as above; the caller vouches for the pointers.
        unsafe { tile(a, a_stride, b, panel_bytes, steps, next) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn store_codes(q: [__m512i; 4], out: &mut [u8; 64]) {
    // The two packs saturate, which is the clamp to 0..=255; they interleave
    // 128-bit blocks, which the permutation undoes.
    let words = [
        _mm512_packs_epi32(q[0], q[1]),
        _mm512_packs_epi32(q[2], q[3]),
    ];
    let bytes = _mm512_packus_epi16(words[0], words[1]);
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    // SAFETY: `out` has the 64 bytes that are written.
    unsafe {
        _mm512_storeu_si512(
            out.as_mut_ptr().cast(),
            _mm512_permutexvar_epi32(order, bytes),
        );
    }
}

/// Steps of a turn of the loop; `K_ALIGN` makes them come out even.
const UNROLL: usize = 4;
const _: () = assert!(K_ALIGN.is_multiple_of(UNROLL * KR));

/// # Safety
/// As `Kernel::tile`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn tile<const MR: usize, const NP: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    panel_bytes: usize,
    steps: usize,
    next: *const i8,
) -> [[__m512i; NP]; MR] {
    let mut acc = [[_mm512_setzero_si512(); NP]; MR];
    // Three pointers reach nine rows: row `3 i + j` is `rows[i] + j * a_stride`.
    let mut rows = [0, 3, 6].map(|r| a.wrapping_add(r * a_stride));
    let (mut b, mut next) = (b, next);
    for _ in 0..steps / UNROLL {
        for step in 0..UNROLL {
            _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step * 64));
            let mut w = [_mm512_setzero_si512(); NP];
            for p in 0..NP {
                // SAFETY: a step of a panel is 64 bytes within the weights.
                w[p] = unsafe { _mm512_loadu_si512(b.add(p * panel_bytes + step * 64).cast()) };
            }
            for r in 0..MR {
                // SAFETY: a step is four codes of each of the caller's rows.
                let codes = unsafe {
                    rows[r / 3]
                        .add(r % 3 * a_stride + step * 4)
                        .cast::<i32>()
                        .read_unaligned()
                };
                let x = _mm512_set1_epi32(codes);
                for p in 0..NP {
                    acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, w[p]);
                }
            }
        }
        rows = rows.map(|row| opaque(row.wrapping_add(UNROLL * 4)));
        b = opaque(b.wrapping_add(UNROLL * 64));
        next = opaque(next.wrapping_add(UNROLL * 64));
    }
    acc
}
