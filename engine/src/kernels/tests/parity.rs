//! One specification, bit for bit, at sizes round every tile's edges.

use super::{RANGES, Random, aligned, bits, scalar_kernels, vector_kernels};
use crate::kernels::{AlignedVec, Codes, Epilogue, Kernels, Qkv, RowQuantization};
use coldread_model::Activation;
use coldread_model::layout::{
    Dense, Embedding, HeadActivation, LayerNorm, Linear, MAX_GROUP_SUM, NR, WeightRange, group_of,
    pack_panels, padded_n,
};

/// A random layer; `extreme` weights are the smallest and the largest of the range only.
struct Layer {
    range: WeightRange,
    n: usize,
    k: usize,
    weights: Vec<i8>,
    panels: AlignedVec<i8>,
    scales: AlignedVec<f32>,
    col_sums: AlignedVec<i32>,
    bias: AlignedVec<f32>,
}

impl Layer {
    fn new(r: &mut Random, n: usize, k: usize, range: WeightRange, extreme: bool) -> Self {
        let [low, high] = range.bounds();
        let weight = |r: &mut Random| match r.byte() {
            // Runs of one sign, so that neighbours add up to the largest sums.
            b if extreme => [low, high][usize::from(b > 40)],
            b => (b as i8).clamp(low, high),
        };
        let mut weights: Vec<i8> = (0..n * k).map(|_| weight(r)).collect();
        if range == WeightRange::Grouped {
            weights.chunks_exact_mut(k).for_each(limit_groups);
        }
        let panels = pack_panels(&weights, n, k);
        assert!(range.holds(&panels, k));
        let sums: Vec<i32> = weights
            .chunks_exact(k)
            .map(|row| row.iter().map(|&w| i32::from(w)).sum())
            .collect();
        let scales: Vec<f32> = (0..n).map(|_| (r.float() + 5.0) * 1e-3).collect();
        let bias: Vec<f32> = (0..n).map(|_| r.float()).collect();
        Self {
            range,
            n,
            k,
            panels: aligned(&panels, panels.len()),
            scales: aligned(&scales, padded_n(n)),
            col_sums: aligned(&sums, padded_n(n)),
            bias: aligned(&bias, padded_n(n)),
            weights,
        }
    }

    fn view(&self) -> Linear<'_> {
        Linear {
            n: self.n,
            k: self.k,
            range: self.range,
            panels: &self.panels,
            scales: &self.scales,
            col_sums: &self.col_sums,
            bias: &self.bias,
        }
    }
}

/// Makes the last weights of a group smaller where its sums are too large.
fn limit_groups(row: &mut [i8]) {
    let mut sums = vec![[0_i16; 2]; 2 * row.len()];
    for (input, w) in row.iter_mut().enumerate() {
        let [positive, negative] = &mut sums[group_of(input)];
        let limited = i16::from(*w).clamp(-MAX_GROUP_SUM - *negative, MAX_GROUP_SUM - *positive);
        *positive += limited.max(0);
        *negative += limited.min(0);
        *w = limited as i8;
    }
}

/// `m` rows of `k` values, zero-padded; `extreme` ones sit at both ends of the range.
fn rows(r: &mut Random, m: usize, k: usize, extreme: bool) -> AlignedVec<f32> {
    let mut x = AlignedVec::new(m * padded_n(k));
    for row in x.chunks_exact_mut(padded_n(k)) {
        let wide = r.float();
        for x in &mut row[..k] {
            *x = r.float() * wide;
            if extreme {
                *x = if *x > -2.0 { 255.0 } else { -0.0 };
            }
        }
    }
    x
}

fn quantize(kernels: Kernels, x: &[f32], m: usize, k: usize) -> Codes {
    let mut codes = Codes::new();
    kernels.quantize(x, m, k, &mut codes);
    codes
}

