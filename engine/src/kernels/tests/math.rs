//! The bounds that `math` states.

use crate::kernels::math;
use crate::kernels::scalar::Scalar;
use crate::kernels::simd::{LANES, Simd};

/// Abramowitz and Stegun 7.1.6, summed to the end: no term is negative.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + u.tanh())
}

type F = [f32; LANES];

/// The largest of `|f - exact| / unit` over `low..high`.
fn check(
    f: fn(Scalar, F) -> F,
    exact: fn(f64) -> f64,
    unit: fn(f64) -> f64,
    (low, high): (f32, f32),
    bound: f64,
) {
    let mut worst = (0.0, 0.0);
    let steps = 20_000;
    for i in 0..=steps {
        let x = low + (high - low) * (i as f32 / steps as f32);
        let y = f(Scalar, Scalar.splat(x))[0];
        let x = f64::from(x);
        let error = (f64::from(y) - exact(x)).abs() / unit(x);
        if error > worst.0 {
            worst = (error, x);
        }
    }
    assert!(
        worst.0 < bound,
        "error {:e} at {}, bound {bound:e}",
        worst.0,
        worst.1
    );
}

#[test]
fn exp_is_exact_to_two_ulps() {
    check(math::exp, f64::exp, f64::exp, (-87.0, 88.0), 2e-7);
    assert_eq!(
        math::exp(Scalar, Scalar.splat(0.0))[0].to_bits(),
        1f32.to_bits()
    );
}

#[test]
fn erf_is_exact_to_three_ulps_of_one() {
    check(math::erf, erf, |_| 1.0, (-5.0, 5.0), 3e-7);
}

#[test]
fn gelu_follows_the_error_function() {
    check(math::gelu, gelu, |x| 1.0 + x.abs(), (-12.0, 12.0), 2.5e-7);
    assert_eq!(
        math::gelu(Scalar, Scalar.splat(0.0))[0].to_bits(),
        0f32.to_bits()
    );
}

#[test]
fn gelu_tanh_follows_the_tanh() {
    check(
        math::gelu_tanh,
        gelu_tanh,
        |x| 1.0 + x.abs(),
        (-12.0, 12.0),
        2e-7,
    );
}

#[test]
fn tanh_is_exact_to_two_ulps_of_one() {
    check(math::tanh, f64::tanh, |_| 1.0, (-20.0, 20.0), 2e-7);
}

#[test]
fn no_value_whatever_panics() {
    for x in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        1e-45,
    ] {
        let x = Scalar.splat(x);
        for f in [
            math::exp,
            math::gelu,
            math::gelu_tanh,
            math::tanh,
            math::relu,
        ] {
            f(Scalar, x);
        }
    }
}
