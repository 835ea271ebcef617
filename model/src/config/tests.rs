//! Sound and broken `config.json` files.

use super::*;
use serde_json::json;

fn bert() -> Value {
    json!({
        "model_type": "bert",
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 40,
        "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
    })
}

fn with(changes: &Value) -> Value {
    let mut config = bert();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn parse(changes: &Value) -> Result<ModelConfig, LoadError> {
    let json = with(changes).to_string();
    ModelConfig::parse(json.as_bytes(), Path::new("folder/config.json"))
}

fn sound(changes: &Value) -> ModelConfig {
    parse(changes).unwrap_or_else(|e| panic!("{changes}: {e}"))
}

/// The configuration with `changes` is damaged, and `part` of the reason.
fn check_invalid(changes: &Value, part: &str) {
    match parse(changes) {
        Err(LoadError::Invalid { path, reason }) => {
            assert_eq!(path, Path::new("folder/config.json"));
            assert!(reason.contains(part), "{part:?} is not in {reason:?}");
        }
        other => panic!("{changes}: {other:?}"),
    }
}

/// The configuration with `changes` is of a kind that no engine runs.
fn check_unsupported(changes: &Value, part: &str) {
    match parse(changes) {
        Err(LoadError::Unsupported { reason, .. }) => {
            assert!(reason.contains(part), "{part:?} is not in {reason:?}");
        }
        other => panic!("{changes}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = sound(&json!({}));
    assert_eq!(config.architecture, Architecture::Bert);
    assert_eq!(config.embedding_size, 32);
    assert_eq!(config.type_vocab_size, 2);
    assert_eq!(config.hidden_act, Activation::GeluErf);
    assert_eq!(config.problem_type, ProblemType::SingleLabel);
    assert_eq!((config.pad_token_id, config.position_offset()), (0, 0));
    assert_eq!((config.max_tokens, config.head_dim()), (40, 8));
    assert!((config.layer_norm_eps - 1e-12).abs() < 1e-20);
    let labels = sound(&json!({"id2label": null})).labels;
    assert_eq!(labels, ["LABEL_0", "LABEL_1"]);
    let labels = sound(&json!({"id2label": null, "num_labels": 1})).labels;
    assert_eq!(labels, ["LABEL_0"]);
    let electra = sound(&json!({"model_type": "electra", "hidden_size": 256}));
    assert_eq!(electra.embedding_size, 128);
}

#[test]
fn families_by_their_own_names() {
    let distilbert = json!({
        "model_type": "distilbert", "vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4,
        "hidden_dim": 37, "max_position_embeddings": 40, "activation": "relu",
    });
    let path = Path::new(FILE);
    let config = ModelConfig::parse(distilbert.to_string().as_bytes(), path).unwrap();
    assert_eq!((config.hidden_size, config.num_hidden_layers), (32, 2));
    assert_eq!(
        (config.num_attention_heads, config.intermediate_size),
        (4, 37)
    );
    assert_eq!(
        (config.type_vocab_size, config.hidden_act),
        (0, Activation::Relu)
    );

    for model_type in ["roberta", "camembert", "xlm-roberta"] {
        let config = sound(&json!({"model_type": model_type, "max_position_embeddings": 514}));
        assert_eq!(config.architecture, Architecture::Roberta);
        assert_eq!((config.position_offset(), config.max_tokens), (2, 512));
        assert_eq!(config.type_vocab_size, 1);
    }
    for act in ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"] {
        assert_eq!(
            sound(&json!({"hidden_act": act})).hidden_act,
            Activation::GeluTanh
        );
    }
    let modernbert = json!({"model_type": "modernbert", "max_position_embeddings": 8192});
    assert_eq!(sound(&modernbert).max_tokens, MAX_TOKENS);
}

#[test]
fn an_unknown_architecture_is_named_before_its_sizes_are_missed() {
    let gpt2 = json!({"model_type": "gpt2", "vocab_size": 99, "n_embd": 32, "n_layer": 2});
    let error = ModelConfig::parse(gpt2.to_string().as_bytes(), Path::new(FILE)).unwrap_err();
    assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
}

#[test]
fn modernbert_says_its_epsilon_once_or_twice() {
    for (changes, expected) in [
        (json!({"norm_eps": 1e-5}), 1e-5),
        (json!({"norm_eps": 1e-6, "layer_norm_eps": 1e-5}), 1e-5),
    ] {
        let eps = sound(&changes).layer_norm_eps;
        assert!((eps - expected).abs() < 1e-12, "{changes}: {eps}");
    }
}

#[test]
fn problem_types() {
    for (changes, expected) in [
        (json!({"id2label": {"0": "toxic"}}), ProblemType::MultiLabel),
        (
            json!({"problem_type": "multi_label_classification"}),
            ProblemType::MultiLabel,
        ),
        (json!({"problem_type": null}), ProblemType::SingleLabel),
    ] {
        assert_eq!(sound(&changes).problem_type, expected, "{changes}");
    }
    check_unsupported(
        &json!({"problem_type": "regression"}),
        "single_label_classification",
    );
}

#[test]
fn missing_fields_and_broken_json() {
    for field in [
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
    ] {
        let mut config = bert();
        config.as_object_mut().unwrap().remove(field);
        let error = ModelConfig::parse(config.to_string().as_bytes(), Path::new(FILE));
        assert!(error.unwrap_err().to_string().contains(field), "{field}");
    }
    check_invalid(&json!({"model_type": null}), "model_type");
    let whole = bert().to_string();
    for cut in 0..whole.len() {
        let error = ModelConfig::parse(&whole.as_bytes()[..cut], Path::new(FILE)).unwrap_err();
        assert!(matches!(error, LoadError::Invalid { .. }), "{cut}: {error}");
    }
}

#[test]
fn kinds_that_no_engine_runs() {
    check_unsupported(
        &json!({"model_type": "gpt2"}),
        "supported are bert, distilbert",
    );
    check_unsupported(&json!({"model_type": "BERT"}), "supported are bert");
    check_unsupported(&json!({"hidden_act": "swish"}), "gelu_new");
    check_unsupported(
        &json!({"position_embedding_type": "relative_key"}),
        "absolute",
    );
}

#[test]
fn sizes_out_of_bounds() {
    for field in [
        "vocab_size",
        "hidden_size",
        "embedding_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
    ] {
        check_invalid(&json!({field: 0}), field);
        check_invalid(&json!({field: u64::from(u32::MAX)}), field);
        check_invalid(&json!({field: -1}), "");
        check_invalid(&json!({field: 1.5}), "");
    }
    check_invalid(&json!({"type_vocab_size": 1 << 20}), "type_vocab_size");
    check_invalid(&json!({"id2label": null, "num_labels": 0}), "num_labels");
    check_invalid(
        &json!({"id2label": null, "num_labels": 1 << 20}),
        "num_labels",
    );
}

#[test]
fn sizes_that_do_not_fit_together() {
    check_invalid(&json!({"num_attention_heads": 5}), "not a multiple");
    check_invalid(&json!({"pad_token_id": 99}), "pad_token_id 99");
    check_invalid(
        &json!({"pad_token_id": u32::MAX, "model_type": "roberta"}),
        "pad_token_id",
    );
    check_invalid(&json!({"max_position_embeddings": 2}), "at least 3");
    check_invalid(
        &json!({"max_position_embeddings": 4, "model_type": "roberta"}),
        "at least 3",
    );
    check_invalid(&json!({"layer_norm_eps": 0.0}), "layer_norm_eps");
    check_invalid(&json!({"layer_norm_eps": -1e-5}), "layer_norm_eps");
}

#[test]
fn labels_with_gaps_and_duplicates() {
    let labels = |labels: Value| json!({"id2label": labels});
    check_invalid(&labels(json!({})), "empty");
    check_invalid(&labels(json!({"0": "a", "2": "b"})), "0 to 1");
    check_invalid(&labels(json!({"1": "a"})), "0 to 0");
    check_invalid(&labels(json!({"zero": "a"})), "0 to 0");
    check_invalid(&labels(json!({"-1": "a"})), "0 to 0");
    check_invalid(&labels(json!({"0": "a", "00": "b"})), "twice");
    check_invalid(
        &labels(json!({"0": "a", "1": "a"})),
        "\"a\" stands there twice",
    );
    check_invalid(&labels(json!({"0": ""})), "no name");
    check_invalid(&labels(json!({"0": null})), "no name");
    check_invalid(&labels(json!({"0": ["a"]})), "no name");
    assert_eq!(sound(&labels(json!({"0": 1, "1": 2}))).labels, ["1", "2"]);
    // Ids are numbers, so that 10 comes after 9.
    let many: serde_json::Map<_, _> = (0..12)
        .map(|i| (i.to_string(), json!(format!("label {i}"))))
        .collect();
    assert_eq!(sound(&labels(many.into())).labels[10], "label 10");
}

#[test]
fn languages_are_known_or_unknown() {
    assert!(sound(&json!({})).languages.is_empty());
    let config = sound(&json!({ "languages": ["en", "pt", "haw"] }));
    assert_eq!(config.languages, ["en", "pt", "haw"]);
    for code in ["English", "en-GB", "EN", "e", ""] {
        let reason = format!("languages: {code:?} is not a code of ISO 639");
        check_invalid(&json!({ "languages": ["de", code] }), &reason);
    }
    check_invalid(&json!({ "languages": "en" }), "expected a sequence");
}

#[test]
fn a_checked_configuration_that_was_changed_is_noticed() {
    let config = sound(&json!({}));
    config.check().unwrap();
    let changed = |change: fn(&mut ModelConfig)| {
        let mut config = config.clone();
        change(&mut config);
        config.check().unwrap_err()
    };
    assert!(changed(|c| c.max_tokens = 41).contains("max_tokens"));
    assert!(changed(|c| c.max_tokens = 2).contains("max_tokens"));
    assert!(changed(|c| c.labels.clear()).contains("labels"));
    assert!(changed(|c| c.architecture = Architecture::Electra).contains("model_type"));
    assert!(changed(|c| c.layer_norm_eps = f64::NAN).contains("layer_norm_eps"));
}

#[test]
fn heads_that_classify_no_sequences_are_named() {
    for (class, what) in [
        ("BertForTokenClassification", "token classifier"),
        ("RobertaForMaskedLM", "masked language model"),
        ("BertForPreTraining", "language model"),
        ("DistilBertForQuestionAnswering", "question answering"),
        ("BertForMultipleChoice", "multiple choice"),
        ("BertModel", "sentence embeddings"),
        ("XLMRobertaModel", "sentence embeddings"),
    ] {
        check_unsupported(&json!({"architectures": [class]}), what);
        check_unsupported(&json!({"architectures": [class]}), class);
        // Before the sizes and labels, which such a model may lack.
        check_unsupported(&json!({"architectures": [class], "id2label": {}}), what);
    }
    for fine in [
        json!(null),
        json!([]),
        json!(["BertForSequenceClassification"]),
        json!(["BertModel", "BertForSequenceClassification"]),
        json!(["SentimentBert"]),
        json!("BertForSequenceClassification"),
        json!({"odd": 1}),
    ] {
        sound(&json!({"architectures": fine}));
    }
}
