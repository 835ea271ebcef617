//! Each family's checkpoint against the views of its packed model.

use crate::checkpoint::{Checkpoint, HIDDEN, INTERMEDIATE, LABELS, LAYERS, POSITIONS, VOCAB};
use coldread_model::layout::{self, HeadActivation, KR, NR, WeightRange, padded_k, padded_n};
use coldread_model::packed::PackedTokenizer;
use coldread_model::{ModelFolder, PackedModel, pack_to_file};
use safetensors::tensor::Dtype;
use serde_json::json;

/// The weight that panel order has for an output channel and input.
fn code(linear: &layout::Linear<'_>, channel: usize, input: usize) -> i8 {
    let panel = channel / NR * NR * padded_k(linear.k);
    linear.panels[panel + input / KR * NR * KR + channel % NR * KR + input % KR]
}

fn check_aligned<T>(slice: &[T]) {
    assert_eq!(slice.as_ptr().addr() % 64, 0);
}

/// Compares a linear layer with its source: `weight` and `bias` are of channels
/// `first..`, and the packed layer's outputs are `factor` times the source's.
fn check_channels(
    linear: &layout::Linear<'_>,
    first: usize,
    weight: &[f32],
    bias: &[f32],
    factor: f32,
) {
    assert_eq!(weight.len(), bias.len() * linear.k);
    for (i, (row, bias)) in weight.chunks_exact(linear.k).zip(bias).enumerate() {
        let channel = first + i;
        let scale = linear.scales[channel];
        let mut sum = 0;
        for (input, w) in row.iter().enumerate() {
            let code = code(linear, channel, input);
            let error = (f32::from(code) * scale - w * factor).abs();
            assert!(
                error <= scale * 0.500_01,
                "channel {channel}, input {input}: {error}"
            );
            sum += i32::from(code);
        }
        assert_eq!(linear.col_sums[channel], sum);
        assert_eq!(linear.bias[channel].to_bits(), (bias * factor).to_bits());
    }
}

fn check_linear_shape(linear: &layout::Linear<'_>, n: usize, k: usize) {
    assert_eq!((linear.n, linear.k), (n, k));
    assert_eq!(linear.panels.len(), padded_n(n) * padded_k(k));
    for slice in [linear.scales, linear.bias] {
        assert_eq!(slice.len(), padded_n(n));
        assert!(slice[n..].iter().all(|&x| x == 0.0));
        check_aligned(slice);
    }
    assert_eq!(linear.col_sums.len(), padded_n(n));
    assert!(linear.col_sums[n..].iter().all(|&x| x == 0));
    check_aligned(linear.panels);
    check_aligned(linear.col_sums);
    for channel in 0..padded_n(n) {
        for input in 0..padded_k(k) {
            if channel >= n || input >= k {
                assert_eq!(code(linear, channel, input), 0, "padding");
            }
        }
    }
}

/// Names of one layer's weights: query, key, value, attention output and norm,
/// intermediate, output and its norm.
type LayerNames = [&'static str; 8];

const BERT: LayerNames = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
];

const DISTILBERT: LayerNames = [
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
];

fn check_layers(c: &Checkpoint, model: &PackedModel, prefix: &str, names: LayerNames) {
    let check = |linear: &layout::Linear<'_>, n, k, name: &str| {
        check_linear_shape(linear, n, k);
        let weight = c.values(&format!("{name}.weight"));
        check_channels(linear, 0, weight, c.values(&format!("{name}.bias")), 1.0);
    };
    for i in 0..LAYERS {
        let layer = model.layer(i);
        let name = |part: usize| format!("{prefix}.{i}.{}", names[part]);
        check_linear_shape(&layer.qkv, 3 * HIDDEN, HIDDEN);
        for part in 0..3 {
            let factor = if part == 0 { 1.0 / 8.0_f32.sqrt() } else { 1.0 };
            let weight = c.values(&format!("{}.weight", name(part)));
            let bias = c.values(&format!("{}.bias", name(part)));
            check_channels(&layer.qkv, part * HIDDEN, weight, bias, factor);
        }
        check(&layer.attention_output, HIDDEN, HIDDEN, &name(3));
        check_norm(c, &layer.attention_norm, &name(4));
        check(&layer.intermediate, INTERMEDIATE, HIDDEN, &name(5));
        check(&layer.output, HIDDEN, INTERMEDIATE, &name(6));
        check_norm(c, &layer.output_norm, &name(7));
    }
}

fn check_norm(c: &Checkpoint, norm: &layout::LayerNorm<'_>, name: &str) {
    assert_eq!(norm.weight, c.values(&format!("{name}.weight")));
    assert_eq!(norm.bias, c.values(&format!("{name}.bias")));
    check_aligned(norm.weight);
    check_aligned(norm.bias);
}

fn check_dense(c: &Checkpoint, dense: &layout::Dense<'_>, n: usize, name: &str) {
    assert_eq!((dense.n, dense.k), (n, HIDDEN));
    assert_eq!(dense.weight, c.values(&format!("{name}.weight")));
    assert_eq!(dense.bias, c.values(&format!("{name}.bias")));
    check_aligned(dense.weight);
    check_aligned(dense.bias);
}

