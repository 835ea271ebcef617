//! AVX2 on weights of the narrow range: `vpmaddubsw`.
//!
//! It multiplies 32 unsigned codes by 32 signed weights and adds neighbours in 16 bits,
//! with saturation. Weights from -64 to 63 keep the sums of two within 2 * 255 * 64 = 32,640, so
//! that none saturates; `vpmaddwd` by ones adds two such sums in 32 bits, and `vpaddd`
//! accumulates them: 64 operations for two multiplications, of which cores do two a cycle.
//! (Widening, as `avx2` does, takes twice as many, and six shifts a step.)
//!
//! The tile is 6 rows by one panel: 12 accumulators, and one register each for weights, codes,
//! products and ones.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use super::avx2::{Avx2, I, store_codes};
use super::gemm::{Kernel, opaque};
use coldread_model::layout::WeightRange;
use std::arch::x86_64::*;

/// Proof that this CPU has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2Narrow(Avx2);

impl Avx2Narrow {
    pub(crate) fn new() -> Option<Self> {
        Avx2::new().map(Self)
    }
}

// SAFETY: `Avx2::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for Avx2Narrow {
    type S = Avx2;
    const MR: usize = 6;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const RANGE: WeightRange = WeightRange::Narrow;

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
        // SAFETY: an `Avx2` proves the instructions; registers only, all declared.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm0, ymm0, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
                "vpaddd ymm1, ymm1, ymm13",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm2, ymm2, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
                "vpaddd ymm3, ymm3, ymm13",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm4, ymm4, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
                "vpaddd ymm5, ymm5, ymm13",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm6, ymm6, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
                "vpaddd ymm7, ymm7, ymm13",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm8, ymm8, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
                "vpaddd ymm9, ymm9, ymm13",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm15",
                "vpaddd ymm10, ymm10, ymm12",
                "vpmaddubsw ymm13, ymm14, ymm15",
                "vpmaddwd ymm13, ymm13, ymm15",
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
        rounds.max(1) * 12 * 64
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
    let ones = _mm256_set1_epi16(1);
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
                for r in 0..MR {
                    // SAFETY: a step is four codes of each of the caller's rows.
                    let x = unsafe {
                        let x = rows[r / 3].add(r % 3 * a_stride);
                        x.cast::<i32>().read_unaligned()
                    };
                    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi32(x), w);
                    let y = &mut acc[r][p][half];
                    *y = _mm256_add_epi32(*y, _mm256_madd_epi16(pairs, ones));
                }
                // Or else the compiler keeps the broadcasts for the other half and
                // spills accumulators for them; loading them again costs nothing.
                rows = rows.map(opaque);
            }
        }
        rows = rows.map(|row| row.wrapping_add(4));
    }
    acc
}
