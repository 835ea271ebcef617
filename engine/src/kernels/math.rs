//! Elementary functions over sixteen lanes, without branches or tables.
//!
//! | function | largest error against f64 | how |
//! |---|---|---|
//! | `exp`, `x <= 0` | 2e-7 relative | `2^n * p(r)`, Cody and Waite's two-step reduction, degree 6 |
//! | `erf` | 3e-7 absolute | `x * p(x^2)`, degree 14, saturates at 3.75 where `erfc` is 1.1e-7 |
//! | `gelu` | 2.5e-7 relative to `1 + x` | `Phi(x) = 0.5 + x * p(x^2)`, degree 12, saturates at 5 |
//! | `gelu_tanh` | 5e-7 relative to `1 + x` | `x / (1 + exp(-2u))` |
//! | `tanh` | 2e-7 absolute | `1 - 2 / (1 + exp(2x))` |
//!
//! The tests hold these bounds. The polynomial of `erf` interpolates
//! `erf(sqrt u) / sqrt u` at Chebyshev nodes of `0 <= u <= 3.75^2`; written in
//! `t = 2u / 3.75^2 - 1` its coefficients stay small, and Horner's scheme loses
//! nothing to cancellation. It costs 14 fused multiply-adds and no division,
//! where the usual rational form has 11 and a division that takes as long as 16.
//! That of `gelu`, on which a large share of the time outside of products is spent,
//! minimises the largest error of `gelu(x) / (1 + x)` itself (Lawson's iteration), which
//! saves two degrees.

use super::simd::Simd;

/// Beyond it `exp` would leave the normal numbers.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 88.0;
/// `1.5 * 2^23`: adding it rounds to an integer, ties to even, which then stands
/// in the lowest mantissa bits.
const ROUND: f32 = 12_582_912.0;
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
const EXP: [f32; 7] = [
    1.0,
    1.0,
    0.5,
    1.666_641_5e-1,
    4.166_635e-2,
    8.375_126e-3,
    1.394_110_8e-3,
];

#[cfg(test)]
const ERF_MAX: f32 = 3.75;
#[cfg(test)]
const ERF: [f32; 15] = [
    3.770_569_3e-1,
    -1.880_301_5e-1,
    1.392_694_4e-1,
    -1.119_364e-1,
    9.072_829e-2,
    -7.163_875_6e-2,
    5.369_383_5e-2,
    -3.722_126_8e-2,
    2.474_224_6e-2,
    -1.689_503_7e-2,
    9.416_801e-3,
    -2.870_396_5e-3,
    1.676_008_5e-3,
    -2.264_228_9e-3,
    9.393_414_4e-4,
];
/// Beyond it `x * (1 - Phi(x))` is below 1.5e-6.
const GELU_MAX: f32 = 5.0;
/// `Phi(x) = 0.5 + x * p(t)`.
const GELU: [f32; 13] = [
    1.413_637_8e-1,
    -7.029_643e-2,
    5.152_096_2e-2,
    -4.043_878e-2,
    3.143_489e-2,
    -2.329_526_7e-2,
    1.644_38e-2,
    -1.109_060_2e-2,
    6.307_309_5e-3,
    -2.773_300_5e-3,
    1.837_148_1e-3,
    -1.575_892_2e-3,
    5.623_421e-4,
];

/// Horner's scheme.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: &[f32; N]) -> S::F {
    let mut p = s.splat(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        p = s.fma(p, x, s.splat(c));
    }
    p
}

/// NaN becomes `low`.
#[inline(always)]
fn clamp<S: Simd>(s: S, x: S::F, low: f32, high: f32) -> S::F {
    s.min(s.max(x, s.splat(low)), s.splat(high))
}

/// The same in two chains, of even and of odd powers, which halves the time until the
/// result is there: for long polynomials that keep many registers waiting.
#[inline(always)]
fn even_odd<S: Simd, const N: usize>(s: S, x: S::F, coefficients: &[f32; N]) -> S::F {
    const { assert!(N % 2 == 1 && N > 2) };
    let square = s.mul(x, x);
    let mut even = s.splat(coefficients[N - 1]);
    let mut odd = s.splat(coefficients[N - 2]);
    for i in (1..N / 2).rev() {
        even = s.fma(even, square, s.splat(coefficients[2 * i]));
        odd = s.fma(odd, square, s.splat(coefficients[2 * i - 1]));
    }
    even = s.fma(even, square, s.splat(coefficients[0]));
    s.fma(odd, x, even)
}

/// `e^x`, clamped to the normal numbers.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    exp_below(s, s.min(x, s.splat(EXP_MAX)))
}

/// `e^x` for `x <= 88`.
#[inline(always)]
pub(crate) fn exp_below<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(x, s.splat(EXP_MIN));
    let t = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(t, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN2_HI), x);
    let r = s.fma(n, s.splat(-LN2_LO), r);
    s.scale_exp2(polynomial(s, r, &EXP), t)
}

/// The error function.
#[cfg(test)]
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let x = clamp(s, x, -ERF_MAX, ERF_MAX);
    let t = s.fma(
        s.mul(x, x),
        s.splat(2.0 / (ERF_MAX * ERF_MAX)),
        s.splat(-1.0),
    );
    s.mul(x, even_odd(s, t, &ERF))
}

/// `x * Phi(x)` with Phi by the error function.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let c = clamp(s, x, -GELU_MAX, GELU_MAX);
    let t = s.fma(
        s.mul(c, c),
        s.splat(2.0 / (GELU_MAX * GELU_MAX)),
        s.splat(-1.0),
    );
    s.mul(x, s.fma(c, even_odd(s, t, &GELU), s.splat(0.5)))
}

/// The tanh approximation of GELU, as the sigmoid that it is.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // -2 sqrt(2 / pi) and that times 0.044715.
    let cubic = s.fma(s.mul(x, x), s.splat(-7.135_481_3e-2), s.splat(-1.595_769_2));
    let e = exp(s, s.mul(x, cubic));
    s.div(x, s.add(s.splat(1.0), e))
}

/// `max(x, 0)`.
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(x, s.splat(0.0))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, clamp(s, s.add(x, x), -40.0, 40.0));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}
