//! NEON with matrix products: `usmmla`, 2 x 8 unsigned by 8 x 2 signed bytes, added to four
//! lanes of i32.
//!
//! One instruction does twice the work of an `sdot`, and takes unsigned codes as they are. Its
//! operands are two rows of eight codes and two channels of eight weights. A step of a panel has
//! four inputs of each channel, so that zipping two steps makes two operands of weights; no
//! other arrangement of the packed file would be read faster by one instruction set without
//! being read slower by all others. Codes are ours to arrange: twelve rows stand together, eight
//! codes of each in turns, which is six operands in a row.
//!
//! The tile is 12 rows by half a panel: 24 accumulators, 4 registers of weights, one or two operands
//! of codes at a time, 30 of 32. What is zipped so serves six multiplications; where more than one
//! tile uses a panel, it is zipped once for all of them. Few rows take a whole panel at a time. A
//! single row, as of a single post's last layer, would leave half of each product unused: it takes
//! `sudot`, which comes with the same extension.
//!
//! Source: Arm Architecture Reference Manual for A-profile, USMMLA (vector), SUDOT (by element).

use super::gemm::{CODE_RUN, Finish, Gemm, Kernel};
use super::neon::{I, NeonDotprod, narrow};
use super::simd::{LANES, Simd};
use coldread_model::layout::{KR, NR, padded_k};
use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;
use std::mem::MaybeUninit;

/// Rows of a tile, whose codes stand together.
const ROWS: usize = 12;
/// Bytes of one step of a panel, and of as many codes of a tile's rows as a product takes.
const STEP_BYTES: usize = NR * KR;
const CODE_BYTES: usize = ROWS * CODE_RUN;

/// Proof that this CPU has NEON with the 8-bit matrix and dot product extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonI8mm(NeonDotprod);

impl NeonI8mm {
    pub(crate) fn new() -> Option<Self> {
        let floats = NeonDotprod::new()?;
        is_aarch64_feature_detected!("i8mm").then_some(Self(floats))
    }
}

/// The sums of a tile, by row and channel.
type Sums = [[i32; LANES]; ROWS];

/// The longest panel that is zipped once for all rows: what the stack and the first cache hold.
const ZIPPED_K: usize = 3072;
/// A panel as operands of products: of each run of inputs, two channels after two.
#[repr(C, align(64))]
struct Zipped([i8; NR * ZIPPED_K]);

// SAFETY: `NeonI8mm::new` saw the features.
unsafe impl Kernel for NeonI8mm {
    type S = NeonDotprod;
    const MR: usize = 1;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;
    const ROW_GROUP: usize = ROWS;

    #[inline(always)]
    fn simd(self) -> NeonDotprod {
        self.0
    }

    #[inline(always)]
    fn store_codes(self, q: [I; 4], out: &mut [u8]) {
        for (q, out) in q.into_iter().zip(out.chunks_mut(2 * CODE_BYTES)) {
            let codes = narrow(self.0, q);
            let (low, high) = out.split_at_mut(CODE_BYTES);
            // SAFETY: the features as above; both slices are checked to have eight bytes.
            unsafe {
                vst1_u8(low[..CODE_RUN].as_mut_ptr(), vget_low_u8(codes));
                vst1_u8(high[..CODE_RUN].as_mut_ptr(), vget_high_u8(codes));
            }
        }
    }

    fn peak(self, rounds: u64) -> u64 {
        // SAFETY: a `NeonI8mm` proves the instruction; registers only, all declared.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "2:",
                "usmmla v0.4s, v30.16b, v31.16b",
                "usmmla v1.4s, v30.16b, v31.16b",
                "usmmla v2.4s, v30.16b, v31.16b",
                "usmmla v3.4s, v30.16b, v31.16b",
                "usmmla v4.4s, v30.16b, v31.16b",
                "usmmla v5.4s, v30.16b, v31.16b",
                "usmmla v6.4s, v30.16b, v31.16b",
                "usmmla v7.4s, v30.16b, v31.16b",
                "usmmla v8.4s, v30.16b, v31.16b",
                "usmmla v9.4s, v30.16b, v31.16b",
                "usmmla v10.4s, v30.16b, v31.16b",
                "usmmla v11.4s, v30.16b, v31.16b",
                "usmmla v12.4s, v30.16b, v31.16b",
                "usmmla v13.4s, v30.16b, v31.16b",
                "usmmla v14.4s, v30.16b, v31.16b",
                "usmmla v15.4s, v30.16b, v31.16b",
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
        rounds.max(1) * 16 * 64
    }

