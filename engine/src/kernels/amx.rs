//! AMX: `tdpbusd` on tiles of 16 rows by 64 bytes.
//!
//! One instruction multiplies 16 rows of 64 unsigned codes by 16 channels of 64
//! signed weights and adds to 16 x 16 i32, exactly and without saturation: 32,768
//! operations in 16 cycles, eight times as many as `vpdpbusd`. Sixteen steps of a
//! panel are such a tile of weights as they lie in memory, and rows of codes are
//! one as well, so that nothing is rearranged. Floats run on AVX-512.
//!
//! Two tiles of rows by two panels are computed together: 4 accumulators, 2 tiles of
//! codes, 2 of weights, all eight registers; a step loads 4 tiles (32 cycles of
//! load ports) for 4 products (64 cycles). Rows are split evenly over tiles, as a
//! product takes as many cycles as its tile has rows; the last tile overlaps its
//! neighbour where they do not divide, and the finish skips what it has seen.
//!
//! The tile instructions are not stable as intrinsics, hence `asm!`. Linux gives
//! a process the tile registers on request only (`arch_prctl`); a thread's
//! tile configuration is loaded before each product and released after it, so
//! that context switches of other work do not carry 8 kB of state.
//!
//! No machine of the project's CI has AMX: the parity tests cover this code only where they are run
//! on one that has. Naming another instruction set (`--isa avx512-vnni`) leaves it out.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
//! chapter 18; Linux, Documentation/arch/x86/xstate.rst.

use super::avx512::Avx512;
use super::gemm::{Finish, Gemm, Kernel};
use super::simd::{LANES, Simd};
use coldread_model::layout::{NR, padded_k};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, __m512i, _MM_HINT_T1, _mm_prefetch};

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Codes of one tile's row.
const TILE_K: usize = 64;
/// Bytes of a tile of weights.
const TILE_BYTES: usize = 1024;

/// Proof that this CPU has AMX with int8, that the system lets this process use
/// it, and of AVX-512.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmxInt8(Avx512);

impl AmxInt8 {
    pub(crate) fn new() -> Option<Self> {
        let floats = Avx512::new()?;
        (has_amx_int8() && request_tiles()).then_some(Self(floats))
    }
}

impl From<AmxInt8> for Avx512 {
    fn from(AmxInt8(floats): AmxInt8) -> Self {
        floats
    }
}

/// Whether the CPU has AMX-TILE and AMX-INT8 and the system saves their state.
fn has_amx_int8() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const XCR0_TILES: u32 = 1 << 17 | 1 << 18;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    if __cpuid_count(7, 0).edx & TILE_AND_INT8 != TILE_AND_INT8 {
        return false;
    }
    let xcr0: u32;
    // SAFETY: OSXSAVE, checked above, says that `xgetbv` may be used.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") xcr0, out("edx") _, options(nomem, nostack));
    }
    xcr0 & XCR0_TILES == XCR0_TILES
}

/// Asks Linux for the tile registers; once a process, threads inherit it.
#[cfg(target_os = "linux")]
fn request_tiles() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: `arch_prctl(ARCH_REQ_XCOMP_PERM)` touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL as i64 => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_tiles() -> bool {
    false
}

/// `ldtilecfg`'s operand: palette 1, then bytes a row and rows of each tile.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The tiles of this thread, configured; released when dropped.
struct Tiles(());

