//! Folders that cannot be packed, and what is said about them.

use crate::checkpoint::{Checkpoint, VOCAB};
use safetensors::tensor::Dtype;
use serde_json::json;

/// Packs the checkpoint after `change` and looks for each part in the error.
fn check(mut c: Checkpoint, change: impl FnOnce(&mut Checkpoint), parts: &[&str]) {
    change(&mut c);
    let error = c.pack().expect_err("the folder cannot be packed");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn a_missing_tensor_is_named() {
    for name in [
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.1.attention.self.key.weight",
        "bert.encoder.layer.1.attention.self.value.bias",
        "bert.encoder.layer.0.output.LayerNorm.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
    ] {
        let remove = |c: &mut Checkpoint| drop(c.tensors.remove(name));
        check(
            Checkpoint::bert(),
            remove,
            &["model.safetensors", name, "missing"],
        );
    }
    let remove = |c: &mut Checkpoint| c.tensors.retain(|name, _| !name.contains("project"));
    check(
        Checkpoint::electra(20),
        remove,
        &["electra.embeddings_project.weight", "missing"],
    );
}

#[test]
fn a_wrong_shape_is_named() {
    let name = "bert.encoder.layer.0.intermediate.dense.weight";
    let swap = |c: &mut Checkpoint| c.tensor_mut(name).0.reverse();
    check(Checkpoint::bert(), swap, &[name, "[32, 37]", "[37, 32]"]);
    let more = |c: &mut Checkpoint| c.set("vocab_size", json!(VOCAB + 1));
    check(
        Checkpoint::bert(),
        more,
        &["word_embeddings.weight", "[99, 32]", "[100, 32]"],
    );
    let labels = |c: &mut Checkpoint| c.set("id2label", json!({"0": "no", "1": "yes"}));
    check(
        Checkpoint::bert(),
        labels,
        &["classifier.weight", "[3, 32]", "[2, 32]"],
    );
    let positions = |c: &mut Checkpoint| c.set("max_position_embeddings", json!(41));
    check(
        Checkpoint::bert(),
        positions,
        &["position_embeddings.weight", "[41, 32]"],
    );
}

#[test]
fn values_that_are_not_finite_are_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in [
            "bert.embeddings.word_embeddings.weight",
            "bert.encoder.layer.1.output.dense.weight",
            "bert.encoder.layer.1.output.dense.bias",
            "bert.encoder.layer.1.output.LayerNorm.weight",
            "classifier.bias",
        ] {
            let poison = |c: &mut Checkpoint| c.tensor_mut(name).1[2] = value;
            check(Checkpoint::bert(), poison, &[name, "not finite"]);
        }
    }
}

#[test]
fn rows_of_zeros_and_of_tiny_values_have_scale_zero() {
    let name = "bert.encoder.layer.0.output.dense.weight";
    let mut c = Checkpoint::bert();
    let k = c.tensor_mut(name).0[1];
    c.tensor_mut(name).1[..k].fill(0.0);
    c.tensor_mut(name).1[k..2 * k].fill(f32::MIN_POSITIVE);
    let model = coldread_model::PackedModel::from_bytes(c.pack().unwrap()).unwrap();
    model.verify().unwrap();
    let output = model.layer(0).output;
    assert_eq!(&output.scales[..2], [0.0; 2]);
    assert_eq!(&output.col_sums[..2], [0; 2]);
    assert!(output.scales[2] > 0.0);
}

#[test]
fn other_types_of_tensors_and_models_are_refused() {
    let integers = |c: &mut Checkpoint| c.dtype = Dtype::I32;
    check(
        Checkpoint::bert(),
        integers,
        &["I32", "supported are F32, F16, BF16"],
    );
    for model_type in ["deberta-v2", "modernbert"] {
        let other = |c: &mut Checkpoint| c.set("model_type", json!(model_type));
        check(
            Checkpoint::bert(),
            other,
            &["config.json", model_type, "distilbert", "electra"],
        );
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let vocab = |c: &mut Checkpoint| c.tokenizer["model"]["vocab"]["b"] = json!(VOCAB);
    check(
        Checkpoint::bert(),
        vocab,
        &["tokenizer.json", "id 99", "vocab_size"],
    );
    let added = |c: &mut Checkpoint| c.tokenizer["added_tokens"][0]["id"] = json!(1000);
    check(Checkpoint::bert(), added, &["tokenizer.json", "id 1000"]);
    let unigram = |c: &mut Checkpoint| {
        c.tokenizer["model"]["vocab"] = (0..=VOCAB).map(|i| json!([i.to_string(), -1.0])).collect();
    };
    check(Checkpoint::bert(), unigram, &["tokenizer.json", "id 99"]);
    let none = |c: &mut Checkpoint| c.tokenizer = json!({});
    check(Checkpoint::bert(), none, &["tokenizer.json", "model.vocab"]);
}

#[test]
fn damaged_weights_are_refused() {
    let dir = Checkpoint::bert().write();
    let folder = coldread_model::ModelFolder::open(dir.path()).unwrap();
    let whole = std::fs::read(folder.weights.path()).unwrap();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let mut longer = whole.clone();
    longer.push(0);
    for (bytes, reason) in [
        (&whole[..whole.len() - 1], "the file is truncated"),
        (&whole[..100], "the file is truncated"),
        (&whole[..5], "the file is truncated"),
        (&[], "the file is truncated"),
        (&longer, "not a sound safetensors file"),
        (
            b"neither header nor tensors",
            "not a sound safetensors file",
        ),
        (
            pointer,
            "a Git LFS pointer, not the file itself; get the file with: git lfs pull",
        ),
        (
            b"<!doctype html>\n<title>404</title>",
            "an error page of a web server",
        ),
        (b"GGUF\x03\0\0\0", "in the format GGUF"),
        (b"\x08\x08\x12\x07pytorch", "in the format ONNX"),
    ] {
        std::fs::write(folder.weights.path(), bytes).unwrap();
        let error = coldread_model::pack(&folder).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let dir = Checkpoint::bert().write();
    let folder = coldread_model::ModelFolder::open(dir.path()).unwrap();
    let target = dir.path().join("taken");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("file"), "").unwrap();
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let error = coldread_model::pack_to_file(&folder, &target).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
}
