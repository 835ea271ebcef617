//! AVX2 on weights of the narrow and the grouped range: `vpmaddubsw`.
//!
//! It multiplies 32 unsigned codes by 32 signed weights and adds neighbours in 16 bits,
//! with saturation. Narrow weights, from -64 to 63, keep the sums of two within
//! 2 * 255 * 64 = 32,640, so that none saturates; `vpmaddwd` by ones adds two such sums in 32 bits,
//! and `vpaddd` accumulates them: 64 operations for two multiplications, of which cores do two
//! a cycle. (Widening, as `avx2` does, takes twice as many, and six shifts a step.)
//!
//! Where weights are grouped, the products of three steps fit 16 bits together: `vpaddw` adds them
//! before they are widened, and 192 operations take four multiplications.
//!
//! The first tiles of rows that meet a panel fetch the next one into L2 meanwhile; of grouped weights
//! three tiles a third each, which makes products of 24 rows by weights in memory a tenth faster than one
//! tile that fetches it all.
//!
//! The tile is 4 rows by one panel. A broadcast of codes meets both halves of a step. Of a group's
//! weights only the first step's are kept in registers; the others are operands in memory, again
//! for each row. On Zen 3 that reaches 94% of what the instructions do on registers. A tile that
//! held all weights of half a step, and broadcast the codes once for each half, was at 86%: it ran
//! out of loads, of which there are two a cycle.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use super::avx2::{Avx2, I, store_codes};
use super::gemm::{Kernel, opaque};
use coldread_model::layout::{GROUP_STEPS, WeightRange};
use std::arch::x86_64::*;

/// Proof that this CPU has AVX2 and FMA; `STEPS` are added up in 16 bits: 1 for narrow weights,
/// [`GROUP_STEPS`] for grouped ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2Narrow<const STEPS: usize>(Avx2);

impl<const STEPS: usize> Avx2Narrow<STEPS> {
    pub(crate) fn new() -> Option<Self> {
        const { assert!(STEPS == 1 || STEPS == GROUP_STEPS) };
        Avx2::new().map(Self)
    }
}

impl<const STEPS: usize> From<Avx2> for Avx2Narrow<STEPS> {
    fn from(avx2: Avx2) -> Self {
        Self(avx2)
    }
}

impl From<Avx2Narrow<1>> for Avx2Narrow<GROUP_STEPS> {
    fn from(Avx2Narrow(avx2): Avx2Narrow<1>) -> Self {
        Self(avx2)
    }
}

// SAFETY: `Avx2::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl<const STEPS: usize> Kernel for Avx2Narrow<STEPS> {
    type S = Avx2;
    const MR: usize = 4;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const FETCHING_TILES: usize = STEPS;
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
        _panel_bytes: usize,
        steps: usize,
        next: *const i8,
    ) -> [[I; NP]; MR] {
        debug_assert!(NP == Self::NP);
        // SAFETY: the features as above; the caller vouches for the pointers.
        let acc = unsafe { tile::<STEPS, MR>(a, a_stride, b, steps, next) };
        acc.map(|acc| [acc; NP])
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

/// The products of one more step, added in 16 bits.
macro_rules! another_step {
    ($t:literal, $u:literal) => {
        concat!(
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
        )
    };
}

/// The same of three steps.
macro_rules! three_steps {
    ($acc:literal, $t:literal, $u:literal) => {
        concat!(
            "vpmaddubsw ",
            $t,
            ", ymm14, ymm15\n",
            another_step!($t, $u),
            another_step!($t, $u),
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
        );
    } else {
        run!(
            three_steps!("ymm0", "ymm10", "ymm11"),
            three_steps!("ymm1", "ymm12", "ymm13"),
            three_steps!("ymm2", "ymm10", "ymm11"),
            three_steps!("ymm3", "ymm12", "ymm13"),
            three_steps!("ymm4", "ymm10", "ymm11"),
            three_steps!("ymm5", "ymm12", "ymm13"),
            three_steps!("ymm6", "ymm10", "ymm11"),
            three_steps!("ymm7", "ymm12", "ymm13"),
        );
    }
}

/// # Safety
/// As `Kernel::tile`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const STEPS: usize, const MR: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    steps: usize,
    next: *const i8,
) -> [I; MR] {
    let mut tile = Tile {
        rows: [0, 3].map(|r| a.wrapping_add(r * a_stride)),
        stride: a_stride,
        weights: b,
        next,
        ones: _mm256_set1_epi16(1),
        acc: [[_mm256_setzero_si256(); 2]; MR],
    };
    // Or else the compiler loads it again and again.
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) tile.ones, options(pure, nomem, nostack));
    };
    for _ in 0..steps / STEPS {
        // SAFETY: the caller vouches for so many steps of rows and weights.
        unsafe { tile.add_group::<STEPS>() };
    }
    for _ in 0..steps % STEPS {
        // SAFETY: as above.
        unsafe { tile.add_group::<1>() };
    }
    tile.acc
}

/// Rows by a panel, at some step.
struct Tile<const MR: usize> {
    /// Rows 0 and 3: no address has three strides in it.
    rows: [*const u8; 2],
    stride: usize,
    weights: *const i8,
    /// What to prefetch meanwhile, a line a group.
    next: *const i8,
    ones: __m256i,
    acc: [I; MR],
}

impl<const MR: usize> Tile<MR> {
    /// Adds the products of the next `STEPS` steps.
    ///
    /// # Safety
    /// There are so many.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add_group<const STEPS: usize>(&mut self) {
        let load = |weights: *const i8, step: usize| {
            // SAFETY: a step of a panel is 64 bytes of weights.
            [0, 32].map(|half| unsafe { _mm256_loadu_si256(weights.add(step * 64 + half).cast()) })
        };
        _mm_prefetch::<_MM_HINT_T1>(self.next);
        let first = load(self.weights, 0);
        for r in 0..MR {
            let codes = |step: usize| {
                let x = self.rows[r / 3].wrapping_add(r % 3 * self.stride + step * 4);
                // SAFETY: a step is four codes of each row.
                _mm256_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
            };
            let x = codes(0);
            let mut sums = first.map(|w| _mm256_maddubs_epi16(x, w));
            for step in 1..STEPS {
                let (x, w) = (codes(step), load(self.weights, step));
                for half in 0..2 {
                    let products = _mm256_maddubs_epi16(x, w[half]);
                    sums[half] = _mm256_add_epi16(sums[half], products);
                }
            }
            for half in 0..2 {
                let y = &mut self.acc[r][half];
                *y = _mm256_add_epi32(*y, _mm256_madd_epi16(sums[half], self.ones));
            }
            // Or else the compiler loads the other steps' weights once for all rows, and spills
            // accumulators for them.
            self.weights = opaque(self.weights);
        }
        self.rows = self.rows.map(|row| opaque(row.wrapping_add(4 * STEPS)));
        self.weights = self.weights.wrapping_add(64 * STEPS);
        self.next = self.next.wrapping_add(64);
    }
}