impl Tiles {
    /// Accumulators 0 to 3 and codes 4 and 5 have `rows` rows, weights (6, 7) have 16.
    fn configure(_: AmxInt8, rows: usize) -> Self {
        debug_assert!((1..=TILE_ROWS).contains(&rows));
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes[..8].fill(64);
        config.rows[..6].fill(rows as u8);
        config.rows[6..8].fill(TILE_ROWS as u8);
        // SAFETY: an `AmxInt8` proves the instruction and the permission; the
        // operand is a valid configuration of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only after `ldtilecfg`.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Accumulators of two tiles of rows by two panels, as stored.
#[repr(C, align(64))]
struct Block([[[i32; LANES]; TILE_ROWS]; 4]);

// SAFETY: `AmxInt8::new` saw the features; `tile` reads rows, panels and steps as told.
unsafe impl Kernel for AmxInt8 {
    type S = Avx512;
    const MR: usize = 1;
    const NP: usize = 1;
    const CODE_BYTES: usize = 1;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn store_codes(self, q: [__m512i; 4], out: &mut [u8]) {
        self.0.store_codes(q, out);
    }

    fn peak(self, rounds: u64) -> u64 {
        let configured = Tiles::configure(self, TILE_ROWS);
        // SAFETY: tiles are configured; registers only, all declared.
        unsafe {
            std::arch::asm!(
                "2:",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm6",
                "tdpbusd tmm2, tmm4, tmm6",
                "tdpbusd tmm3, tmm4, tmm6",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds.max(1) => _,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                options(nomem, nostack),
            );
        }
        drop(configured);
        rounds.max(1) * 4 * 32_768
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
    ) -> [[__m512i; NP]; MR] {
        // SAFETY: as the caller promises.
        unsafe { self.0.tile(a, a_stride, b, panel_bytes, steps, next) }
    }

    #[inline(always)]
    fn gemm(self, task: &mut Gemm<'_>) {
        let m = task.rows.len();
        let tiles = m.div_ceil(TILE_ROWS);
        let height = m.div_ceil(tiles);
        let k = padded_k(task.weights.k);
        // What the pointers below may reach.
        assert!(task.codes.len() >= m * k && task.weights.panels.len() >= task.panels.end * NR * k);
        let configured = Tiles::configure(self, height);
        let mut block = Block([[[0; LANES]; TILE_ROWS]; 4]);
        let panels = task.panels.clone();
        for panel in panels.clone().step_by(2) {
            let wide = panel + 1 < panels.end;
            let mut done = 0;
            for tile in (0..tiles).step_by(2) {
                let start = |tile: usize| (tile * height).min(m - height);
                let starts = [start(tile), start(tile + 1)];
                let tall = tile + 1 < tiles;
                // SAFETY: both starts leave `height` rows of codes, and the panels
                // exist, within the slices asserted above.
                unsafe {
                    let a = task.codes.as_ptr();
                    let a = [a.add(starts[0] * k), a.add(starts[1] * k)];
                    let b = task.weights.panels.as_ptr().add(panel * NR * k);
                    match (tall, wide) {
                        (true, true) => two_by_two(a, b, k, &mut block),
                        (false, true) => one_by_two(a[0], b, k, &mut block),
                        (true, false) => {
                            one_by_one(a[0], b, k, &mut block.0[0]);
                            one_by_one(a[1], b, k, &mut block.0[2]);
                        }
                        (false, false) => one_by_one(a[0], b, k, &mut block.0[0]),
                    }
                }
                let width = 1 + usize::from(wide);
                let mut ahead = if tile == 0 {
                    let calls = (starts[usize::from(tall)] + height) * width;
                    Ahead::new(
                        task.weights.panels,
                        (panel + width) * NR * k,
                        2 * NR * k,
                        calls,
                    )
                } else {
                    Ahead::default()
                };
                let mut finish = Finish::new(self, task);
                for (half, &start) in starts.iter().enumerate().take(1 + usize::from(tall)) {
                    for p in 0..width {
                        let tile = &block.0[half * 2 + p];
                        finish.panel(
                            done..start + height,
                            panel + p,
                            #[inline(always)]
                            |row| {
                                ahead.fetch();
                                self.0.load_i32(&tile[row - start])
                            },
                        );
                    }
                    done = start + height;
                }
            }
        }
        drop(configured);
    }
}

/// The next panels' cache lines, fetched a few at a time between other work: the
/// finish of a tile leaves memory idle, and a tile's load would wait for it.
#[derive(Default)]
struct Ahead<'a> {
    lines: &'a [[i8; 64]],
    at_once: usize,
}

impl<'a> Ahead<'a> {
    /// `bytes` of `weights` from `start` on, as far as there are any, in `calls` calls.
    fn new(weights: &'a [i8], start: usize, bytes: usize, calls: usize) -> Self {
        let end = weights.len().min(start + bytes);
        let lines = weights.get(start..end).unwrap_or(&[]).as_chunks().0;
        Self {
            lines,
            at_once: lines.len().div_ceil(calls),
        }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        let (now, later) = self.lines.split_at(self.at_once.min(self.lines.len()));
        for line in now {
            // SAFETY: a prefetch reads nothing into the program.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr()) };
        }
        self.lines = later;
    }
}

/// Two tiles of rows by two panels.
///
/// # Safety
/// Tiles must be configured; `a` must be valid for as many rows of `k` codes as
/// configured, `b` for two panels.
#[inline(always)]
unsafe fn two_by_two(a: [*const u8; 2], b: *const i8, k: usize, out: &mut Block) {
    // SAFETY: reads what the caller vouches for, writes at most the four tiles of
    // `out`; the tile registers are declared.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a0} + {k}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm7, [{b1} + {row}]",
            "tileloadd tmm5, [{a1} + {k}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {a0}, 64",
            "add {a1}, 64",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 1024], tmm1",
            "tilestored [{out} + {row} + 2048], tmm2",
            "tilestored [{out} + {row} + 3072], tmm3",
            a0 = inout(reg) a[0] => _,
            a1 = inout(reg) a[1] => _,
            b0 = inout(reg) b => _,
            b1 = inout(reg) b.add(k * NR) => _,
            k = in(reg) k,
            row = in(reg) 64usize,
            steps = inout(reg) k / TILE_K => _,
            out = in(reg) out.0.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows by two panels.
///
/// # Safety
/// As `two_by_two`.
#[inline(always)]
unsafe fn one_by_two(a: *const u8, b: *const i8, k: usize, out: &mut Block) {
    // SAFETY: as in `two_by_two`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{a0} + {k}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm7, [{b1} + {row}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {a0}, 64",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 1024], tmm1",
            a0 = inout(reg) a => _,
            b0 = inout(reg) b => _,
            b1 = inout(reg) b.add(k * NR) => _,
            k = in(reg) k,
            row = in(reg) 64usize,
            steps = inout(reg) k / TILE_K => _,
            out = in(reg) out.0.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows by one panel.
///
/// # Safety
/// As `two_by_two`, with one panel.
#[inline(always)]
unsafe fn one_by_one(a: *const u8, b: *const i8, k: usize, out: &mut [[i32; LANES]; TILE_ROWS]) {
    const { assert!(TILE_BYTES == TILE_ROWS * LANES * 4) };
    // SAFETY: as in `two_by_two`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "2:",
            "tileloadd tmm4, [{a0} + {k}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "add {a0}, 64",
            "add {b0}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            a0 = inout(reg) a => _,
            b0 = inout(reg) b => _,
            k = in(reg) k,
            row = in(reg) 64usize,
            steps = inout(reg) k / TILE_K => _,
            out = in(reg) out.as_mut_ptr(),
            out("tmm0") _, out("tmm4") _, out("tmm6") _,
            options(nostack),
        );
    }
}