fn linear(
    kernels: Kernels,
    x: &[f32],
    m: usize,
    layer: &Layer,
    epilogue: Epilogue,
) -> (Vec<RowQuantization>, Vec<f32>) {
    let codes = quantize(kernels, x, m, layer.k);
    let stride = padded_n(layer.n);
    let mut out = aligned(&[], m * stride);
    for (i, y) in out.iter_mut().enumerate() {
        *y = (i % 7) as f32;
    }
    kernels.linear(
        &codes,
        layer.view(),
        0..stride / NR,
        epilogue,
        &mut out,
        stride,
    );
    (codes.rows().to_vec(), out.to_vec())
}

/// Scalar against the formula; and every other instruction set against scalar.
fn check_linear(m: usize, n: usize, k: usize, extreme: bool) {
    for range in RANGES {
        check_linear_of(range, m, n, k, extreme);
    }
}

fn check_linear_of(range: WeightRange, m: usize, n: usize, k: usize, extreme: bool) {
    let r = &mut Random((m * 7 + n * 3 + k) as u32);
    let layer = Layer::new(r, n, k, range, extreme);
    let x = rows(r, m, k, extreme);
    for epilogue in [Epilogue::Store, Epilogue::Add] {
        let (row_scales, scalar) = linear(scalar_kernels(), &x, m, &layer, epilogue);
        if epilogue == Epilogue::Store {
            check_store(&layer, &x, &row_scales, &scalar);
        }
        let exact = |kernels: &Kernels| kernels.weight_range() <= range;
        for kernels in vector_kernels().into_iter().filter(exact) {
            let (scales, y) = linear(kernels, &x, m, &layer, epilogue);
            assert_eq!(scales, row_scales, "{kernels:?} {m} {n} {k}");
            assert_eq!(
                bits(&y),
                bits(&scalar),
                "{kernels:?} {m} {n} {k} {epilogue:?}"
            );
        }
    }
}

/// The scalar path against i64 sums and f64 arithmetic.
fn check_store(layer: &Layer, x: &[f32], scales: &[RowQuantization], y: &[f32]) {
    let (x_stride, y_stride) = (padded_n(layer.k), padded_n(layer.n));
    for (i, q) in scales.iter().enumerate() {
        let codes: Vec<i64> = x[i * x_stride..][..layer.k]
            .iter()
            .map(|x| {
                let code = f64::from(*x) / f64::from(q.scale) + f64::from(q.zero_point);
                assert!((-0.51..255.51).contains(&code), "code {code}");
                code.round_ties_even().clamp(0.0, 255.0) as i64 - q.zero_point as i64
            })
            .collect();
        for n in 0..layer.n {
            let weights = &layer.weights[n * layer.k..(n + 1) * layer.k];
            let sum: i64 = codes
                .iter()
                .zip(weights)
                .map(|(x, &w)| x * i64::from(w))
                .sum();
            let scale = f64::from(q.scale) * f64::from(layer.scales[n]);
            let expected = sum as f64 * scale + f64::from(layer.bias[n]);
            let y = f64::from(y[i * y_stride + n]);
            // A code at the border of two may fall either way, one unit of weight each.
            let slack = 2.0 * 128.0 * scale + 1e-5 * expected.abs() + 1e-4;
            assert!((y - expected).abs() < slack, "{y} for {expected}");
        }
        assert!(
            y[i * y_stride + layer.n..(i + 1) * y_stride]
                .iter()
                .all(|&y| y == 0.0)
        );
    }
}

#[test]
fn products_at_the_edges_of_every_tile() {
    for m in [
        1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 31, 32, 33, 35, 48, 65,
    ] {
        for (n, k) in [(1, 1), (16, 64), (17, 65), (49, 63), (96, 130)] {
            check_linear(m, n, k, false);
        }
    }
}

#[test]
fn products_of_the_model_s_shapes() {
    for (n, k) in [(1152, 384), (384, 1536)] {
        check_linear(11, n, k, false);
    }
}

#[test]
fn extreme_codes_and_weights_are_summed_exactly() {
    for (m, n, k) in [(1, 16, 64), (3, 33, 1536), (18, 20, 3072)] {
        check_linear(m, n, k, true);
    }
}

