//! Portable code: the specification of every other instruction set.
//!
//! `f32::mul_add` is exact everywhere; without an FMA instruction it is a
//! library call, so this is for tests and for CPUs that have nothing better.

use super::gemm::Kernel;
use super::simd::{LANES, Simd};
use coldread_model::layout::{KR, NR};

/// No instruction set at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

impl Scalar {
    #[inline(always)]
    fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        std::array::from_fn(|i| f(a[i], b[i]))
    }

    #[inline(always)]
    fn fold(v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut v = v;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] = f(v[i], v[i + half]);
            }
        }
        v[0]
    }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

// SAFETY: no instruction beyond the target's own is used.
unsafe impl Simd for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> Self::I {
        *x
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        x.map(f32::from)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, min)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        Self::zip(a, b, max)
    }
    #[inline(always)]
    fn to_i32(self, v: Self::F) -> Self::I {
        v.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::F {
        v.map(|x| x as f32)
    }
    #[inline(always)]
    fn scale_exp2(self, p: Self::F, t: Self::F) -> Self::F {
        Self::zip(p, t, |p, t| {
            f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
        })
    }
    #[inline(always)]
    fn keep_first(self, v: Self::F, n: usize, fill: Self::F) -> Self::F {
        std::array::from_fn(|i| if i < n { v[i] } else { fill[i] })
    }
    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        Self::fold(v, |a, b| a + b)
    }
    #[inline(always)]
    fn min_lane(self, v: Self::F) -> f32 {
        Self::fold(v, min)
    }
    #[inline(always)]
    fn max_lane(self, v: Self::F) -> f32 {
        Self::fold(v, max)
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }
}

// SAFETY: no instruction beyond the target's own is used; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for Scalar {
    type S = Self;
    const MR: usize = 1;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn store_codes(self, q: [[i32; LANES]; 4], out: &mut [u8]) {
        for (&q, out) in q.as_flattened().iter().zip(out) {
            *out = q.clamp(0, 255) as u8;
        }
    }

    fn peak(self, rounds: u64) -> u64 {
        let (codes, weights) = ([1; KR], [1; NR * KR]);
        for _ in 0..rounds {
            let (a, b) = std::hint::black_box((codes.as_ptr(), weights.as_ptr()));
            // SAFETY: one step of one row and of one panel.
            std::hint::black_box(unsafe { self.tile::<1, 1>(a, KR, b, NR * KR, 1, b) });
        }
        rounds * (NR * KR * 2) as u64
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
    ) -> [[[i32; LANES]; NP]; MR] {
        std::array::from_fn(|r| {
            std::array::from_fn(|p| {
                // SAFETY: the caller vouches for `steps` steps of row `r` and panel `p`.
                let (row, panel) = unsafe {
                    (
                        std::slice::from_raw_parts(a.add(r * a_stride), steps * KR),
                        std::slice::from_raw_parts(b.add(p * panel_bytes), steps * NR * KR),
                    )
                };
                let mut acc = [0; LANES];
                for (x, step) in row.chunks_exact(KR).zip(panel.chunks_exact(NR * KR)) {
                    for (y, w) in acc.iter_mut().zip(step.chunks_exact(KR)) {
                        *y += x
                            .iter()
                            .zip(w)
                            .map(|(&x, &w)| i32::from(x) * i32::from(w))
                            .sum::<i32>();
                    }
                }
                acc
            })
        })
    }
}
