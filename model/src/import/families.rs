//! What each family of models calls its weights.
//!
//! One table a family, the names as they stand in checkpoints. Each linear layer
//! and normalisation has a `.weight` and a `.bias`, each embedding a `.weight`.

use crate::config::Architecture;

/// The names of a family's weights.
#[derive(Debug)]
pub(super) struct Family {
    /// Before every name but the head's; a checkpoint of the bare encoder with a
    /// head beside it has none.
    pub(super) prefix: &'static str,
    pub(super) word: &'static str,
    pub(super) position: &'static str,
    pub(super) token_type: &'static str,
    pub(super) embeddings_norm: &'static str,
    pub(super) projection: &'static str,
    /// Before the names of layer `i`: `layer.i.`
    pub(super) layer: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) output: &'static str,
    pub(super) output_norm: &'static str,
    pub(super) dense: HeadDense,
    pub(super) classifier: &'static str,
}

/// The dense layer before the classifier.
#[derive(Debug)]
pub(super) enum HeadDense {
    /// Always there, under this name.
    Always(&'static str),
    /// The encoder's pooler, which a checkpoint may lack; the prefix applies.
    Pooler(&'static str),
}

const BERT: Family = Family {
    prefix: "bert.",
    word: "embeddings.word_embeddings",
    position: "embeddings.position_embeddings",
    token_type: "embeddings.token_type_embeddings",
    embeddings_norm: "embeddings.LayerNorm",
    projection: "embeddings_project",
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
    dense: HeadDense::Pooler("pooler.dense"),
    classifier: "classifier",
};

const ROBERTA: Family = Family {
    prefix: "roberta.",
    dense: HeadDense::Always("classifier.dense"),
    classifier: "classifier.out_proj",
    ..BERT
};

const ELECTRA: Family = Family {
    prefix: "electra.",
    ..ROBERTA
};

const DISTILBERT: Family = Family {
    prefix: "distilbert.",
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
    dense: HeadDense::Always("pre_classifier"),
    ..BERT
};

/// The model types that [`family`] knows, for messages.
pub(super) const SUPPORTED: &str = "bert, distilbert, roberta, camembert, xlm-roberta, electra";

/// A family's names; `None` for those that cannot be packed.
pub(super) fn family(architecture: Architecture) -> Option<&'static Family> {
    match architecture {
        Architecture::Bert => Some(&BERT),
        Architecture::DistilBert => Some(&DISTILBERT),
        Architecture::Roberta => Some(&ROBERTA),
        Architecture::Electra => Some(&ELECTRA),
        Architecture::DebertaV2 | Architecture::ModernBert => None,
    }
}
