//! candle's configuration of a `DeBERTa`: as `config.json` has it, with what transformers
//! takes for granted where it is not there.

use candle_transformers::models::debertav2::{Config, Id2Label};
use coldread_model::{LoadError, ModelConfig, ModelFolder};
use serde_json::{Map, Value, json};

/// The folder's configuration as candle takes it, labels apart.
pub(super) fn config(folder: &ModelFolder) -> Result<Config, LoadError> {
    let mut fields: Map<String, Value> = super::config_json(folder)?;
    // `ModelConfig` has read them: they may be missing, and their names need not be text.
    fields.remove("id2label");
    fields.remove("label2id");
    let defaults = [
        ("pooler_hidden_act", json!("gelu")),
        ("pooler_hidden_size", json!(folder.config.hidden_size)),
        ("pooler_dropout", json!(0.0)),
    ];
    for (name, default) in defaults {
        let value = fields.entry(name).or_insert(Value::Null);
        if value.is_null() {
            *value = default;
        }
    }
    let path = folder.path.join(coldread_model::config::FILE);
    serde_json::from_value(fields.into()).map_err(|e| LoadError::invalid(&path, e.to_string()))
}

/// The labels by index; candle reads no more of them than their number.
pub(super) fn id2label(config: &ModelConfig) -> Id2Label {
    (0..).zip(config.labels.iter().cloned()).collect()
}
