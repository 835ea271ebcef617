//! Every instruction set that this CPU has against the scalar specification, bit for
//! bit, and the elementary functions against f64.

mod math;
mod parity;

use super::{AlignedVec, Isa, Kernels, Number};
use coldread_model::layout::WeightRange;

pub(super) const RANGES: [WeightRange; 3] =
    [WeightRange::Full, WeightRange::Narrow, WeightRange::Grouped];

/// The specification.
pub(super) fn scalar_kernels() -> Kernels {
    Kernels::new(Isa::Scalar).expect("always there")
}

/// Every other kernel of this CPU: an instruction set's for each range of weights, where those
/// differ.
pub(super) fn vector_kernels() -> Vec<Kernels> {
    let vectors = Isa::available()
        .into_iter()
        .filter(|&isa| isa != Isa::Scalar);
    let found = vectors
        .flat_map(|isa| {
            let all = Kernels::new(isa).expect("available");
            RANGES
                .map(|range| (range, all.for_weights(range)))
                .into_iter()
                .filter(|(range, kernels)| kernels.weight_range() == *range)
        })
        .map(|(_, kernels)| kernels);
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    let found = found.chain(super::ops::passed_over().map(|ops| Kernels { ops }));
    found.collect()
}

pub(super) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub(super) fn aligned<T: Number>(values: &[T], len: usize) -> AlignedVec<T> {
    let mut v = AlignedVec::new(len);
    v[..values.len()].copy_from_slice(values);
    v
}

/// Numbers in a fixed pseudo-random order.
pub(super) struct Random(pub(super) u32);

impl Random {
    pub(super) fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }

    /// Between -4 and 4.
    pub(super) fn float(&mut self) -> f32 {
        let high = f32::from(self.byte());
        (high + f32::from(self.byte()) / 256.0) / 32.0 - 4.0
    }
}

#[test]
fn names_are_read_back() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
    }
    let error = "avx9".parse::<Isa>().expect_err("no such thing");
    assert!(error.to_string().contains("avx2"), "{error}");
}

#[test]
fn an_instruction_set_of_another_cpu_is_refused_with_what_there_is() {
    let foreign = if cfg!(target_arch = "x86_64") {
        Isa::NeonDotprod
    } else {
        Isa::Avx2
    };
    let error = Kernels::new(foreign).expect_err("not here");
    assert!(error.to_string().contains("scalar"), "{error}");
}

/// What a run is to cover, where it says so: an emulator's tests, whose CPU is chosen by name, fail
/// here and not silently cover less.
#[test]
fn every_instruction_set_that_the_run_expects_is_there() {
    let Ok(expected) = std::env::var("COLDREAD_TEST_ISAS") else {
        return;
    };
    let mut compared = vec![scalar_kernels().isa().name()];
    compared.extend(
        vector_kernels()
            .into_iter()
            .map(|kernels| kernels.isa().name()),
    );
    compared.dedup();
    assert_eq!(compared.join(" "), expected);
}

/// What the system reports, found independently of `Isa::available`: a kernel that
/// silently does not run fails here.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn every_instruction_set_that_the_system_reports_runs() {
    let info = std::fs::read_to_string("/proc/cpuinfo").expect("cpuinfo");
    let flags = info
        .lines()
        .find(|line| line.starts_with("flags"))
        .expect("flags");
    let has = |wanted: &[&str]| {
        wanted
            .iter()
            .all(|w| flags.split(' ').any(|flag| flag == *w))
    };
    for (isa, wanted) in [
        (Isa::Avx2, &["avx2", "fma"][..]),
        (Isa::AvxVnni, &["avx_vnni"]),
        (
            Isa::Avx512Vnni,
            &["avx512f", "avx512bw", "avx512vl", "avx512_vnni"],
        ),
        (Isa::AmxInt8, &["amx_tile", "amx_int8", "avx512_vnni"]),
    ] {
        assert_eq!(Kernels::new(isa).is_ok(), has(wanted), "{isa}");
    }
}

#[test]
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
fn every_instruction_set_that_the_system_reports_runs() {
    // Pairs of a key and a value: AT_HWCAP and AT_HWCAP2 of Linux's auxiliary vector.
    let auxv = std::fs::read("/proc/self/auxv").expect("auxv");
    let (words, _) = auxv.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|&word| u64::from_ne_bytes(word)).collect();
    let has = |key: u64, bit: u32| {
        let (pairs, _) = words.as_chunks::<2>();
        pairs
            .iter()
            .any(|&[k, value]| k == key && value >> bit & 1 == 1)
    };
    let (dotprod, i8mm) = (has(16, 20), has(26, 13));
    assert_eq!(Kernels::new(Isa::NeonDotprod).is_ok(), dotprod);
    assert_eq!(Kernels::new(Isa::NeonI8mm).is_ok(), dotprod && i8mm);
}

/// Kernels for a range take the weights of the ranges within it; the other way round sums would
/// saturate.
#[test]
fn some_instruction_sets_have_kernels_for_narrow_and_grouped_weights_alone() {
    for isa in Isa::available() {
        let kernels = Kernels::new(isa).expect("available");
        let found = RANGES.map(|range| kernels.for_weights(range).weight_range());
        let expected = match isa {
            Isa::Avx2 => RANGES,
            Isa::WasmSimd128 if cfg!(target_feature = "relaxed-simd") => {
                [RANGES[0], RANGES[1], RANGES[1]]
            }
            _ => [WeightRange::Full; 3],
        };
        assert_eq!(found, expected, "{isa}");
        let full = kernels
            .for_weights(WeightRange::Grouped)
            .for_weights(WeightRange::Full);
        assert_eq!((full.isa(), full.weight_range()), (isa, WeightRange::Full));
    }
}

#[test]
fn the_best_one_is_detected() {
    assert_eq!(
        Kernels::detect().isa(),
        *Isa::available().last().expect("scalar")
    );
}
