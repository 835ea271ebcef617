//! AVX2 on weights of the narrow and the grouped range: `vpmaddubsw`.
//!
//! It multiplies 32 unsigned codes by 32 signed weights and adds neighbours in 16 bits,
//! with saturation. Narrow weights, from -64 to 63, keep the sums of two within
//! 2 * 255 * 64 = 32,640, so that none saturates; `vpmaddwd` by ones adds two such sums in 32 bits,
//! and `vpaddd` accumulates them: 64 operations for two multiplications, of which cores do two
//! a cycle. (Widening, as `avx2` does, takes twice as many, and six shifts a step.)
//!
//! Where weights are grouped, the products of two steps fit 16 bits together: `vpaddw` adds them
//! before they are widened, and 128 operations take three multiplications.
//!
//! The first rows that meet a panel fetch the next one into L2 meanwhile.
//!
//! The tile has one panel, and as many rows as registers allow beside weights, products and ones:
//! 6 if the sums of one step are widened, 5 if those of two are.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use super::avx2::{Avx2, I, store_codes};
use super::gemm::{Kernel, opaque};
use coldread_model::layout::WeightRange;
use std::arch::x86_64::*;

/// Proof that this CPU has AVX2 and FMA; `STEPS` are added up in 16 bits: 1 for narrow weights, 2
/// for grouped ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2Narrow<const STEPS: usize>(Avx2);

impl<const STEPS: usize> Avx2Narrow<STEPS> {
    pub(crate) fn new() -> Option<Self> {
        const { assert!(STEPS == 1 || STEPS == 2) };
        Avx2::new().map(Self)
    }
}

impl<const STEPS: usize> From<Avx2> for Avx2Narrow<STEPS> {
    fn from(avx2: Avx2) -> Self {
        Self(avx2)
    }
}

impl From<Avx2Narrow<1>> for Avx2Narrow<2> {
    fn from(Avx2Narrow(avx2): Avx2Narrow<1>) -> Self {
        Self(avx2)
    }
}

// SAFETY: `Avx2::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl<const STEPS: usize> Kernel for Avx2Narrow<STEPS> {
    type S = Avx2;
    const MR: usize = if STEPS == 1 { 6 } else { 5 };
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const RANGE: WeightRange = match STEPS {
        1 => WeightRange::Narrow,
        _ => WeightRange::Grouped,
    };

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn store_codes(self, q: [I; 4], out: &mut [u8]) {
        let out: &mut [u8; 64] = out.try_into().expect("64 codes");
        // SAFETY: an `Avx2Narrow` holds an `Avx2`.
        unsafe { store_codes(q, out) };
    }

    fn peak(self, rounds: u64) -> u64 {
        // The loop counts down to 0 from the first round's end.
        let rounds = rounds.max(1);
        // SAFETY: an `Avx2` proves the instructions.
        unsafe { peak::<STEPS>(rounds) };
        rounds * (Self::MR * 2 * STEPS * 64) as u64
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
    ) -> [[I; NP]; MR] {
        // SAFETY: the features as above; the caller vouches for the pointers.
        unsafe { tile::<STEPS, MR, NP>(a, a_stride, b, panel_bytes, steps, next) }
    }
}

/// A row's part of a tile's step: products, their sums in 16 bits, in 32, and in the accumulator.
macro_rules! one_step {
    ($acc:literal, $t:literal) => {
        concat!(
            "vpmaddubsw ",
            $t,
            ", ymm14, ymm15\n",
            "vpmaddwd ",
            $t,
            ", ",
            $t,
            ", ymm15\n",
            "vpaddd ",
            $acc,
            ", ",
            $acc,
            ", ",
            $t,
        )
    };
}

/// The same of two steps.
macro_rules! two_steps {
    ($acc:literal, $t:literal, $u:literal) => {
        concat!(
            "vpmaddubsw ",
            $t,
            ", ymm14, ymm15\n",
            "vpmaddubsw ",
            $u,
            ", ymm15, ymm14\n",
            "vpaddw ",
            $t,
            ", ",
            $t,
            ", ",
            $u,
            "\n",
            "vpmaddwd ",
            $t,
            ", ",
            $t,
            ", ymm15\n",
            "vpaddd ",
            $acc,
            ", ",
            $acc,
            ", ",
            $t,
        )
    };
}

