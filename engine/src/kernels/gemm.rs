//! u8 activations by packed i8 weights, with the way back to f32 in the same
//! pass.
//!
//! A row of activations stands for `(code - zero_point) * scale`, a channel of
//! weights for `w * scale[channel]`, so that
//! `y = (sum(code * w) - zero_point * sum(w)) * scale * scale[channel] + bias`.
//! The sum is an exact i32 on every instruction set; from there on each step is
//! one IEEE operation: `fma(fma(-zero_point, col_sum, acc), scale * w_scale, bias)`.
//! The non-linearity that may follow is applied by the pass that quantises the product
//! again (`rowwise`): here its constants would push the tile's sums out of registers.
//!
//! Blocking: a few panels are the outer loop and rows the inner one, so that the
//! weights come once from beyond L2 and the panels at hand stay in L1 while all
//! rows pass. Rows are split evenly over the register tile's height (30 rows make
//! 8, 8, 7 and 7), each height being an instance of its own. `K` is not blocked:
//! the longest panels in sight (3 x 16 channels, K = 3072) are 147 kB.

use super::simd::{LANES, Simd};
use coldread_model::layout::{KR, Linear, NR, WeightRange, padded_k};
use std::ops::Range;

// A panel's channels are a vector's lanes.
const _: () = assert!(NR == LANES);

/// An instruction set's integer part.
///
/// # Safety
/// A value of the type must be proof that the CPU has the instructions that `tile`,
/// `store_codes` and the floats of `S` are made of, and `tile` must read no more than its
/// caller vouches for.
pub(crate) unsafe trait Kernel: Copy + Send + Sync + 'static {
    /// Its float part.
    type S: Simd;
    /// Rows of a full tile, 8 at most.
    const MR: usize;
    /// Panels of a full tile, 3 at most.
    const NP: usize;
    /// Bytes that a stored activation code takes.
    const CODE_BYTES: usize;
    /// Rows whose codes are interleaved in runs of [`CODE_RUN`]; 1 where a row's codes are
    /// contiguous. Only a `gemm` of the instruction set's own reads interleaved rows.
    const ROW_GROUP: usize = 1;
    /// Tiles of rows that share the fetching of one panel: each prefetches a line of 64 bytes in
    /// so many steps, from its own `next` on. A small tile alone is done before a panel has come
    /// from memory.
    const FETCHING_TILES: usize = 1;
    /// The weights that `tile` sums exactly.
    const RANGE: WeightRange = WeightRange::Full;

    fn simd(self) -> Self::S;

    /// Clamps 64 codes to 0..=255 and stores them the way the product reads them. Where rows are
    /// interleaved, `out` holds the other rows of the group as well, which stay as they are.
    fn store_codes(self, q: [<Self::S as Simd>::I; 4], out: &mut [u8]);

    /// `sum over k of code * weight` for `MR` rows and `NP` panels.
    ///
    /// # Safety
    /// `a` must be valid for `MR` rows, `a_stride` bytes apart, of `steps * KR`
    /// codes each, and `b` for `NP` panels, `panel_bytes` apart, of `steps` steps.
    /// `next`, where the caller goes on, is at most prefetched and may be anything.
    unsafe fn tile<const MR: usize, const NP: usize>(
        self,
        a: *const u8,
        a_stride: usize,
        b: *const i8,
        panel_bytes: usize,
        steps: usize,
        next: *const i8,
    ) -> [[<Self::S as Simd>::I; NP]; MR];

    /// What `tile` gives, as the sum over unsigned codes: where codes are stored
    /// less 128 (NEON), the panel's column sums bring it back.
    #[inline(always)]
    fn unsigned(
        self,
        acc: <Self::S as Simd>::I,
        _col_sums: <Self::S as Simd>::I,
    ) -> <Self::S as Simd>::I {
        acc
    }

    /// Runs `rounds` rounds of the dot product instruction on registers alone; gives
    /// the operations done. The yardstick of `bench`.
    fn peak(self, rounds: u64) -> u64;

    /// The whole product; AMX and i8mm have their own.
    #[inline(always)]
    fn gemm(self, task: &mut Gemm<'_>) {
        by_register_tiles(self, task);
    }
}

/// Consecutive codes of a row where rows are interleaved.
pub(crate) const CODE_RUN: usize = 8;

/// How a row of codes stands for floats.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowQuantization {
    /// The distance between neighbouring codes.
    pub scale: f32,
    /// The code of 0.0.
    pub zero_point: f32,
}