#[test]
fn nothing_is_a_product_too() {
    let layer = Layer::new(&mut Random(1), 16, 64, WeightRange::Grouped, false);
    for kernels in vector_kernels() {
        linear(kernels, &[], 0, &layer, Epilogue::Store);
    }
}

#[test]
fn a_range_of_panels_gives_those_columns() {
    let r = &mut Random(5);
    let layer = Layer::new(r, 7 * NR, 70, WeightRange::Grouped, false);
    let x = rows(r, 21, 70, false);
    for kernels in vector_kernels() {
        let whole = linear(kernels, &x, 21, &layer, Epilogue::Store).1;
        let codes = quantize(kernels, &x, 21, 70);
        let mut part = vec![0.0; 21 * 4 * NR];
        kernels.linear(
            &codes,
            layer.view(),
            2..6,
            Epilogue::Store,
            &mut part,
            4 * NR,
        );
        for (part, whole) in part.chunks_exact(4 * NR).zip(whole.chunks_exact(7 * NR)) {
            assert_eq!(bits(part), bits(&whole[2 * NR..6 * NR]), "{kernels:?}");
        }
    }
}

#[test]
fn a_row_s_product_depends_on_the_row_alone() {
    let r = &mut Random(9);
    let layer = Layer::new(r, 50, 70, WeightRange::Grouped, false);
    let x = rows(r, 40, 70, false);
    for kernels in vector_kernels() {
        let whole = linear(kernels, &x, 40, &layer, Epilogue::Store).1;
        for (x, y) in x
            .chunks_exact(padded_n(70))
            .zip(whole.chunks_exact(padded_n(50)))
        {
            assert_eq!(
                bits(&linear(kernels, x, 1, &layer, Epilogue::Store).1),
                bits(y)
            );
        }
    }
}

#[test]
fn the_non_linearity_is_applied_before_quantization() {
    use Activation::{GeluErf, GeluTanh, Relu};
    for (m, k) in [
        (0, 16),
        (1, 1),
        (3, 16),
        (5, 17),
        (4, 64),
        (9, 130),
        (2, 1536),
    ] {
        let x = rows(&mut Random(k as u32), m, k, false);
        for activation in [GeluErf, GeluTanh, Relu] {
            let run = |kernels: Kernels| {
                let mut y = aligned(&x, x.len());
                let mut codes = Codes::new();
                kernels.activate_and_quantize(activation, &mut y, m, k, &mut codes);
                let alone = quantize(kernels, &y, m, k);
                assert_eq!(codes.rows(), alone.rows(), "{kernels:?} {m} {k}");
                let stride = codes.stride;
                assert_eq!(codes.bytes[..m * stride], alone.bytes[..m * stride]);
                (bits(&y), codes.rows().to_vec())
            };
            let scalar = run(scalar_kernels());
            for kernels in vector_kernels() {
                assert_eq!(run(kernels), scalar, "{kernels:?} {m} {k} {activation:?}");
            }
        }
    }
}

#[test]
fn layer_norm_embedding_and_gather() {
    for n in [1, 15, 16, 17, 36, 64, 100, 384] {
        let r = &mut Random(n as u32);
        let codes: Vec<i8> = (0..20 * n).map(|_| r.byte() as i8).collect();
        let scales: Vec<f32> = (0..20).map(|_| r.float()).collect();
        let position: Vec<f32> = (0..9 * n).map(|_| r.float()).collect();
        let weight: Vec<f32> = (0..n).map(|_| r.float()).collect();
        let bias: Vec<f32> = (0..n).map(|_| r.float()).collect();
        let run = |kernels: Kernels| {
            let mut x = aligned(&[], 9 * padded_n(n));
            let word = Embedding {
                rows: 20,
                width: n,
                codes: &codes,
                scales: &scales,
            };
            kernels.embed(&[3, 19, 0, 7, 7, 1, 2, 18, 11], word, &position, &mut x);
            let embedded = bits(&x);
            let norm = LayerNorm {
                weight: &weight,
                bias: &bias,
            };
            let mut codes = Codes::new();
            kernels.normalize(&mut x, 9, n, norm, 1e-12, &mut codes);
            let mut first = Codes::new();
            first.gather(&codes, [8, 0, 4].into_iter());
            assert_eq!(first.rows()[2], codes.rows()[4]);
            (embedded, bits(&x), codes.rows().to_vec())
        };
        let scalar = run(scalar_kernels());
        for kernels in vector_kernels() {
            assert_eq!(run(kernels), scalar, "{kernels:?} {n}");
        }
    }
}

