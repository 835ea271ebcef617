//! The one dynamic boundary: every operation of the encoder, instantiated for
//! every instruction set.
//!
//! An operation covers a block of rows or a whole product, so that the call
//! costs nothing next to it. Inside, all generic code is inlined into a function
//! that carries `#[target_feature]`, which is what turns [`super::simd::Simd`]'s
//! methods into single instructions.

use super::CodeLayout;
use super::attention::{self, Attention};
use super::gemm::{Gemm, Kernel};
use super::isa::Isa;
use super::rowwise::{self, Activate, Embed, Normalize, Quantize};
use super::scalar::Scalar;
use coldread_model::layout::{Dense, HeadActivation, WeightRange};
use std::fmt::Debug;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::OnceLock;

/// The operations. Lengths were checked by `Kernels`.
pub(crate) trait Ops: Debug + Send + Sync {
    fn isa(&self) -> Isa;
    fn code_layout(&self) -> CodeLayout;
    /// The weights whose products are exact.
    fn weight_range(&self) -> WeightRange;
    fn peak(&self, rounds: u64) -> u64;
    fn gemm(&self, task: &mut Gemm<'_>);
    fn quantize(&self, task: &mut Quantize<'_>);
    fn activate_and_quantize(&self, task: &mut Activate<'_>);
    fn normalize(&self, task: &mut Normalize<'_>);
    fn embed(&self, task: &mut Embed<'_>);
    fn attention(&self, task: &mut Attention<'_>);
    fn dense(&self, dense: Dense<'_>, x: &[f32], x_stride: usize, out: &mut [f32]);
    fn activate(&self, activation: HeadActivation, x: &mut [f32]);
}

/// Implements `Ops` for a token: its [`Isa`], the queries and vectors of an
/// attention tile, and the features that its kernels and floats need.
macro_rules! instantiate {
    ($kernel:ty, $isa:expr, $mq:literal x $kv:literal $(, $features:literal)?) => {
        instantiate!(@impl $kernel, $isa, $mq, $kv, [$($features)?]
            gemm: Gemm<'_> = |kernel, task| kernel.gemm(task);
            quantize: Quantize<'_> = |kernel, task| rowwise::quantize(kernel, task);
            activate_and_quantize: Activate<'_> =
                |kernel, task| rowwise::activate_and_quantize(kernel, task);
            normalize: Normalize<'_> = |kernel, task| rowwise::normalize(kernel, task);
            embed: Embed<'_> = |kernel, task| rowwise::embed(kernel, task);
            attention: Attention<'_> =
                |kernel, task| attention::attention::<_, $mq, $kv>(kernel, task);
        );
    };
    (@impl $kernel:ty, $isa:expr, $mq:literal, $kv:literal, $features:tt
        $($name:ident: $task:ty = |$k:ident, $t:ident| $body:expr;)*) => {
        impl Ops for $kernel {
            instantiate!(@properties $kernel, $isa);
            $(fn $name(&self, task: &mut $task) {
                instantiate!(@fn $features ($k: $kernel, $t: &mut $task) $body);
                // SAFETY: the token proves that the CPU has these features.
                unsafe { run(*self, task) }
            })*
            fn dense(&self, dense: Dense<'_>, x: &[f32], x_stride: usize, out: &mut [f32]) {
                instantiate!(@fn $features
                    (kernel: $kernel, args: (Dense<'_>, &[f32], usize, &mut [f32]))
                    rowwise::dense(kernel.simd(), args.0, args.1, args.2, args.3));
                // SAFETY: the token proves that the CPU has these features.
                unsafe { run(*self, (dense, x, x_stride, out)) }
            }
            fn activate(&self, activation: HeadActivation, x: &mut [f32]) {
                instantiate!(@fn $features
                    (kernel: $kernel, args: (HeadActivation, &mut [f32]))
                    rowwise::activate(kernel.simd(), args.0, args.1));
                // SAFETY: the token proves that the CPU has these features.
                unsafe { run(*self, (activation, x)) }
            }
        }
    };
    // Everything but the product is another token's, whose codes and floats are the same: once in
    // the program is enough.
    ($kernel:ty, $isa:expr, rest of $other:ty, $features:literal) => {
        impl Ops for $kernel {
            instantiate!(@properties $kernel, $isa);
            fn gemm(&self, task: &mut Gemm<'_>) {
                instantiate!(@fn [$features] (kernel: $kernel, task: &mut Gemm<'_>) kernel.gemm(task));
                // SAFETY: the token proves that the CPU has these features.
                unsafe { run(*self, task) }
            }
            instantiate!(@delegate $other,
                quantize: Quantize<'_>, activate_and_quantize: Activate<'_>,
                normalize: Normalize<'_>, embed: Embed<'_>, attention: Attention<'_>);
            fn dense(&self, dense: Dense<'_>, x: &[f32], x_stride: usize, out: &mut [f32]) {
                Ops::dense(&<$other>::from(*self), dense, x, x_stride, out);
            }
            fn activate(&self, activation: HeadActivation, x: &mut [f32]) {
                Ops::activate(&<$other>::from(*self), activation, x);
            }
        }
        const _: () = {
            assert!(<$kernel as Kernel>::CODE_BYTES == <$other as Kernel>::CODE_BYTES);
            assert!(<$kernel as Kernel>::ROW_GROUP == <$other as Kernel>::ROW_GROUP);
        };
    };
    (@delegate $other:ty, $($name:ident: $task:ty),*) => {
        $(fn $name(&self, task: &mut $task) {
            Ops::$name(&<$other>::from(*self), task);
        })*
    };
    (@properties $kernel:ty, $isa:expr) => {
        fn isa(&self) -> Isa {
            $isa
        }
        fn code_layout(&self) -> CodeLayout {
            CodeLayout {
                isa: $isa,
                code_bytes: <$kernel as Kernel>::CODE_BYTES,
                row_group: <$kernel as Kernel>::ROW_GROUP,
            }
        }
        fn weight_range(&self) -> WeightRange {
            <$kernel as Kernel>::RANGE
        }
        fn peak(&self, rounds: u64) -> u64 {
            Kernel::peak(*self, rounds)
        }
    };
    (@fn [$($features:literal)?] ($k:ident: $kernel:ty, $t:ident: $task:ty) $body:expr) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn run($k: $kernel, $t: $task) {
            $body;
        }
    };
}

instantiate!(Scalar, Isa::Scalar, 2 x 1);

/// The operations of an instruction set, if this CPU has it.
pub(crate) fn lookup(isa: Isa) -> Option<&'static dyn Ops> {
    match isa {
        Isa::Scalar => Some(&Scalar),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::AmxInt8 => x86::lookup(isa),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod | Isa::NeonI8mm => arm::lookup(isa),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::WasmSimd128 => Some(wasm::lookup()),
        #[allow(unreachable_patterns, reason = "what is left depends on the target")]
        _ => None,
    }
}

/// Those for narrow weights, where an instruction set has faster ones for them.
pub(crate) fn lookup_narrow(isa: Isa) -> Option<&'static dyn Ops> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::lookup_avx2_narrow(),
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        Isa::WasmSimd128 => Some(wasm::lookup_narrow()),
        _ => lookup(isa),
    }
}

/// Those for grouped weights.
pub(crate) fn lookup_grouped(isa: Isa) -> Option<&'static dyn Ops> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::lookup_avx2_grouped(),
        _ => lookup_narrow(isa),
    }
}

/// Those that a lookup gives on engines other than this one, and that are exact on every engine.
#[cfg(all(test, target_arch = "wasm32", target_feature = "relaxed-simd"))]
pub(super) fn passed_over() -> [&'static dyn Ops; 2] {
    use super::wasm::{Wasm, WasmNarrow};
    [&Wasm::<false>, &WasmNarrow::<false>]
}

/// Asks the CPU once and keeps the token.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn once<T: Ops>(
    cell: &'static OnceLock<Option<T>>,
    new: fn() -> Option<T>,
) -> Option<&'static dyn Ops> {
    cell.get_or_init(new)
        .as_ref()
        .map(|token| token as &dyn Ops)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{
        Activate, Attention, CodeLayout, Dense, Embed, Gemm, HeadActivation, Isa, Kernel,
        Normalize, Ops, Quantize, WeightRange, attention, once, rowwise,
    };
    use crate::kernels::amx::AmxInt8;
    use crate::kernels::avx_vnni::AvxVnni;
    use crate::kernels::avx2::Avx2;
    use crate::kernels::avx2_narrow::Avx2Narrow;
    use crate::kernels::avx512::Avx512;
    use coldread_model::layout::GROUP_STEPS;
    use std::sync::OnceLock;

    instantiate!(Avx2, Isa::Avx2, 6 x 1, "avx2,fma");
    instantiate!(Avx2Narrow<1>, Isa::Avx2, rest of Avx2Narrow<GROUP_STEPS>, "avx2,fma");
    instantiate!(Avx2Narrow<GROUP_STEPS>, Isa::Avx2, 6 x 1, "avx2,fma");
    instantiate!(AvxVnni, Isa::AvxVnni, rest of Avx2Narrow<GROUP_STEPS>, "avxvnni,avx2,fma");
    instantiate!(
        Avx512, Isa::Avx512Vnni, 8 x 2,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );
    instantiate!(
        AmxInt8, Isa::AmxInt8, rest of Avx512,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );

    pub(super) fn lookup(isa: Isa) -> Option<&'static dyn Ops> {
        static AVX2: OnceLock<Option<Avx2>> = OnceLock::new();
        static AVX_VNNI: OnceLock<Option<AvxVnni>> = OnceLock::new();
        static AVX512: OnceLock<Option<Avx512>> = OnceLock::new();
        static AMX: OnceLock<Option<AmxInt8>> = OnceLock::new();
        match isa {
            Isa::Avx2 => once(&AVX2, Avx2::new),
            Isa::AvxVnni => once(&AVX_VNNI, AvxVnni::new),
            Isa::Avx512Vnni => once(&AVX512, Avx512::new),
            Isa::AmxInt8 => once(&AMX, AmxInt8::new),
            _ => None,
        }
    }

    pub(super) fn lookup_avx2_narrow() -> Option<&'static dyn Ops> {
        static NARROW: OnceLock<Option<Avx2Narrow<1>>> = OnceLock::new();
        once(&NARROW, Avx2Narrow::new)
    }

    pub(super) fn lookup_avx2_grouped() -> Option<&'static dyn Ops> {
        static GROUPED: OnceLock<Option<Avx2Narrow<GROUP_STEPS>>> = OnceLock::new();
        once(&GROUPED, Avx2Narrow::new)
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{
        Activate, Attention, CodeLayout, Dense, Embed, Gemm, HeadActivation, Isa, Kernel,
        Normalize, Ops, Quantize, WeightRange, attention, once, rowwise,
    };
    use crate::kernels::neon::NeonDotprod;
    use crate::kernels::neon_i8mm::NeonI8mm;
    use std::sync::OnceLock;

    instantiate!(NeonDotprod, Isa::NeonDotprod, 4 x 1, "neon,dotprod");
    instantiate!(NeonI8mm, Isa::NeonI8mm, 4 x 1, "neon,dotprod,i8mm");

    pub(super) fn lookup(isa: Isa) -> Option<&'static dyn Ops> {
        static DOTPROD: OnceLock<Option<NeonDotprod>> = OnceLock::new();
        static I8MM: OnceLock<Option<NeonI8mm>> = OnceLock::new();
        match isa {
            Isa::NeonDotprod => once(&DOTPROD, NeonDotprod::new),
            Isa::NeonI8mm => once(&I8MM, NeonI8mm::new),
            _ => None,
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::{
        Activate, Attention, CodeLayout, Dense, Embed, Gemm, HeadActivation, Isa, Kernel,
        Normalize, Ops, Quantize, WeightRange, attention, rowwise,
    };
    use crate::kernels::wasm::Wasm;
    #[cfg(target_feature = "relaxed-simd")]
    use crate::kernels::wasm::{WasmNarrow, WasmPairs, is_fused, is_pmaddubsw};

    instantiate!(Wasm<false>, Isa::WasmSimd128, 4 x 1);
    #[cfg(target_feature = "relaxed-simd")]
    instantiate!(Wasm<true>, Isa::WasmSimd128, 4 x 1);
    #[cfg(target_feature = "relaxed-simd")]
    instantiate!(WasmNarrow<false>, Isa::WasmSimd128, 4 x 1);
    #[cfg(target_feature = "relaxed-simd")]
    instantiate!(WasmNarrow<true>, Isa::WasmSimd128, 4 x 1);
    #[cfg(target_feature = "relaxed-simd")]
    instantiate!(WasmPairs, Isa::WasmSimd128, 4 x 1);

    pub(super) fn lookup() -> &'static dyn Ops {
        #[cfg(target_feature = "relaxed-simd")]
        if is_fused() {
            return &Wasm::<true>;
        }
        &Wasm::<false>
    }

    #[cfg(target_feature = "relaxed-simd")]
    pub(super) fn lookup_narrow() -> &'static dyn Ops {
        match (is_fused(), is_pmaddubsw()) {
            (true, true) => &WasmPairs,
            (true, false) => &WasmNarrow::<true>,
            (false, _) => &WasmNarrow::<false>,
        }
    }
}
