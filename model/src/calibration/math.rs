//! Functions whose bits do not depend on the machine's libraries, as the standard library's do:
//! packing a model gives the same file everywhere.

use crate::config::Activation;

/// `e^x` for `x <= 0`.
pub(super) fn exp(x: f32) -> f32 {
    /// Added and taken away again, it rounds what is far below it to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln(2) in two parts, of which the first is short.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// The feed-forward block's non-linearity.
pub(super) fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::GeluErf => x * (0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => x * (0.5 + 0.5 * tanh(0.797_884_6 * (x + 0.044_715 * x * x * x))),
        Activation::Relu => x.max(0.0),
    }
}

/// The error function, by formula 7.1.26 of Abramowitz and Stegun: within 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p =
        0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4)));
    (1.0 - t * p * exp(-x * x)).copysign(x)
}

fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_near_the_standard_library() {
        for i in -2000..=2000 {
            let x = i as f32 / 100.0;
            let e = exp(-x.abs());
            assert!((e - (-x.abs()).exp()).abs() <= 3e-7 * e, "{x}");
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "{x}");
        }
        // scipy.special.erf
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_9),
            (-1.0, -0.842_700_8),
            (3.0, 0.999_977_9),
        ] {
            assert!((erf(x) - expected).abs() < 3e-7, "{x}: {}", erf(x));
        }
        assert!(exp(-1e9) >= f32::MIN_POSITIVE);
    }
}