/// `offset`: the position that a post's first token has.
fn check_embeddings(
    c: &Checkpoint,
    model: &PackedModel,
    prefix: &str,
    width: usize,
    offset: usize,
) {
    let embeddings = model.embeddings();
    let word = embeddings.word;
    assert_eq!((word.rows, word.width), (VOCAB, width));
    assert_eq!(
        (word.codes.len(), word.scales.len()),
        (VOCAB * width, VOCAB)
    );
    check_aligned(word.codes);
    check_aligned(word.scales);
    check_aligned(embeddings.position);
    let source = c.values(&format!("{prefix}.embeddings.word_embeddings.weight"));
    for (i, (code, w)) in word.codes.iter().zip(source).enumerate() {
        let scale = word.scales[i / width];
        assert!((f32::from(*code) * scale - w).abs() <= scale * 0.500_01);
    }

    assert_eq!(model.config().max_tokens, POSITIONS - offset);
    let positions = c.values(&format!("{prefix}.embeddings.position_embeddings.weight"));
    let types = format!("{prefix}.embeddings.token_type_embeddings.weight");
    let types = c.tensors.get(&types).map(|t| &t.1);
    let expected: Vec<f32> = positions[offset * width..]
        .iter()
        .enumerate()
        .map(|(i, p)| p + types.map_or(0.0, |types| types[i % width]))
        .collect();
    assert_eq!(embeddings.position, expected);
    check_norm(
        c,
        &embeddings.norm,
        &format!("{prefix}.embeddings.LayerNorm"),
    );
    assert_eq!(embeddings.projection.is_some(), width != HIDDEN);
}

/// With weights of the full range, each the nearest to the source's.
fn packed(c: &Checkpoint) -> PackedModel {
    let model = PackedModel::from_bytes(c.pack_with(WeightRange::Full).unwrap()).unwrap();
    model.verify().unwrap();
    model
}

#[test]
fn bert() {
    let c = Checkpoint::bert();
    let model = packed(&c);
    check_embeddings(&c, &model, "bert", HIDDEN, 0);
    check_layers(&c, &model, "bert.encoder.layer", BERT);
    let head = model.head();
    assert_eq!(head.activation, HeadActivation::Tanh);
    check_dense(&c, &head.dense.unwrap(), HIDDEN, "bert.pooler.dense");
    check_dense(&c, &head.classifier, LABELS, "classifier");
}

#[test]
fn bert_without_a_pooler() {
    let mut c = Checkpoint::bert();
    c.tensors.retain(|name, _| !name.contains("pooler"));
    let model = packed(&c);
    assert!(model.head().dense.is_none());
    check_dense(&c, &model.head().classifier, LABELS, "classifier");
}

#[test]
fn bert_without_a_prefix_and_with_the_norms_old_names() {
    let mut c = Checkpoint::bert();
    let expected = c.pack_with(WeightRange::Full).unwrap();
    c.tensors = c
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            let name = name.trim_start_matches("bert.");
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            (name.replace("LayerNorm.bias", "LayerNorm.beta"), tensor)
        })
        .collect();
    let (expected, got) = (PackedModel::from_bytes(expected).unwrap(), packed(&c));
    // The names differ by the temporary folders'.
    assert_eq!(expected.layer(1).output.panels, got.layer(1).output.panels);
    assert_eq!(
        expected.layer(1).output_norm.bias,
        got.layer(1).output_norm.bias
    );
    assert!(got.head().dense.is_some());
}

#[test]
fn distilbert() {
    let c = Checkpoint::distilbert();
    let model = packed(&c);
    check_embeddings(&c, &model, "distilbert", HIDDEN, 0);
    check_layers(&c, &model, "distilbert.transformer.layer", DISTILBERT);
    let head = model.head();
    assert_eq!(head.activation, HeadActivation::Relu);
    check_dense(&c, &head.dense.unwrap(), HIDDEN, "pre_classifier");
    check_dense(&c, &head.classifier, LABELS, "classifier");
}

#[test]
fn roberta_camembert_and_xlm_roberta() {
    for model_type in ["roberta", "camembert", "xlm-roberta"] {
        let c = Checkpoint::roberta(model_type);
        let model = packed(&c);
        check_embeddings(&c, &model, "roberta", HIDDEN, 2);
        check_layers(&c, &model, "roberta.encoder.layer", BERT);
        let head = model.head();
        assert_eq!(head.activation, HeadActivation::Tanh);
        check_dense(&c, &head.dense.unwrap(), HIDDEN, "classifier.dense");
        check_dense(&c, &head.classifier, LABELS, "classifier.out_proj");
    }
}

