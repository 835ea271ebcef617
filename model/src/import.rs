//! Packs a Hugging Face folder.
//!
//! Weights are read by the names that the family's own checkpoints use, one
//! tensor at a time, quantized and written; the only whole copy of the model in
//! memory is the packed one. A tensor that is missing, has another shape or
//! type than `config.json` calls for, or holds a value that is not finite is
//! rejected by name.

mod families;

use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::folder::ModelFolder;
use crate::layout::WeightRange;
use crate::packed::{LayerSchema, Meta, PackedModel, Schema, Sink, Spec, Writer};
use crate::quantize::{QuantizedLinear, QuantizedRows};
use crate::tensors::Tensors;
use crate::tokenizer::TokenizerFiles;
use crate::wordpiece::WordPiece;
use families::{Family, HeadDense, family};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Packs a model; the result is what a packed file holds. Weights of the linear layers are
/// [narrow](WeightRange::Narrow), which every instruction set runs at its best.
pub fn pack(folder: &ModelFolder) -> Result<Vec<u8>, LoadError> {
    pack_with(folder, WeightRange::Narrow)
}

/// Packs a model with linear layers of a range: [`WeightRange::Full`] is closer to the
/// folder's weights, and slower on processors that have AVX2 and no more.
pub fn pack_with(folder: &ModelFolder, range: WeightRange) -> Result<Vec<u8>, LoadError> {
    let config = &folder.config;
    let family = family(config.architecture).ok_or_else(|| {
        LoadError::unsupported(
            &folder.path.join(crate::config::FILE),
            format!(
                "models of type {} cannot be packed; those that can are {}",
                config.model_type,
                families::SUPPORTED
            ),
        )
    })?;
    let tensors = Tensors::open(&folder.weights)?;
    let source = Source {
        prefix: prefix(family, &tensors),
        tensors: &tensors,
        family,
        config,
        range,
    };
    let (wordpiece, tokenizer) = tokenizer(&folder.tokenizer, config)?;
    let meta = Meta {
        name: folder.name.clone(),
        config: config.clone(),
        profile: folder.profile.clone(),
        temperature: folder.temperature,
        head_dense: source.dense_name().is_some(),
        wordpiece,
    };

    let schema = Schema::new(config, meta.head_dense);
    let sections = Writer::small_sections(&meta) + schema.len();
    let mut writer = Writer::new(&meta, &tokenizer, sections);
    source.write(&schema, &mut writer)?;
    Ok(writer.finish())
}

/// Packs a model into a file and verifies what was written.
///
/// The file appears under its name only when it is whole, and a process that has
/// an older file of that name mapped keeps reading the older one.
pub fn pack_to_file(folder: &ModelFolder, path: &Path) -> Result<PackedModel, LoadError> {
    write_packed(&pack(folder)?, path)
}

/// Writes the bytes of a packed model to a file and verifies it, as
/// [`pack_to_file`] does.
pub fn write_packed(packed: &[u8], path: &Path) -> Result<PackedModel, LoadError> {
    let partial = partial_path(path);
    let written = write_synced(&partial, packed)
        .and_then(|()| {
            PackedModel::map(&partial)?.verify()?;
            fs::rename(&partial, path).map_err(|source| LoadError::Write {
                path: path.to_owned(),
                source,
            })
        })
        .and_then(|()| PackedModel::map(path));
    if written.is_err() {
        // What went wrong is already known; a file that stays behind is the lesser harm.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// A name beside `path` that no other process uses.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| LoadError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Reads the tokenizer, sees that the model has an embedding for each of its
/// tokens, and compiles it if it is BERT's. A folder cloned without large file
/// support, which holds a pointer in the file's place, is noticed here too.
fn tokenizer(
    files: &TokenizerFiles,
    config: &ModelConfig,
) -> Result<(Option<WordPiece>, Vec<u8>), LoadError> {
    let (path, bytes) = (files.path(), files.json()?);
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(path, e.to_string()))?;
    let vocab = match &json["model"]["vocab"] {
        Value::Object(vocab) => vocab.values().filter_map(Value::as_u64).max(),
        // Unigram: a token's id is its place.
        Value::Array(vocab) => (vocab.len() as u64).checked_sub(1),
        _ => None,
    };
    let Some(vocab) = vocab else {
        return Err(LoadError::invalid(path, "model.vocab is missing or empty"));
    };
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let largest = added
        .filter_map(|token| token["id"].as_u64())
        .fold(vocab, u64::max);
    if largest >= config.vocab_size as u64 {
        return Err(LoadError::invalid(
            path,
            format!(
                "it has a token of id {largest}, but vocab_size in config.json is {}; tokenizer \
                 and model do not belong together",
                config.vocab_size
            ),
        ));
    }
    Ok(match WordPiece::compile(&json) {
        Some((rules, vocabulary)) => (Some(rules), bytemuck::cast_slice(&vocabulary).to_vec()),
        None => (None, bytes),
    })
}

/// The family's prefix, or none where the checkpoint has the names without it.
fn prefix(family: &Family, tensors: &Tensors) -> &'static str {
    let with = format!("{}{}.weight", family.prefix, family.word);
    let without = format!("{}.weight", family.word);
    if !tensors.contains(&with) && tensors.contains(&without) {
        ""
    } else {
        family.prefix
    }
}

/// A checkpoint and how to read it.
struct Source<'a> {
    tensors: &'a Tensors,
    family: &'static Family,
    prefix: &'static str,
    config: &'a ModelConfig,
    range: WeightRange,
}