    /// Never called: the whole product is our own.
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        _a: *const u8,
        _a_stride: usize,
        _b: *const i8,
        _panel_bytes: usize,
        _steps: usize,
        _next: *const i8,
    ) -> [[I; NP]; MR] {
        unreachable!("rows of codes stand together")
    }

    #[inline(always)]
    fn gemm(self, task: &mut Gemm<'_>) {
        let m = task.rows.len();
        let k = padded_k(task.weights.k);
        let mut sums = [[0; LANES]; ROWS];
        let mut zipped = MaybeUninit::<Zipped>::uninit();
        let zips = m > ROWS && k <= ZIPPED_K;
        for panel in task.panels.clone() {
            let b = &task.weights.panels[panel * NR * k..(panel + 1) * NR * k];
            if zips {
                // SAFETY: a `NeonI8mm` proves the features; a panel has `NR * k` weights, and
                // `zipped` room for `NR * ZIPPED_K`.
                unsafe { zip(b.as_ptr(), k, zipped.as_mut_ptr().cast()) };
            }
            for row in (0..m).step_by(ROWS) {
                let a = task.codes[row * k..(row + ROWS) * k].as_ptr();
                let rows = row..m.min(row + ROWS);
                // SAFETY: a `NeonI8mm` proves the features; `a` is a tile's rows of `k` codes, and
                // the other pointer a panel of as many weights, as they are or zipped above; `k`
                // is a multiple of 64.
                unsafe {
                    if zips {
                        let b = zipped.as_ptr().cast();
                        products::<true>(a, b, k, rows.len(), &mut sums);
                    } else {
                        products::<false>(a, b.as_ptr(), k, rows.len(), &mut sums);
                    }
                }
                Finish::new(self, task).panel(
                    rows,
                    panel,
                    #[inline(always)]
                    |i| self.0.load_i32(&sums[i - row]),
                );
            }
        }
    }
}

/// `acc += x w`, two rows of codes by two channels of weights.
macro_rules! usmmla {
    ($acc:expr, $x:expr, $w:expr) => {
        // SAFETY: the caller has the matrix extension; registers only.
        unsafe {
            asm!(
                "usmmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) $acc,
                in(vreg) $x,
                in(vreg) $w,
                options(pure, nomem, nostack, preserves_flags),
            )
        }
    };
}

/// `acc += w . x[LANE]` for four channels.
macro_rules! sudot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        // SAFETY: the caller has the matrix extension; registers only.
        unsafe {
            asm!(
                concat!("sudot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
                inout(vreg) $acc,
                in(vreg) $w,
                in(vreg) $x,
                options(pure, nomem, nostack, preserves_flags),
            )
        }
    };
}

/// Writes a panel as [`Zipped`].
///
/// # Safety
/// `b` must be valid for a panel of `k` inputs and `out` for as many bytes; `k` is a multiple of
/// [`CODE_RUN`].
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn zip(b: *const i8, k: usize, out: *mut i8) {
    for run in (0..NR * k).step_by(2 * STEP_BYTES) {
        for quad in 0..4 {
            // SAFETY: a run of the caller's panel, and as many bytes of `out`. The store takes
            // words from both registers in turns, which is what zipping is.
            unsafe {
                let steps = two_steps(b.add(run + quad * 16));
                vst2q_s32(
                    out.add(run + quad * 32).cast(),
                    int32x4x2_t(steps[0], steps[1]),
                );
            }
        }
    }
}

/// Four channels' weights of a run: two steps of the panel.
///
/// # Safety
/// `b` must be valid for two steps from those channels on.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn two_steps(b: *const i8) -> [int32x4_t; 2] {
    // SAFETY: as the caller promises.
    unsafe { [vld1q_s32(b.cast()), vld1q_s32(b.add(STEP_BYTES).cast())] }
}

/// The sums of `rows` rows by one panel.
///
/// # Safety
/// `a` must be valid for a group of [`ROWS`] rows of `k` codes, `b` for a panel of `k` inputs, as
/// packed or `ZIPPED`; `k` is a multiple of twice [`CODE_RUN`].
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn products<const ZIPPED: bool>(
    a: *const u8,
    b: *const i8,
    k: usize,
    rows: usize,
    sums: &mut Sums,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match rows {
            1 if !ZIPPED => single_row(a, b, k, &mut sums[0]),
            1 | 2 => tile::<ZIPPED, 1, 4, 0>(a, b, k, sums),
            3 | 4 => tile::<ZIPPED, 2, 4, 0>(a, b, k, sums),
            // While weights are zipped, as many accumulators would not fit the registers.
            5 | 6 if ZIPPED => tile::<ZIPPED, 3, 4, 0>(a, b, k, sums),
            5 | 6 => halves::<ZIPPED, 3>(a, b, k, sums),
            7 | 8 => halves::<ZIPPED, 4>(a, b, k, sums),
            9 | 10 => halves::<ZIPPED, 5>(a, b, k, sums),
            _ => halves::<ZIPPED, 6>(a, b, k, sums),
        }
    }
}