#[test]
fn attention_of_any_length_and_width() {
    for (heads, head_dim) in [(1, 1), (2, 8), (3, 16), (2, 20), (2, 32), (1, 64)] {
        for tokens in [1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 40, 100] {
            let hidden = heads * head_dim;
            let r = &mut Random(tokens as u32);
            let qkv: Vec<f32> = (0..tokens * 3 * hidden).map(|_| r.float()).collect();
            let run = |kernels: Kernels, num_queries: usize| {
                let mut out = vec![0.0; num_queries * hidden];
                let qkv = Qkv {
                    queries: &qkv,
                    query_stride: 3 * hidden,
                    num_queries,
                    keys_values: &qkv,
                    stride: 3 * hidden,
                    tokens,
                    num_heads: heads,
                    head_dim,
                };
                kernels.attention(qkv, &mut out, hidden, &mut AlignedVec::default());
                bits(&out)
            };
            let scalar = run(scalar_kernels(), tokens);
            assert_eq!(run(scalar_kernels(), 1), scalar[..hidden]);
            for kernels in vector_kernels() {
                assert_eq!(
                    run(kernels, tokens),
                    scalar,
                    "{kernels:?} {tokens} {heads} {head_dim}"
                );
                assert_eq!(
                    run(kernels, 1),
                    scalar[..hidden],
                    "{kernels:?} {tokens} {heads} {head_dim}"
                );
            }
        }
    }
}

#[test]
fn dense_layers_and_their_activations() {
    for k in [1, 15, 16, 17, 384] {
        let r = &mut Random(k as u32);
        let weight: Vec<f32> = (0..5 * k).map(|_| r.float()).collect();
        let x: Vec<f32> = (0..3 * k).map(|_| r.float()).collect();
        let dense = Dense {
            n: 5,
            k,
            weight: &weight,
            bias: &[1.0, 2.0, 3.0, 4.0, 5.0],
        };
        let run = |kernels: Kernels, activation| {
            let mut out = [0.0; 15];
            kernels.dense(dense, &x, k, &mut out);
            for (x, together) in x.chunks(k).zip(out.chunks(5)) {
                let mut alone = [0.0; 5];
                kernels.dense(dense, x, k, &mut alone);
                assert_eq!(bits(&alone), bits(together), "{kernels:?} {k}");
            }
            kernels.activate(activation, &mut out);
            bits(&out)
        };
        for activation in [
            HeadActivation::Tanh,
            HeadActivation::GeluErf,
            HeadActivation::Relu,
        ] {
            for kernels in vector_kernels() {
                assert_eq!(
                    run(kernels, activation),
                    run(scalar_kernels(), activation),
                    "{kernels:?} {k}"
                );
            }
        }
    }
}

/// A hostile file may hold any floats: results are then unspecified, but nothing
/// panics or leaves its buffer.
#[test]
fn hostile_floats_do_no_harm() {
    let r = &mut Random(3);
    let mut layer = Layer::new(r, 33, 70, WeightRange::Grouped, false);
    layer.scales.fill(f32::NAN);
    layer.bias.fill(f32::INFINITY);
    let mut x = rows(r, 9, 70, false);
    for (x, hostile) in x
        .iter_mut()
        .step_by(5)
        .zip([f32::NAN, f32::INFINITY, f32::MIN].iter().cycle())
    {
        *x = *hostile;
    }
    for kernels in vector_kernels() {
        linear(kernels, &x, 9, &layer, Epilogue::Store);
        let norm = LayerNorm {
            weight: &[f32::NAN; 70],
            bias: &[f32::INFINITY; 70],
        };
        kernels.normalize(&mut x, 9, 70, norm, f32::NAN, &mut Codes::new());
    }
}
