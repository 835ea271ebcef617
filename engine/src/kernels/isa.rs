//! The instruction sets by name, and which of them this CPU has.

use std::fmt;
use std::str::FromStr;

/// An instruction set that has kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code, the specification of the others.
    Scalar,
    /// 256-bit multiply-add of 8-bit integers, or of 16-bit ones where weights need them.
    Avx2,
    /// 256-bit `vpdpbusd`.
    AvxVnni,
    /// 512-bit `vpdpbusd`.
    Avx512Vnni,
    /// Tile multiplication, `tdpbusd`. It is chosen where the CPU has it and Linux grants it, but no
    /// machine of the project's CI does: naming [`Isa::Avx512Vnni`] (`--isa avx512-vnni`) avoids it.
    AmxInt8,
    /// 128-bit `sdot`.
    NeonDotprod,
    /// 128-bit `usmmla`, products of 2 x 8 by 8 x 2 matrices (from Neoverse V1, that is
    /// Graviton3, on).
    NeonI8mm,
    /// WebAssembly's 128-bit vectors, with relaxed ones where the module is built for them.
    WasmSimd128,
}

impl Isa {
    /// Every instruction set, the slowest first.
    pub const ALL: [Self; 8] = [
        Self::Scalar,
        Self::NeonDotprod,
        Self::NeonI8mm,
        Self::WasmSimd128,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni,
        Self::AmxInt8,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::AmxInt8 => "amx-int8",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
            Self::WasmSimd128 => "wasm-simd128",
        }
    }

    /// Those that this CPU has, the slowest first; `Scalar` is always there.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|&isa| super::ops::lookup(isa).is_some())
            .collect()
    }

    /// The fastest one that this CPU has. That may be [`Isa::AmxInt8`], which the project's CI cannot
    /// run.
    pub fn detect() -> Self {
        *Self::available().last().expect("scalar is always there")
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No instruction set has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Isa::ALL.map(Isa::name).join(", ");
        write!(
            f,
            "unknown instruction set {:?}; expected one of {names}",
            self.0
        )
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// This CPU lacks the instruction set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsaUnavailable {
    /// What was wanted.
    pub wanted: Isa,
    /// What there is.
    pub available: Vec<Isa>,
}

impl fmt::Display for IsaUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.available.iter().map(|isa| isa.name()).collect();
        let (wanted, names) = (self.wanted, names.join(", "));
        write!(f, "this CPU does not support {wanted}; it supports {names}")
    }
}

impl std::error::Error for IsaUnavailable {}
