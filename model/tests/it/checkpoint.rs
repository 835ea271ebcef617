//! Small random checkpoints, with the names that each family's own files have.

use coldread_model::ModelFolder;
use coldread_model::layout::WeightRange;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

pub(crate) const HIDDEN: usize = 32;
pub(crate) const INTERMEDIATE: usize = 37;
pub(crate) const VOCAB: usize = 99;
pub(crate) const POSITIONS: usize = 40;
pub(crate) const LAYERS: usize = 2;
pub(crate) const LABELS: usize = 3;

/// A checkpoint that a test may change before it is written.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub(crate) tokenizer: Value,
    pub(crate) dtype: Dtype,
    /// More files by name.
    pub(crate) files: Vec<(&'static str, String)>,
    pub(crate) seed: u64,
}

impl Checkpoint {
    fn new(model_type: &str) -> Self {
        Self {
            config: json!({
                "model_type": model_type,
                "vocab_size": VOCAB,
                "max_position_embeddings": POSITIONS,
                "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
            }),
            tensors: BTreeMap::new(),
            tokenizer: json!({
                "model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 98}},
                "added_tokens": [{"id": 0, "content": "[PAD]"}],
            }),
            dtype: Dtype::F32,
            files: Vec::new(),
            seed: 1,
        }
    }

