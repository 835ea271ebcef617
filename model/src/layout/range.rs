//! The values that a matrix's weights may take, and whether they do.

use super::{KR, NR, STEP, padded_k};

/// The values that a matrix's weights may take: what a kernel may rest on. Each range is
/// part of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WeightRange {
    /// Any 8-bit value.
    #[default]
    Full,
    /// -64 to 63. Two products with unsigned 8-bit codes then fit 16 bits
    /// (2 * 255 * 64 = 32,640), which is what AVX2's fastest multiplication needs.
    Narrow,
    /// -64 to 63, and the positive weights of each [group](group_of) add up to
    /// [`MAX_GROUP_SUM`] at most, its negative ones to no less than `-MAX_GROUP_SUM`. All six
    /// products of a group then fit 16 bits together.
    Grouped,
}

/// The largest sum of a group's weights of one sign: 255 * 128 = 32,640 fits 16 bits.
pub const MAX_GROUP_SUM: i16 = 128;

/// Consecutive steps of a panel whose products AVX2 adds up in 16 bits. A panel's last steps, where
/// fewer are left, are a group each.
pub const GROUP_STEPS: usize = 3;

/// The group of an input: its products are the ones that are added up in the same 16 bits.
/// Inputs 0, 1, 4, 5, 8 and 9 are group 0; 2, 3, 6, 7, 10 and 11 are group 1.
///
/// The inputs of last steps that are too few for [`GROUP_STEPS`] are one group here, which is no
/// looser.
pub const fn group_of(input: usize) -> usize {
    input / (GROUP_STEPS * KR) * 2 + input % KR / 2
}

impl WeightRange {
    /// The smallest and the largest weight.
    pub const fn bounds(self) -> [i8; 2] {
        match self {
            Self::Full => [i8::MIN, i8::MAX],
            Self::Narrow | Self::Grouped => [-64, 63],
        }
    }

    /// Whether every weight of a matrix of `k` inputs lies within the range; `panels` are its
    /// weights in panel order.
    pub fn holds(self, panels: &[i8], k: usize) -> bool {
        match self {
            Self::Full => true,
            Self::Narrow => are_narrow(panels),
            Self::Grouped => panels.chunks(NR * padded_k(k)).all(is_panel_grouped),
        }
    }
}

/// Whether every weight is between -64 and 63.
fn are_narrow(weights: &[i8]) -> bool {
    // Without an early exit within a block, so that the compiler makes vectors of it.
    let is_block_narrow = |block: &[i8]| {
        let within = block.iter().map(|w| (-64..64).contains(w));
        within.fold(true, |all, is_within| all & is_within)
    };
    weights.chunks(4096).all(is_block_narrow)
}

/// Whether a panel's weights are narrow, and those of either sign in each group add up to
/// [`MAX_GROUP_SUM`] at most.
fn is_panel_grouped(panel: &[i8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[allow(
            unsafe_code,
            reason = "the compiler does not know which processor this is"
        )]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::is_panel_grouped(panel) };
    }
    is_panel_grouped_plainly(panel)
}

fn is_panel_grouped_plainly(panel: &[i8]) -> bool {
    let is_bounded = |group: &[[i8; STEP]], pair: usize| {
        let weights = group.iter().flat_map(|step| &step[pair..pair + 2]);
        let (mut positive, mut negative) = (0, 0);
        for &weight in weights {
            positive += i16::from(weight.max(0));
            negative -= i16::from(weight.min(0));
        }
        positive.max(negative) <= MAX_GROUP_SUM
    };
    let steps = panel.as_chunks().0;
    are_narrow(panel)
        && steps
            .chunks(GROUP_STEPS)
            .all(|group| (0..STEP).step_by(2).all(|pair| is_bounded(group, pair)))
}

