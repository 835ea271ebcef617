//! Packs a Hugging Face folder.
//!
//! Weights are read by the names that the family's own checkpoints use, one
//! tensor at a time, quantized and written; the only whole copy of the model in
//! memory is the packed one. A tensor that is missing, has another shape or
//! type than `config.json` calls for, or holds a value that is not finite is
//! rejected by name.

mod families;

use crate::calibration::{self, Activations, Calibration};
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::folder::ModelFolder;
use crate::layout::WeightRange;
use crate::packed::{LayerSchema, Meta, PackedModel, Schema, Spec, Writer};
use crate::quantize::{QuantizedLinear, QuantizedRows};
use crate::tensors::Tensors;
use crate::tokenizer::TokenizerFiles;
use crate::unigram::Unigram;
use crate::wordpiece::WordPiece;
use families::{Family, HeadDense, family};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Packs a model; the result is what a packed file holds. Weights of the linear layers are
/// [narrow](WeightRange::Narrow), which every instruction set runs at its best, and rounded
/// for the inputs that made-up posts give: some seconds for a model of 20 million parameters.
pub fn pack(folder: &ModelFolder) -> Result<Vec<u8>, LoadError> {
    pack_with(folder, WeightRange::Grouped)
}

/// Packs a model with linear layers of a range. With [`WeightRange::Full`] each weight is rounded
/// on its own, in a second; the model is slower on processors that have AVX2 and no more.
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
    let Tokenizer {
        wordpiece,
        unigram,
        bytes: tokenizer,
        posts,
    } = tokenizer(&folder.tokenizer, config, range)?;
    let checkpoint = Checkpoint {
        prefix: prefix(family, &tensors),
        tensors: &tensors,
        family,
        config,
        range,
        posts,
    };
    let meta = Meta {
        name: folder.name.clone(),
        config: config.clone(),
        profile: folder.profile.clone(),
        temperature: folder.temperature,
        head_dense: checkpoint.dense_name().is_some(),
        wordpiece,
        unigram,
    };

    let schema = Schema::new(config, meta.head_dense);
    let sections = Writer::small_sections(&meta) + schema.len();
    let mut writer = Writer::new(&meta, &tokenizer, sections);
    checkpoint.write(&schema, &mut writer)?;
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

/// A tokenizer, read.
struct Tokenizer {
    /// Its rules, if it is BERT's.
    wordpiece: Option<WordPiece>,
    /// Its rules, if it is XLM-RoBERTa's.
    unigram: Option<Unigram>,
    /// The table that goes with the rules, or the file of any other tokenizer.
    bytes: Vec<u8>,
    /// The calibration posts' ids; none where weights are rounded without.
    posts: Vec<Vec<u32>>,
}