    fn random(&mut self, name: &str, shape: &[usize]) {
        let values = (0..shape.iter().product())
            .map(|_| {
                // SplitMix64, the upper bits as a number from -1 to 1.
                self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.seed;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        self.tensors
            .insert(name.to_owned(), (shape.to_vec(), values));
    }

    fn linear(&mut self, name: &str, n: usize, k: usize) {
        self.random(&format!("{name}.weight"), &[n, k]);
        self.random(&format!("{name}.bias"), &[n]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.random(&format!("{name}.weight"), &[width]);
        self.random(&format!("{name}.bias"), &[width]);
    }

    fn embeddings(&mut self, prefix: &str, width: usize, types: usize) {
        let p = format!("{prefix}.embeddings");
        self.random(&format!("{p}.word_embeddings.weight"), &[VOCAB, width]);
        self.random(
            &format!("{p}.position_embeddings.weight"),
            &[POSITIONS, width],
        );
        if types > 0 {
            self.random(
                &format!("{p}.token_type_embeddings.weight"),
                &[types, width],
            );
        }
        self.norm(&format!("{p}.LayerNorm"), width);
    }

    fn bert_layers(&mut self, prefix: &str) {
        for i in 0..LAYERS {
            let p = format!("{prefix}.encoder.layer.{i}");
            for part in ["query", "key", "value"] {
                self.linear(&format!("{p}.attention.self.{part}"), HIDDEN, HIDDEN);
            }
            self.linear(&format!("{p}.attention.output.dense"), HIDDEN, HIDDEN);
            self.norm(&format!("{p}.attention.output.LayerNorm"), HIDDEN);
            self.linear(&format!("{p}.intermediate.dense"), INTERMEDIATE, HIDDEN);
            self.linear(&format!("{p}.output.dense"), HIDDEN, INTERMEDIATE);
            self.norm(&format!("{p}.output.LayerNorm"), HIDDEN);
        }
    }

    fn bert_sizes(&mut self) {
        self.set("hidden_size", json!(HIDDEN));
        self.set("num_hidden_layers", json!(LAYERS));
        self.set("num_attention_heads", json!(4));
        self.set("intermediate_size", json!(INTERMEDIATE));
    }

    pub(crate) fn bert() -> Self {
        let mut c = Self::new("bert");
        c.bert_sizes();
        c.set("type_vocab_size", json!(2));
        c.embeddings("bert", HIDDEN, 2);
        c.bert_layers("bert");
        c.linear("bert.pooler.dense", HIDDEN, HIDDEN);
        c.linear("classifier", LABELS, HIDDEN);
        c
    }

    pub(crate) fn distilbert() -> Self {
        let mut c = Self::new("distilbert");
        c.set("dim", json!(HIDDEN));
        c.set("n_layers", json!(LAYERS));
        c.set("n_heads", json!(4));
        c.set("hidden_dim", json!(INTERMEDIATE));
        c.embeddings("distilbert", HIDDEN, 0);
        for i in 0..LAYERS {
            let p = format!("distilbert.transformer.layer.{i}");
            for part in ["q_lin", "k_lin", "v_lin", "out_lin"] {
                c.linear(&format!("{p}.attention.{part}"), HIDDEN, HIDDEN);
            }
            c.norm(&format!("{p}.sa_layer_norm"), HIDDEN);
            c.linear(&format!("{p}.ffn.lin1"), INTERMEDIATE, HIDDEN);
            c.linear(&format!("{p}.ffn.lin2"), HIDDEN, INTERMEDIATE);
            c.norm(&format!("{p}.output_layer_norm"), HIDDEN);
        }
        c.linear("pre_classifier", HIDDEN, HIDDEN);
        c.linear("classifier", LABELS, HIDDEN);
        c
    }

    /// `RoBERTa`, or one of its kin by `model_type`.
    pub(crate) fn roberta(model_type: &str) -> Self {
        let mut c = Self::new(model_type);
        c.bert_sizes();
        c.set("type_vocab_size", json!(1));
        c.set("pad_token_id", json!(1));
        c.embeddings("roberta", HIDDEN, 1);
        c.bert_layers("roberta");
        c.linear("classifier.dense", HIDDEN, HIDDEN);
        c.linear("classifier.out_proj", LABELS, HIDDEN);
        c
    }

    pub(crate) fn electra(embedding_size: usize) -> Self {
        let mut c = Self::new("electra");
        c.bert_sizes();
        c.set("embedding_size", json!(embedding_size));
        c.set("type_vocab_size", json!(2));
        c.embeddings("electra", embedding_size, 2);
        if embedding_size != HIDDEN {
            c.linear("electra.embeddings_project", HIDDEN, embedding_size);
        }
        c.bert_layers("electra");
        c.linear("classifier.dense", HIDDEN, HIDDEN);
        c.linear("classifier.out_proj", LABELS, HIDDEN);
        c
    }

    pub(crate) fn set(&mut self, field: &str, value: Value) {
        self.config[field] = value;
    }

    pub(crate) fn values(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut (Vec<usize>, Vec<f32>) {
        self.tensors
            .get_mut(name)
            .expect("a tensor of the checkpoint")
    }

    /// Writes the folder; it lives as long as what is given back.
    pub(crate) fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("config.json", self.config.to_string().as_bytes());
        write("tokenizer.json", self.tokenizer.to_string().as_bytes());
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (&**name, &**shape, self.encode(values)))
            .collect();
        let views = bytes.iter().map(|(name, shape, b)| {
            (
                *name,
                TensorView::new(self.dtype, shape.to_vec(), b).unwrap(),
            )
        });
        write(
            "model.safetensors",
            &safetensors::serialize(views, None).unwrap(),
        );
        for (name, text) in &self.files {
            write(name, text.as_bytes());
        }
        dir
    }

    fn encode(&self, values: &[f32]) -> Vec<u8> {
        let values = values.iter();
        match self.dtype {
            Dtype::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            Dtype::I32 => values.flat_map(|v| (*v as i32).to_le_bytes()).collect(),
            other => panic!("{other:?} is not written here"),
        }
    }

    /// The packed model, or why it was rejected.
    pub(crate) fn pack(&self) -> Result<Vec<u8>, String> {
        self.pack_with(WeightRange::Grouped)
    }

    /// The model packed with weights of a range.
    pub(crate) fn pack_with(&self, range: WeightRange) -> Result<Vec<u8>, String> {
        let dir = self.write();
        let folder = ModelFolder::open(dir.path()).map_err(|e| e.to_string())?;
        coldread_model::pack_with(&folder, range).map_err(|e| e.to_string())
    }
}