/// What happens to `x W^T + b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// It is stored.
    Store,
    /// It is added to what the output holds: the residual connection.
    Add,
}

/// One product, its lengths checked by `Kernels::linear`.
#[derive(Debug)]
pub(crate) struct Gemm<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) rows: &'a [RowQuantization],
    pub(crate) weights: Linear<'a>,
    /// The panels to compute; the first one's channels go to column 0.
    pub(crate) panels: Range<usize>,
    pub(crate) epilogue: Epilogue,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_stride: usize,
}

/// What dequantisation needs of one panel's channels.
struct Channels<K: Kernel> {
    /// Column sums, as they are and as floats.
    sums: (<K::S as Simd>::I, <K::S as Simd>::F),
    scales: <K::S as Simd>::F,
    bias: <K::S as Simd>::F,
    /// The panel's first column in the output.
    column: usize,
}

/// Dequantises accumulators of a tile into the output and applies the epilogue.
pub(crate) struct Finish<'t, 'a, K> {
    kernel: K,
    task: &'t mut Gemm<'a>,
}

impl<'t, 'a, K: Kernel> Finish<'t, 'a, K> {
    #[inline(always)]
    pub(crate) fn new(kernel: K, task: &'t mut Gemm<'a>) -> Self {
        Self { kernel, task }
    }

    #[inline(always)]
    fn channels(&self, panel: usize) -> Channels<K> {
        let s = self.kernel.simd();
        let w = &self.task.weights;
        let sums = s.load_i32(&w.col_sums.as_chunks::<LANES>().0[panel]);
        Channels {
            sums: (sums, s.to_f32(sums)),
            scales: s.load(&w.scales.as_chunks::<LANES>().0[panel]),
            bias: s.load(&w.bias.as_chunks::<LANES>().0[panel]),
            column: (panel - self.task.panels.start) * NR,
        }
    }

    /// `rows` of one panel, the sums of which `acc` gives.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    pub(crate) fn panel(
        &mut self,
        rows: Range<usize>,
        panel: usize,
        mut acc: impl FnMut(usize) -> <K::S as Simd>::I,
    ) {
        let s = self.kernel.simd();
        let channels = self.channels(panel);
        let add = self.task.epilogue == Epilogue::Add;
        for row in rows {
            let (y, out) = self.dequantize(row, &channels, acc(row));
            let y = if add { s.add(y, s.load(out)) } else { y };
            s.store(y, out);
        }
    }

    /// A register tile. Panels are told one by one and not in a loop, which the compiler
    /// would keep, and the sums in memory for it.
    #[inline(always)]
    fn tile<const ADD: bool, const MR: usize, const NP: usize>(
        &mut self,
        row: usize,
        panel: usize,
        acc: [[<K::S as Simd>::I; NP]; MR],
    ) {
        const { assert!(NP <= 3) };
        self.tile_panel::<ADD, MR, NP, 0>(row, panel, &acc);
        if NP > 1 {
            self.tile_panel::<ADD, MR, NP, 1>(row, panel, &acc);
        }
        if NP > 2 {
            self.tile_panel::<ADD, MR, NP, 2>(row, panel, &acc);
        }
    }

    #[inline(always)]
    fn tile_panel<const ADD: bool, const MR: usize, const NP: usize, const P: usize>(
        &mut self,
        row: usize,
        panel: usize,
        acc: &[[<K::S as Simd>::I; NP]; MR],
    ) {
        let s = self.kernel.simd();
        let channels = self.channels(panel + P);
        for r in 0..MR {
            let (y, out) = self.dequantize(row + r, &channels, acc[r][P]);
            let y = if ADD { s.add(y, s.load(out)) } else { y };
            s.store(y, out);
        }
    }

    #[inline(always)]
    fn dequantize(
        &mut self,
        row: usize,
        channels: &Channels<K>,
        acc: <K::S as Simd>::I,
    ) -> (<K::S as Simd>::F, &mut [f32; LANES]) {
        let kernel = self.kernel;
        let s = kernel.simd();
        let (quantization, out) = self.row(row, channels.column);
        let acc = kernel.unsigned(acc, channels.sums.0);
        let zero_point = s.splat(-quantization.zero_point);
        let y = s.fma(zero_point, channels.sums.1, s.to_f32(acc));
        let scale = s.mul(s.splat(quantization.scale), channels.scales);
        (s.fma(y, scale, channels.bias), out)
    }

    /// A row's quantization and sixteen columns of its output.
    #[inline(always)]
    fn row(&mut self, row: usize, column: usize) -> (RowQuantization, &mut [f32; LANES]) {
        let start = row * self.task.out_stride + column;
        debug_assert!(row < self.task.rows.len() && start + LANES <= self.task.out.len());
        // SAFETY: `Kernels::linear` checked that every row has a quantization and
        // that the output has all columns of all panels for it.
        unsafe {
            let out = self.task.out.as_mut_ptr().add(start).cast::<[f32; LANES]>();
            (*self.task.rows.get_unchecked(row), &mut *out)
        }
    }
}