/// Reads the tokenizer, sees that the model has an embedding for each of its
/// tokens, and compiles it if it is BERT's or XLM-RoBERTa's. A folder cloned without large file
/// support, which holds a pointer in the file's place, is noticed here too.
fn tokenizer(
    files: &TokenizerFiles,
    config: &ModelConfig,
    range: WeightRange,
) -> Result<Tokenizer, LoadError> {
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
    let posts = match range {
        WeightRange::Full => Vec::new(),
        _ => calibration::tokens::posts(&json, config.max_tokens),
    };
    let (mut wordpiece, mut unigram, mut bytes) = (None, None, bytes);
    if let Some((rules, vocabulary)) = WordPiece::compile(&json) {
        wordpiece = Some(rules);
        bytes = bytemuck::cast_slice(&vocabulary).to_vec();
    } else if let Some((rules, table)) = Unigram::compile(&json) {
        unigram = Some(rules);
        bytes = bytemuck::cast_slice(&table).to_vec();
    }
    Ok(Tokenizer {
        wordpiece,
        unigram,
        bytes,
        posts,
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
struct Checkpoint<'a> {
    tensors: &'a Tensors,
    family: &'static Family,
    prefix: &'static str,
    config: &'a ModelConfig,
    range: WeightRange,
    posts: Vec<Vec<u32>>,
}

impl Checkpoint<'_> {
    /// Fills in every section that the configuration calls for.
    fn write(&self, schema: &Schema<Spec>, writer: &mut Writer) -> Result<(), LoadError> {
        let family = self.family;
        let words = self.word(&schema.word)?;
        writer.section(&schema.word, |sink| {
            sink.put(&words.codes);
            sink.put(&words.scales);
        });
        let positions = self.position(&schema.position)?;
        writer.section(&schema.position, |sink| sink.put(&positions));
        let mut calibration = match self.range {
            WeightRange::Full => None,
            _ => Some(self.calibration(&words, &positions)),
        };
        drop((words, positions));

        let norm = self.encoder(family.embeddings_norm);
        self.norm(writer, &schema.embeddings_norm, &norm, &mut calibration)?;
        if let Some(spec) = &schema.projection {
            let inputs = calibration.as_ref().map(Calibration::inputs);
            let projection =
                self.quantized(spec, &[&self.encoder(family.projection)], inputs.as_ref())?;
            writer.linear(spec, &projection);
            if let (Some(calibration), Some(inputs)) = (&mut calibration, inputs) {
                calibration.replace(inputs.through(&projection));
            }
        }
        for (i, layer) in schema.layers.iter().enumerate() {
            self.layer(writer, layer, i, &mut calibration)?;
        }
        if let (Some(spec), Some(name)) = (&schema.dense, self.dense_name()) {
            self.dense(writer, spec, &name)?;
        }
        self.dense(writer, &schema.classifier, family.classifier)
    }

    /// The calibration posts' embeddings.
    fn calibration(&self, words: &QuantizedRows, positions: &[f32]) -> Calibration {
        let width = words.k;
        Calibration::new(&self.posts, width, |id, position, out| {
            let codes = &words.codes[id as usize * width..][..width];
            let position = &positions[position * width..][..width];
            let scale = words.scales[id as usize];
            let row = codes.iter().zip(position);
            out.extend(row.map(|(&code, position)| f32::from(code) * scale + position));
        })
    }

    fn layer(
        &self,
        writer: &mut Writer,
        layer: &LayerSchema<Spec>,
        i: usize,
        calibration: &mut Option<Calibration>,
    ) -> Result<(), LoadError> {
        let family = self.family;
        let name = |part: &str| self.encoder(&format!("{}.{i}.{part}", family.layer));
        let (query, key, value) = (name(family.query), name(family.key), name(family.value));
        let inputs = calibration.as_ref().map(Calibration::inputs);
        let mut qkv = self.quantized(&layer.qkv, &[&query, &key, &value], inputs.as_ref())?;
        // Attention divides by sqrt(head_dim); folded in here, it costs nothing.
        let factor = 1.0 / (self.config.head_dim() as f32).sqrt();
        qkv.scale_outputs(self.config.hidden_size, factor);
        writer.linear(&layer.qkv, &qkv);

        let is_last = i + 1 == self.config.num_hidden_layers;
        let inputs = inputs
            .zip(calibration.as_mut())
            .map(|(inputs, calibration)| {
                let context = calibration.attention(&inputs.through(&qkv), self.config);
                if !is_last {
                    return context;
                }
                let first = calibration.first_tokens(&context);
                calibration.keep_first_tokens();
                first
            });
        let output = name(family.attention_output);
        self.residual(
            writer,
            &layer.attention_output,
            &output,
            inputs,
            calibration,
        )?;
        let norm = name(family.attention_norm);
        self.norm(writer, &layer.attention_norm, &norm, calibration)?;

        let inputs = calibration.as_ref().map(Calibration::inputs);
        let spec = &layer.intermediate;
        let intermediate = self.quantized(spec, &[&name(family.intermediate)], inputs.as_ref())?;
        writer.linear(spec, &intermediate);
        let activation = self.config.hidden_act;
        let inputs = inputs.map(|it| it.through(&intermediate).activated(activation));
        self.residual(
            writer,
            &layer.output,
            &name(family.output),
            inputs,
            calibration,
        )?;
        let norm = name(family.output_norm);
        self.norm(writer, &layer.output_norm, &norm, calibration)
    }

    /// A linear layer whose outputs are added to the hidden states.
    fn residual(
        &self,
        writer: &mut Writer,
        spec: &Spec,
        name: &str,
        inputs: Option<Activations>,
        calibration: &mut Option<Calibration>,
    ) -> Result<(), LoadError> {
        let linear = self.quantized(spec, &[name], inputs.as_ref())?;
        writer.linear(spec, &linear);
        if let (Some(calibration), Some(inputs)) = (calibration, inputs) {
            calibration.add(&inputs.through(&linear));
        }
        Ok(())
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

    fn word(&self, spec: &Spec) -> Result<QuantizedRows, LoadError> {
        let name = format!("{}.weight", self.encoder(self.family.word));
        let mut rows = QuantizedRows::with_capacity(WeightRange::Full, spec.rows, spec.cols);
        self.tensors
            .get(&name, &[spec.rows, spec.cols])?
            .for_each_row(|row| rows.push(row))?;
        Ok(rows)
    }

    /// The rows that a post can use, with the row of token type 0 added.
    fn position(&self, spec: &Spec) -> Result<Vec<f32>, LoadError> {
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
        Ok(rows)
    }

    fn norm(
        &self,
        writer: &mut Writer,
        spec: &Spec,
        name: &str,
        calibration: &mut Option<Calibration>,
    ) -> Result<(), LoadError> {
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
        if let Some(calibration) = calibration {
            calibration.normalize(&weight, &bias, self.config.layer_norm_eps as f32);
        }
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

    /// Layers of equal size that read the same input, as one.
    fn quantized(
        &self,
        spec: &Spec,
        names: &[&str],
        inputs: Option<&Activations>,
    ) -> Result<QuantizedLinear, LoadError> {
        let (n, k) = (spec.rows / names.len(), spec.cols);
        let mut weights = Vec::new();
        let mut nearest = QuantizedRows::with_capacity(self.range, spec.rows, k);
        let mut bias = Vec::with_capacity(spec.rows);
        for name in names {
            self.tensors
                .get(&format!("{name}.weight"), &[n, k])?
                .for_each_row(|row| match inputs {
                    Some(_) => weights.extend_from_slice(row),
                    None => nearest.push(row),
                })?;
            bias.extend(self.vector(&format!("{name}.bias"), n)?);
        }
        Ok(match inputs {
            Some(inputs) => inputs.statistics().round(self.range, &weights, bias),
            None => QuantizedLinear {
                weight: nearest,
                bias,
            },
        })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.tensors.get(name, &[len])?.to_f32()
    }
}