/// `rounds` times what a full tile does for one panel, on registers alone.
#[target_feature(enable = "avx2,fma")]
fn peak<const STEPS: usize>(rounds: u64) {
    macro_rules! run {
        ($($line:expr,)*) => {
            // SAFETY: registers only, all declared.
            unsafe {
                std::arch::asm!(
                    "2:",
                    $($line,)*
                    "dec {rounds}",
                    "jnz 2b",
                    rounds = inout(reg) rounds => _,
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
                )
            }
        };
    }
    if STEPS == 1 {
        run!(
            one_step!("ymm0", "ymm12"),
            one_step!("ymm1", "ymm13"),
            one_step!("ymm2", "ymm12"),
            one_step!("ymm3", "ymm13"),
            one_step!("ymm4", "ymm12"),
            one_step!("ymm5", "ymm13"),
            one_step!("ymm6", "ymm12"),
            one_step!("ymm7", "ymm13"),
            one_step!("ymm8", "ymm12"),
            one_step!("ymm9", "ymm13"),
            one_step!("ymm10", "ymm12"),
            one_step!("ymm11", "ymm13"),
        );
    } else {
        run!(
            two_steps!("ymm0", "ymm10", "ymm11"),
            two_steps!("ymm1", "ymm12", "ymm13"),
            two_steps!("ymm2", "ymm10", "ymm11"),
            two_steps!("ymm3", "ymm12", "ymm13"),
            two_steps!("ymm4", "ymm10", "ymm11"),
            two_steps!("ymm5", "ymm12", "ymm13"),
            two_steps!("ymm6", "ymm10", "ymm11"),
            two_steps!("ymm7", "ymm12", "ymm13"),
            two_steps!("ymm8", "ymm10", "ymm11"),
            two_steps!("ymm9", "ymm12", "ymm13"),
        );
    }
}

/// # Safety
/// As `Kernel::tile`; `steps` is a multiple of `STEPS`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const STEPS: usize, const MR: usize, const NP: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    panel_bytes: usize,
    steps: usize,
    next: *const i8,
) -> [[I; NP]; MR] {
    let ones = _mm256_set1_epi16(1);
    let mut acc = [[[_mm256_setzero_si256(); 2]; NP]; MR];
    let mut rows = [0, 3].map(|r| a.wrapping_add(r * a_stride));
    for step in (0..steps).step_by(STEPS) {
        for s in 0..STEPS {
            _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add((step + s) * 64));
        }
        for p in 0..NP {
            for half in 0..2 {
                let weights = |s: usize| {
                    // SAFETY: a step of a panel is 64 bytes within the weights.
                    unsafe {
                        let w = b.add(p * panel_bytes + (step + s) * 64 + half * 32);
                        _mm256_loadu_si256(w.cast())
                    }
                };
                let (first, second) = (weights(0), weights(STEPS - 1));
                for r in 0..MR {
                    let codes = |s: usize| {
                        // SAFETY: a step is four codes of each of the caller's rows.
                        let x = unsafe {
                            let x = rows[r / 3].add(r % 3 * a_stride + s * 4);
                            x.cast::<i32>().read_unaligned()
                        };
                        _mm256_set1_epi32(x)
                    };
                    let mut sums = _mm256_maddubs_epi16(codes(0), first);
                    if STEPS == 2 {
                        let products = _mm256_maddubs_epi16(codes(1), second);
                        sums = _mm256_add_epi16(sums, products);
                    }
                    let y = &mut acc[r][p][half];
                    *y = _mm256_add_epi32(*y, _mm256_madd_epi16(sums, ones));
                }
                // Or else the compiler keeps the broadcasts for the other half and
                // spills accumulators for them; loading them again costs nothing.
                rows = rows.map(opaque);
            }
        }
        rows = rows.map(|row| row.wrapping_add(4 * STEPS));
    }
    acc
}
