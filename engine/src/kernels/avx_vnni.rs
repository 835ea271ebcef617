//! AVX-VNNI: `vpdpbusd` on 256 bits, for CPUs without AVX-512 (Alder Lake on).
//!
//! As in `avx512`, exact and without saturation; 128 operations a cycle. The tile
//! is 6 rows by one panel: 12 accumulators, 2 registers of weights and one
//! broadcast of activations, 15 of 16.

use super::avx2::{Avx2, I, store_codes};
use super::avx2_narrow::Avx2Narrow;
use super::gemm::Kernel;
use coldread_model::layout::GROUP_STEPS;
use std::arch::x86_64::*;

/// Proof that this CPU has AVX-VNNI, AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvxVnni(Avx2);

impl AvxVnni {
    pub(crate) fn new() -> Option<Self> {
        is_x86_feature_detected!("avxvnni")
            .then(Avx2::new)
            .flatten()
            .map(Self)
    }
}

impl From<AvxVnni> for Avx2Narrow<GROUP_STEPS> {
    fn from(AvxVnni(avx2): AvxVnni) -> Self {
        avx2.into()
    }
}

// SAFETY: `AvxVnni::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for AvxVnni {
    type S = Avx2;
    const MR: usize = 6;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn store_codes(self, q: [I; 4], out: &mut [u8]) {
        let out: &mut [u8; 64] = out.try_into().expect("64 codes");
        // SAFETY: an `AvxVnni` holds an `Avx2`.
        unsafe { store_codes(q, out) };
    }

    fn peak(self, rounds: u64) -> u64 {
        // SAFETY: an `AvxVnni` proves the instruction; registers only, all declared.
        unsafe {
            std::arch::asm!(
                "2:",
                "{{vex}} vpdpbusd ymm0, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm1, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm2, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm3, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm4, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm5, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm6, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm7, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm8, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm9, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm10, ymm14, ymm15",
                "{{vex}} vpdpbusd ymm11, ymm14, ymm15",
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
        // SAFETY: an `AvxVnni` exists only if `new` saw the feature; the caller
        // vouches for the pointers.
        unsafe { tile(a, a_stride, b, panel_bytes, steps) }
    }
}

/// # Safety
/// As `Kernel::tile`.
#[inline]
#[target_feature(enable = "avxvnni,avx2,fma")]
unsafe fn tile<const MR: usize, const NP: usize>(
    a: *const u8,
    a_stride: usize,
    b: *const i8,
    panel_bytes: usize,
    steps: usize,
) -> [[I; NP]; MR] {
    let mut acc = [[[_mm256_setzero_si256(); 2]; NP]; MR];
    for step in 0..steps {
        for p in 0..NP {
            // SAFETY: a step of a panel is 64 bytes within the weights.
            let w: [__m256i; 2] = unsafe {
                let w = b.add(p * panel_bytes + step * 64);
                [
                    _mm256_loadu_si256(w.cast()),
                    _mm256_loadu_si256(w.add(32).cast()),
                ]
            };
            for r in 0..MR {
                // SAFETY: a step is four codes of each of the caller's rows.
                let x = unsafe {
                    a.add(r * a_stride + step * 4)
                        .cast::<i32>()
                        .read_unaligned()
                };
                let x = _mm256_set1_epi32(x);
                let y = &mut acc[r][p];
                y[0] = _mm256_dpbusd_avx_epi32(y[0], x, w[0]);
                y[1] = _mm256_dpbusd_avx_epi32(y[1], x, w[1]);
            }
        }
    }
    acc
}