/// The same pointer, of which the compiler no longer knows where it came from: it
/// can neither trade it for an index and a register more, nor see that what was
/// loaded through it before would still do.
#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::pointers_in_nomem_asm_block,
    reason = "there is no instruction in it that could read through the pointer"
)]
#[inline(always)]
pub(crate) fn opaque<T>(mut pointer: *const T) -> *const T {
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

#[inline(always)]
fn by_register_tiles<K: Kernel>(kernel: K, task: &mut Gemm<'_>) {
    let panels = task.panels.clone();
    let mut panel = panels.start;
    while panel < panels.end {
        let wide = K::NP > 1 && panels.end - panel >= K::NP;
        let width = if wide { K::NP } else { 1 };
        rows(kernel, task, panel..panel + width);
        panel += width;
    }
}

/// All rows by one tile's panels.
#[inline(always)]
fn rows<K: Kernel>(kernel: K, task: &mut Gemm<'_>, panels: Range<usize>) {
    let m = task.rows.len();
    let tiles = m.div_ceil(K::MR);
    let mut row = 0;
    for tile in 0..tiles {
        let height = (m - row).div_ceil(tiles - tile);
        let at = Place {
            tile,
            row,
            panel: panels.start,
        };
        match panels.len() {
            3 => by_height::<K, 3>(kernel, task, at, height),
            2 => by_height::<K, 2>(kernel, task, at, height),
            _ => by_height::<K, 1>(kernel, task, at, height),
        }
        row += height;
    }
}

/// Where a register tile is.
#[derive(Clone, Copy)]
struct Place {
    /// Tiles above it.
    tile: usize,
    /// Its first row and panel.
    row: usize,
    panel: usize,
}

#[inline(always)]
fn by_height<K: Kernel, const NP: usize>(kernel: K, task: &mut Gemm<'_>, at: Place, height: usize) {
    if NP > K::NP {
        return;
    }
    match height {
        1 => tile::<K, 1, NP>(kernel, task, at),
        2 => tile::<K, 2, NP>(kernel, task, at),
        3 => tile::<K, 3, NP>(kernel, task, at),
        4 => tile::<K, 4, NP>(kernel, task, at),
        5 => tile::<K, 5, NP>(kernel, task, at),
        6 => tile::<K, 6, NP>(kernel, task, at),
        7 => tile::<K, 7, NP>(kernel, task, at),
        _ => tile::<K, 8, NP>(kernel, task, at),
    }
}

#[inline(always)]
#[allow(unsafe_code, reason = "reads activations and weights through pointers")]
fn tile<K: Kernel, const MR: usize, const NP: usize>(kernel: K, task: &mut Gemm<'_>, at: Place) {
    if MR > K::MR {
        return;
    }
    let Place { tile, row, panel } = at;
    let k = padded_k(task.weights.k);
    let a_stride = k * K::CODE_BYTES;
    let panel_bytes = k * NR;
    let a = &task.codes[row * a_stride..(row + MR) * a_stride];
    let b = &task.weights.panels[panel * panel_bytes..(panel + NP) * panel_bytes];
    // While rows pass, the panels that come after these are fetched into L2, each tile
    // of rows a panel or a part of one; later tiles name what is in L1 already.
    let next = if tile < NP * K::FETCHING_TILES {
        let part = panel_bytes / K::FETCHING_TILES;
        b.as_ptr_range().end.wrapping_add(tile * part)
    } else {
        b.as_ptr()
    };
    // SAFETY: the two slices are exactly what `tile` reads; `next` is only fetched.
    let acc = unsafe {
        kernel.tile::<MR, NP>(a.as_ptr(), a_stride, b.as_ptr(), panel_bytes, k / KR, next)
    };
    let mut finish = Finish::new(kernel, task);
    if finish.task.epilogue == Epilogue::Add {
        finish.tile::<true, MR, NP>(row, panel, acc);
    } else {
        finish.tile::<false, MR, NP>(row, panel, acc);
    }
}