/// The same where kernels rest on it: a cold start reads all weights. Written with intrinsics
/// because the program of an image is optimized for size when it is linked, and the compiler makes
/// no vectors of a loop then.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{GROUP_STEPS, MAX_GROUP_SUM, STEP};
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256, _mm256_cmpgt_epi16,
        _mm256_max_epi8, _mm256_max_epi16, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
        _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srli_epi16, _mm256_sub_epi8,
    };

    #[target_feature(enable = "avx2")]
    pub(super) fn is_panel_grouped(panel: &[i8]) -> bool {
        const VECTORS: usize = STEP / size_of::<__m256i>();
        let zero = _mm256_setzero_si256();
        let first_of_pair = _mm256_set1_epi16(0xff);
        let (mut out_of_range, mut largest) = (zero, zero);
        for group in panel.as_chunks::<STEP>().0.chunks(GROUP_STEPS) {
            // Narrow weights of one sign add up to 192 at most in three steps: a byte.
            let mut sums = [[zero; 2]; VECTORS];
            for step in group {
                let vectors: [__m256i; VECTORS] = bytemuck::cast(*step);
                for ([positive, negative], weights) in sums.iter_mut().zip(vectors) {
                    // -64 to 63, and nothing else, becomes 0 to 127.
                    let moved = _mm256_add_epi8(weights, _mm256_set1_epi8(64));
                    out_of_range = _mm256_or_si256(out_of_range, moved);
                    let above = _mm256_max_epi8(weights, zero);
                    *positive = _mm256_add_epi8(*positive, above);
                    *negative = _mm256_add_epi8(*negative, _mm256_sub_epi8(above, weights));
                }
            }
            for of_either_sign in sums {
                let [positive, negative] = of_either_sign.map(|bytes| {
                    let first = _mm256_and_si256(bytes, first_of_pair);
                    _mm256_add_epi16(first, _mm256_srli_epi16::<8>(bytes))
                });
                largest = _mm256_max_epi16(largest, _mm256_max_epi16(positive, negative));
            }
        }
        let too_large = _mm256_cmpgt_epi16(largest, _mm256_set1_epi16(MAX_GROUP_SUM));
        _mm256_movemask_epi8(_mm256_or_si256(out_of_range, too_large)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack_panels;
    use super::*;
    use proptest::prelude::*;

    /// A matrix of zeros but for the given weights of one output channel.
    fn holds(range: WeightRange, n: usize, k: usize, weights: &[(usize, i8)]) -> bool {
        let mut rows = vec![0; n * k];
        for &(input, weight) in weights {
            rows[(n - 1) * k + input] = weight;
        }
        range.holds(&pack_panels(&rows, n, k), k)
    }

    #[test]
    fn a_range_holds_its_bounds_and_nothing_beyond() {
        for (n, k) in [(1, 1), (17, 64), (16, 130)] {
            for weight in i8::MIN..=i8::MAX {
                let alone = [(k - 1, weight)];
                assert!(holds(WeightRange::Full, n, k, &alone));
                for range in [WeightRange::Narrow, WeightRange::Grouped] {
                    let [low, high] = range.bounds();
                    let is_within = (low..=high).contains(&weight);
                    assert_eq!(
                        holds(range, n, k, &alone),
                        is_within,
                        "{weight} of {n} x {k}"
                    );
                }
            }
        }
    }

    #[test]
    fn groups_are_bounded_by_the_sums_of_either_sign() {
        // The first inputs of a group, and its last ones.
        for start in [0, 2, 12, 48] {
            let inputs: Vec<usize> = (start..64)
                .filter(|&i| group_of(i) == group_of(start))
                .collect();
            let grouped = |weights: &[i8]| {
                let weights: Vec<_> = inputs
                    .iter()
                    .copied()
                    .zip(weights.iter().copied())
                    .collect();
                assert!(holds(WeightRange::Narrow, 5, 64, &weights));
                holds(WeightRange::Grouped, 5, 64, &weights)
            };
            assert!(grouped(&[63, 63, 2, -64, -64]));
            assert!(!grouped(&[63, 63, 2, -64, -64, -1]));
            assert!(!grouped(&[63, 63, 3, -64]));
            assert!(grouped(&[21, 21, 21, 21, 22, 22]));
            assert!(!grouped(&[22, 21, 21, 21, 22, 22]));
            assert!(!grouped(&[63; 6]));
            assert!(!grouped(&[-64; 6]));
        }
        // Inputs of different groups: 8 is of the first, 12 of the third.
        assert!(holds(
            WeightRange::Grouped,
            1,
            64,
            &[(0, 63), (1, 63), (12, 63), (2, 63)]
        ));
        assert!(!holds(
            WeightRange::Grouped,
            1,
            64,
            &[(0, 63), (1, 63), (8, 63)]
        ));
    }

    proptest! {
        #[test]
        fn both_ways_to_check_groups_agree(
            steps in 1..9_usize,
            weights in prop::collection::vec(any::<i8>(), 9 * STEP),
            shift in 0..6,
        ) {
            let panel: Vec<i8> = weights[..steps * STEP].iter().map(|w| w >> shift).collect();
            prop_assert_eq!(is_panel_grouped(&panel), is_panel_grouped_plainly(&panel));
        }
    }
}