impl Source<'_> {
    /// Fills in every section that the configuration calls for.
    fn write(&self, schema: &Schema<Spec>, writer: &mut Writer) -> Result<(), LoadError> {
        let family = self.family;
        writer.section(&schema.word, |sink| self.word(&schema.word, sink))?;
        writer.section(&schema.position, |sink| {
            self.position(&schema.position, sink)
        })?;
        self.norm(
            writer,
            &schema.embeddings_norm,
            &self.encoder(family.embeddings_norm),
        )?;
        if let Some(spec) = &schema.projection {
            self.linear(writer, spec, &[&self.encoder(family.projection)])?;
        }
        for (i, layer) in schema.layers.iter().enumerate() {
            self.layer(writer, layer, i)?;
        }
        if let (Some(spec), Some(name)) = (&schema.dense, self.dense_name()) {
            self.dense(writer, spec, &name)?;
        }
        self.dense(writer, &schema.classifier, family.classifier)
    }

    fn layer(
        &self,
        writer: &mut Writer,
        layer: &LayerSchema<Spec>,
        i: usize,
    ) -> Result<(), LoadError> {
        let family = self.family;
        let name = |part: &str| self.encoder(&format!("{}.{i}.{part}", family.layer));
        let (query, key, value) = (name(family.query), name(family.key), name(family.value));
        let mut qkv = self.quantized(&layer.qkv, &[&query, &key, &value])?;
        // Attention divides by sqrt(head_dim); folded in here, it costs nothing.
        let factor = 1.0 / (self.config.head_dim() as f32).sqrt();
        qkv.scale_outputs(self.config.hidden_size, factor);
        writer.linear(&layer.qkv, &qkv);

        self.linear(
            writer,
            &layer.attention_output,
            &[&name(family.attention_output)],
        )?;
        self.norm(writer, &layer.attention_norm, &name(family.attention_norm))?;
        self.linear(writer, &layer.intermediate, &[&name(family.intermediate)])?;
        self.linear(writer, &layer.output, &[&name(family.output)])?;
        self.norm(writer, &layer.output_norm, &name(family.output_norm))
    }

    /// The full name of a part of the encoder.
    fn encoder(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// The name of the dense layer before the classifier, if there is one.
    fn dense_name(&self) -> Option<String> {
        match self.family.dense {
            HeadDense::Always(name) => Some(name.to_owned()),
            HeadDense::Pooler(name) => {
                let name = self.encoder(name);
                self.tensors
                    .contains(&format!("{name}.weight"))
                    .then_some(name)
            }
        }
    }

    fn word(&self, spec: &Spec, sink: &mut Sink<'_>) -> Result<(), LoadError> {
        let name = format!("{}.weight", self.encoder(self.family.word));
        let mut rows = QuantizedRows::with_capacity(WeightRange::Full, spec.rows, spec.cols);
        self.tensors
            .get(&name, &[spec.rows, spec.cols])?
            .for_each_row(|row| rows.push(row))?;
        sink.put(&rows.codes);
        sink.put(&rows.scales);
        Ok(())
    }

    /// The rows that a post can use, with the row of token type 0 added.
    fn position(&self, spec: &Spec, sink: &mut Sink<'_>) -> Result<(), LoadError> {
        let config = self.config;
        let name = format!("{}.weight", self.encoder(self.family.position));
        let positions = self
            .tensors
            .get(&name, &[config.max_position_embeddings, spec.cols])?
            .to_f32()?;
        let first = config.position_offset() * spec.cols;
        let mut rows = positions[first..first + spec.rows * spec.cols].to_vec();
        if config.type_vocab_size > 0 {
            let name = format!("{}.weight", self.encoder(self.family.token_type));
            let types = self
                .tensors
                .get(&name, &[config.type_vocab_size, spec.cols])?
                .to_f32()?;
            for row in rows.chunks_exact_mut(spec.cols) {
                for (position, token_type) in row.iter_mut().zip(&types) {
                    *position += token_type;
                }
            }
        }
        sink.put(&rows);
        Ok(())
    }

    fn norm(&self, writer: &mut Writer, spec: &Spec, name: &str) -> Result<(), LoadError> {
        // Checkpoints converted from TensorFlow call them gamma and beta.
        let old = self.tensors.contains(&format!("{name}.gamma"));
        let (weight, bias) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        let weight = self.vector(&format!("{name}.{weight}"), spec.cols)?;
        let bias = self.vector(&format!("{name}.{bias}"), spec.cols)?;
        writer.section(spec, |sink| {
            sink.put(&weight);
            sink.put(&bias);
        });
        Ok(())
    }

    fn dense(&self, writer: &mut Writer, spec: &Spec, name: &str) -> Result<(), LoadError> {
        let weight = self
            .tensors
            .get(&format!("{name}.weight"), &[spec.rows, spec.cols])?
            .to_f32()?;
        let bias = self.vector(&format!("{name}.bias"), spec.rows)?;
        writer.section(spec, |sink| {
            sink.put(&weight);
            sink.put(&bias);
        });
        Ok(())
    }

    fn linear(&self, writer: &mut Writer, spec: &Spec, names: &[&str]) -> Result<(), LoadError> {
        let linear = self.quantized(spec, names)?;
        writer.linear(spec, &linear);
        Ok(())
    }

    /// Layers of equal size that read the same input, as one.
    fn quantized(&self, spec: &Spec, names: &[&str]) -> Result<QuantizedLinear, LoadError> {
        let mut weight = QuantizedRows::with_capacity(self.range, spec.rows, spec.cols);
        let mut bias = Vec::with_capacity(spec.rows);
        let n = spec.rows / names.len();
        for name in names {
            self.tensors
                .get(&format!("{name}.weight"), &[n, spec.cols])?
                .for_each_row(|row| weight.push(row))?;
            bias.extend(self.vector(&format!("{name}.bias"), n)?);
        }
        Ok(QuantizedLinear { weight, bias })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.tensors.get(name, &[len])?.to_f32()
    }
}
