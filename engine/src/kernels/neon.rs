//! NEON with dot products: `sdot`, i8 x i8 in four lanes of i32.
//!
//! `sdot` takes signed bytes on both sides, so codes are stored less 128 and
//! `128 * col_sum` is added back to each sum, in wrapping i32: scalar's integers
//! again. The element form multiplies four channels' weights by four codes of one row
//! that stand in a lane, so that 16 bytes of a row serve four steps.
//!
//! The tile is 4 rows by one panel: 16 accumulators, 4 registers of weights and 4 of
//! codes, 24 of 32; 16 chains cover the latency on cores with two or four pipes.
//!
//! Source: Arm Architecture Reference Manual for A-profile, SDOT (by element).

use super::gemm::Kernel;
use super::simd::{LANES, Simd};
use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;

/// Proof that this CPU has NEON with the dot product extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonDotprod(());

impl NeonDotprod {
    pub(crate) fn new() -> Option<Self> {
        (is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod"))
            .then_some(Self(()))
    }
}

/// Sixteen lanes in four registers.
type F = [float32x4_t; 4];
pub(super) type I = [int32x4_t; 4];

/// Expressions that need NEON.
macro_rules! neon {
    ($e:expr) => {{
        // SAFETY: a `NeonDotprod` exists only if `new` saw NEON, and every
        // pointer comes from a reference to an array of the width that is accessed.
        unsafe { $e }
    }};
}

/// An operation on each of the four registers.
macro_rules! each {
    ($i:ident => $e:expr) => {
        neon!({
            let f = |$i: usize| $e;
            [f(0), f(1), f(2), f(3)]
        })
    };
}

/// Folds 16 lanes by the tree that `Simd::sum` states.
#[inline(always)]
fn fold(v: F, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> f32 {
    let v = f(f(v[0], v[2]), f(v[1], v[3]));
    let v = f(v, neon!(vextq_f32::<2>(v, v)));
    let v = f(v, neon!(vextq_f32::<1>(v, v)));
    neon!(vgetq_lane_f32::<0>(v))
}

// SAFETY: `NeonDotprod::new` saw the features.
unsafe impl Simd for NeonDotprod {
    type F = F;
    type I = I;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        neon!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        each!(i => vld1q_f32(x.as_ptr().add(4 * i)))
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32; LANES]) {
        for (v, out) in v.into_iter().zip(out.as_chunks_mut::<4>().0) {
            neon!(vst1q_f32(out.as_mut_ptr(), v));
        }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> I {
        each!(i => vld1q_s32(x.as_ptr().add(4 * i)))
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> F {
        neon!({
            let v = vld1q_s8(x.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_s8(vget_high_s8(v)));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ]
        })
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        each!(i => vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        each!(i => vsubq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        each!(i => vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        each!(i => vdivq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        each!(i => vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        each!(i => vminnmq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        each!(i => vmaxnmq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn to_i32(self, v: F) -> I {
        each!(i => vcvtnq_s32_f32(v[i]))
    }
    #[inline(always)]
    fn to_f32(self, v: I) -> F {
        each!(i => vcvtq_f32_s32(v[i]))
    }
    #[inline(always)]
    fn scale_exp2(self, p: F, t: F) -> F {
        each!(i => vreinterpretq_f32_s32(vaddq_s32(
            vreinterpretq_s32_f32(p[i]),
            vshlq_n_s32::<23>(vreinterpretq_s32_f32(t[i]))
        )))
    }
    #[inline(always)]
    fn keep_first(self, v: F, n: usize, fill: F) -> F {
        const LANE: [i32; 4] = [0, 1, 2, 3];
        each!(i => {
            let mask = vcltq_s32(vld1q_s32(LANE.as_ptr()), vdupq_n_s32(n as i32 - 4 * i as i32));
            vbslq_f32(mask, v[i], fill[i])
        })
    }
    #[inline(always)]
    fn sum(self, v: F) -> f32 {
        fold(v, |a, b| neon!(vaddq_f32(a, b)))
    }
    #[inline(always)]
    fn min_lane(self, v: F) -> f32 {
        fold(v, |a, b| neon!(vminnmq_f32(a, b)))
    }
    #[inline(always)]
    fn max_lane(self, v: F) -> f32 {
        fold(v, |a, b| neon!(vmaxnmq_f32(a, b)))
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
fn transpose4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    neon!({
        let wide = |a, b| (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
        let (a, b) = wide(vtrn1q_f32(r[0], r[1]), vtrn1q_f32(r[2], r[3]));
        let (c, d) = wide(vtrn2q_f32(r[0], r[1]), vtrn2q_f32(r[2], r[3]));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(a, b)),
            vreinterpretq_f32_f64(vtrn1q_f64(c, d)),
            vreinterpretq_f32_f64(vtrn2q_f64(a, b)),
            vreinterpretq_f32_f64(vtrn2q_f64(c, d)),
        ]
    })
}

/// Sixteen codes, clamped to 0..=255: both narrowing steps saturate.
#[inline(always)]
pub(super) fn narrow(_: NeonDotprod, q: I) -> uint8x16_t {
    neon!({
        let low = vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1]));
        let high = vcombine_s16(vqmovn_s32(q[2]), vqmovn_s32(q[3]));
        vcombine_u8(vqmovun_s16(low), vqmovun_s16(high))
    })
}

// SAFETY: `NeonDotprod::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for NeonDotprod {
    type S = Self;
    const MR: usize = 4;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn store_codes(self, q: [I; 4], out: &mut [u8]) {
        for (q, out) in q.into_iter().zip(out.as_chunks_mut::<16>().0) {
            let codes = narrow(self, q);
            neon!(vst1q_u8(out.as_mut_ptr(), veorq_u8(codes, vdupq_n_u8(128))));
        }
    }

    #[inline(always)]
    fn unsigned(self, acc: I, col_sums: I) -> I {
        each!(i => vmlaq_n_s32(acc[i], col_sums[i], 128))
    }

    fn peak(self, rounds: u64) -> u64 {
        // SAFETY: a `NeonDotprod` proves the instruction; registers only, all declared.
        unsafe {
            std::arch::asm!(
                ".arch_extension dotprod",
                "2:",
                "sdot v0.4s, v30.16b, v31.4b[0]",
                "sdot v1.4s, v30.16b, v31.4b[0]",
                "sdot v2.4s, v30.16b, v31.4b[0]",
                "sdot v3.4s, v30.16b, v31.4b[0]",
                "sdot v4.4s, v30.16b, v31.4b[0]",
                "sdot v5.4s, v30.16b, v31.4b[0]",
                "sdot v6.4s, v30.16b, v31.4b[0]",
                "sdot v7.4s, v30.16b, v31.4b[0]",
                "sdot v8.4s, v30.16b, v31.4b[0]",
                "sdot v9.4s, v30.16b, v31.4b[0]",
                "sdot v10.4s, v30.16b, v31.4b[0]",
                "sdot v11.4s, v30.16b, v31.4b[0]",
                "sdot v12.4s, v30.16b, v31.4b[0]",
                "sdot v13.4s, v30.16b, v31.4b[0]",
                "sdot v14.4s, v30.16b, v31.4b[0]",
                "sdot v15.4s, v30.16b, v31.4b[0]",
                "subs {rounds}, {rounds}, #1",
                "b.ne 2b",
                rounds = inout(reg) rounds.max(1) => _,
                out("v0") _,
                out("v1") _,
                out("v2") _,
                out("v3") _,
                out("v4") _,
                out("v5") _,
                out("v6") _,
                out("v7") _,
                out("v8") _,
                out("v9") _,
                out("v10") _,
                out("v11") _,
                out("v12") _,
                out("v13") _,
                out("v14") _,
                out("v15") _,
                options(nomem, nostack),
            );
        }
        rounds.max(1) * 16 * 32
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

/// `acc += w . x[LANE]` for four channels.
macro_rules! sdot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        // SAFETY: the caller has the dot product extension; registers only.
        unsafe {
            asm!(
                concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
                inout(vreg) $acc,
                in(vreg) $w,
                in(vreg) $x,
                options(pure, nomem, nostack, preserves_flags),
            )
        }
    };
}

/// # Safety
/// As `Kernel::tile`; `steps` is a multiple of 4, which the layout's padding sees to.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const MR: usize, const NP: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    panel_bytes: usize,
    steps: usize,
) -> [[I; NP]; MR] {
    debug_assert!(steps.is_multiple_of(4));
    let mut acc = [[[vdupq_n_s32(0); 4]; NP]; MR];
    for step in (0..steps).step_by(4) {
        let mut x = [vdupq_n_s8(0); MR];
        for r in 0..MR {
            // SAFETY: four steps are 16 codes of each of the caller's rows.
            x[r] = unsafe { vld1q_s8(a.add(r * a_stride + step * 4).cast()) };
        }
        for p in 0..NP {
            macro_rules! one_step {
                ($lane:literal) => {
                    for c in 0..4 {
                        // SAFETY: a step of a panel is 64 bytes within the weights.
                        let w = unsafe {
                            vld1q_s8(b.add(p * panel_bytes + (step + $lane) * 64 + c * 16))
                        };
                        for r in 0..MR {
                            sdot!(acc[r][p][c], w, x[r], $lane);
                        }
                    }
                };
            }
            one_step!(0);
            one_step!(1);
            one_step!(2);
            one_step!(3);
        }
    }
    acc
}