#[test]
fn electra_with_and_without_a_projection() {
    for width in [HIDDEN, 20] {
        let c = Checkpoint::electra(width);
        let model = packed(&c);
        check_embeddings(&c, &model, "electra", width, 0);
        check_layers(&c, &model, "electra.encoder.layer", BERT);
        if let Some(projection) = model.embeddings().projection {
            check_linear_shape(&projection, HIDDEN, width);
            let name = "electra.embeddings_project";
            let weight = c.values(&format!("{name}.weight"));
            check_channels(
                &projection,
                0,
                weight,
                c.values(&format!("{name}.bias")),
                1.0,
            );
        }
        let head = model.head();
        assert_eq!(head.activation, HeadActivation::GeluErf);
        check_dense(&c, &head.dense.unwrap(), HIDDEN, "classifier.dense");
        check_dense(&c, &head.classifier, LABELS, "classifier.out_proj");
    }
}

#[test]
fn half_precision_checkpoints() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let mut c = Checkpoint::bert();
        let half = Checkpoint { dtype, ..c.clone() };
        let model = packed(&half);
        // What the file holds are the rounded values.
        for (_, values) in c.tensors.values_mut() {
            for value in values {
                *value = match dtype {
                    Dtype::F16 => half::f16::from_f32(*value).to_f32(),
                    _ => half::bf16::from_f32(*value).to_f32(),
                };
            }
        }
        check_layers(&c, &model, "bert.encoder.layer", BERT);
    }
}

#[test]
fn everything_else_in_the_folder_comes_along() {
    let mut c = Checkpoint::bert();
    c.files = vec![
        ("calibration.json", json!({"temperature": 1.37}).to_string()),
        ("emoji.tsv", "😀\tgrinning face\n❤\tred heart\n".to_owned()),
        (
            "normalization.json",
            json!({"version": 1, "handles": "@user", "emoji": "emoji.tsv"}).to_string(),
        ),
    ];
    let dir = c.write();
    let folder = ModelFolder::open(dir.path()).unwrap();
    let file = dir.path().join("packed model.bin");
    let model = pack_to_file(&folder, &file).unwrap();
    assert_eq!(model.path(), file);
    assert_eq!(model.name(), folder.name);
    assert_eq!(model.config(), &folder.config);
    assert_eq!(model.profile().unwrap().handles.as_deref(), Some("@user"));
    assert_eq!(
        model.emoji_table(),
        folder.profile.as_ref().unwrap().emoji_table
    );
    assert_eq!(model.temperature().to_bits(), 1.37_f32.to_bits());
    let PackedTokenizer::Json(json) = model.tokenizer() else {
        panic!("a tokenizer without rules is kept as it is");
    };
    assert_eq!(json, c.tokenizer.to_string().as_bytes());
    assert_eq!(model.bytes(), std::fs::read(&file).unwrap());
    // Nothing stays behind beside the file.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 7);
}

/// Narrow weights are not far from the source's. Groups of weights of any size, as these are,
/// have to give way where several large ones of one sign meet.
#[test]
fn narrow_and_grouped_weights() {
    let c = Checkpoint::electra(20);
    for (range, most) in [(WeightRange::Narrow, 1e-3), (WeightRange::Grouped, 0.1)] {
        let model = PackedModel::from_bytes(c.pack_with(range).unwrap()).unwrap();
        model.verify().unwrap();
        let projection = model.embeddings().projection.unwrap();
        let layer = model.layer(1);
        let linears = [
            projection,
            layer.qkv,
            layer.attention_output,
            layer.intermediate,
            layer.output,
        ];
        for linear in linears {
            assert_eq!(linear.range, range);
            let uses = |code| linear.panels.contains(&code);
            match range {
                // For the room of its groups, a row's scale may be 1.42 times the one that gives
                // its largest weight the largest code.
                WeightRange::Grouped => assert!((45..=63).any(|code| uses(code) || uses(-code))),
                _ => assert!(uses(63) || uses(-64)),
            }
        }
        let name = "electra.embeddings_project.weight";
        for (channel, row) in c.values(name).chunks_exact(20).enumerate() {
            let scale = projection.scales[channel];
            let distance = |(input, w): (usize, &f32)| {
                let packed = f32::from(code(&projection, channel, input)) * scale;
                (packed - w).powi(2)
            };
            let error: f32 = row.iter().enumerate().map(distance).sum();
            let size: f32 = row.iter().map(|w| w * w).sum();
            assert!(error < size * most, "channel {channel}: {error} of {size}");
        }
    }
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let dir = Checkpoint::bert().write();
    let folder = ModelFolder::open(dir.path()).unwrap();
    assert!(coldread_model::pack(&folder).unwrap() == coldread_model::pack(&folder).unwrap());
}

#[test]
fn bytes_at_any_address_are_read() {
    let packed = Checkpoint::bert().pack().unwrap();
    let expected = PackedModel::from_bytes(packed.clone()).unwrap();
    for shift in [0, 1, 8, 63] {
        let moved: &'static [u8] = &Vec::leak([vec![0; shift], packed.clone()].concat())[shift..];
        let model = PackedModel::from_bytes(moved).unwrap();
        check_aligned(model.bytes());
        assert_eq!(model.layer(1).qkv.panels, expected.layer(1).qkv.panels);
    }
}

#[test]
fn a_model_is_shared_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: &T) {}
    check(&packed(&Checkpoint::bert()));
}