/// # Safety
/// As `products`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn halves<const ZIPPED: bool, const PAIRS: usize>(
    a: *const u8,
    b: *const i8,
    k: usize,
    sums: &mut Sums,
) {
    // SAFETY: as the caller promises.
    unsafe {
        tile::<ZIPPED, PAIRS, 2, 0>(a, b, k, sums);
        tile::<ZIPPED, PAIRS, 2, 2>(a, b, k, sums);
    }
}

/// `PAIRS` pairs of rows by `QUADS` times four channels, of which the first is the panel's
/// `QUAD`-th.
///
/// # Safety
/// As `products`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const ZIPPED: bool, const PAIRS: usize, const QUADS: usize, const QUAD: usize>(
    a: *const u8,
    b: *const i8,
    k: usize,
    sums: &mut Sums,
) {
    let mut acc = [[[vdupq_n_s32(0); 2]; QUADS]; PAIRS];
    // Two runs at once save the loop's own instructions, but while weights are zipped there are no
    // registers left for it.
    let at_once = if ZIPPED { 2 } else { 1 };
    for first in (0..k / CODE_RUN).step_by(at_once) {
        for run in first..first + at_once {
            // SAFETY: a run of two of the caller's rows.
            let codes = |p| unsafe { vld1q_u8(a.add(run * CODE_BYTES + p * 2 * CODE_RUN)) };
            let weights = |q| {
                // SAFETY: a run is two steps of the caller's panel, zipped or not.
                unsafe {
                    let b = b.add(run * 2 * STEP_BYTES);
                    if ZIPPED {
                        let b = b.add((QUAD + q) * 32);
                        [vld1q_s32(b.cast()), vld1q_s32(b.add(16).cast())]
                    } else {
                        let [first, second] = two_steps(b.add((QUAD + q) * 16));
                        [vzip1q_s32(first, second), vzip2q_s32(first, second)]
                    }
                }
            };
            // What is fewer stays in registers.
            if PAIRS < QUADS {
                let mut x = [vdupq_n_u8(0); PAIRS];
                for p in 0..PAIRS {
                    x[p] = codes(p);
                }
                for q in 0..QUADS {
                    let w = weights(q);
                    for p in 0..PAIRS {
                        usmmla!(acc[p][q][0], x[p], w[0]);
                        usmmla!(acc[p][q][1], x[p], w[1]);
                    }
                }
            } else {
                let mut w = [[vdupq_n_s32(0); 2]; QUADS];
                for q in 0..QUADS {
                    w[q] = weights(q);
                }
                for p in 0..PAIRS {
                    let x = codes(p);
                    for q in 0..QUADS {
                        usmmla!(acc[p][q][0], x, w[q][0]);
                        usmmla!(acc[p][q][1], x, w[q][1]);
                    }
                }
            }
        }
    }
    for p in 0..PAIRS {
        for q in 0..QUADS {
            let [low, high] = acc[p][q].map(|v| vreinterpretq_s64_s32(v));
            let rows = [vzip1q_s64(low, high), vzip2q_s64(low, high)];
            for r in 0..2 {
                let out = &mut sums[2 * p + r].as_chunks_mut::<4>().0[QUAD + q];
                // SAFETY: four sums.
                unsafe { vst1q_s32(out.as_mut_ptr(), vreinterpretq_s32_s64(rows[r])) };
            }
        }
    }
}

/// The first row of a group.
///
/// # Safety
/// As `products`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn single_row(a: *const u8, b: *const i8, k: usize, sums: &mut [i32; LANES]) {
    // Sums over even and over odd steps, so that eight chains run side by side.
    let mut acc = [[vdupq_n_s32(0); 4]; 2];
    for run in 0..k / CODE_RUN {
        // SAFETY: a run of the caller's row.
        let x = unsafe { vld1_u8(a.add(run * CODE_BYTES)) };
        for q in 0..4 {
            // SAFETY: a run is two steps of the caller's panel.
            let w = unsafe {
                let b = b.add(run * 2 * STEP_BYTES + q * 4 * KR);
                [vld1q_s8(b), vld1q_s8(b.add(STEP_BYTES))]
            };
            sudot!(acc[0][q], w[0], x, 0);
            sudot!(acc[1][q], w[1], x, 1);
        }
    }
    for (q, out) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let sum = vaddq_s32(acc[0][q], acc[1][q]);
        // SAFETY: four sums.
        unsafe { vst1q_s32(out.as_mut_ptr(), sum) };
    }
}
