//! The packed model: one file that the kernels read in place.
//!
//! Opening is mapping the file and checking its header, section table and
//! configuration, a few kilobytes whatever the model's size: no weight is read,
//! converted or copied before the first post needs it. What is checked then is
//! all that memory safety rests on: every section lies within the file, on a
//! 64-byte boundary, and has the kind, shape and length that the configuration
//! calls for. The views of a model opened so cannot reach outside their
//! sections, whoever made the file.
//!
//! Whether the weights are those that were packed is another question, which
//! takes reading all of them: [`PackedModel::verify`] compares every byte with
//! its checksum. `docs/internals/packed-format.md` specifies the format.
//!
//! | module | what it holds |
//! |---|---|
//! | `format` | header, section table, checksums: bytes, not models |
//! | `schema` | which sections a configuration calls for |
//! | `storage` | mapped, static or owned bytes |
//! | `views` | sections as the views of [`layout`] |
//! | `writer` | the other direction |

mod format;
mod schema;
mod storage;
mod views;
mod writer;

use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::folder::check_temperature;
use crate::layout;
use crate::mapped;
use crate::profile::NormalizationProfile;
use crate::unigram::{self, Unigram};
use crate::wordpiece::{Vocabulary, WordPiece};
use format::{Refusal, Table, invalid, unsupported};
use layout::WeightRange;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::Storage;
use views::Section;

pub use format::Kind;
pub(crate) use schema::{LayerSchema, Meta, Schema, Spec, head_activation};
pub(crate) use writer::Writer;

/// The most bytes of configuration that are read at opening.
const MAX_META: usize = 16 << 20;

/// What stands for a file's name in errors about bytes that came from none.
const IN_MEMORY: &str = "packed model in memory";

/// A packed model, ready to run. Cloning it shares it.
#[derive(Clone)]
pub struct PackedModel(Arc<Inner>);

struct Inner {
    path: PathBuf,
    storage: Storage,
    fingerprint: u64,
    meta: Meta,
    activation: layout::HeadActivation,
    tokenizer: Range<usize>,
    emoji: Option<Range<usize>>,
    sections: Schema<Section>,
}

/// A packed model's tokenizer.
#[derive(Debug, Clone, Copy)]
pub enum PackedTokenizer<'a> {
    /// BERT's, used in place.
    WordPiece(&'a WordPiece, Vocabulary<'a>),
    /// XLM-RoBERTa's, used in place.
    Unigram(&'a Unigram, unigram::Table<'a>),
    /// Any other: `tokenizer.json`, byte for byte.
    Json(&'a [u8]),
}

/// What the section table says of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionInfo {
    /// The section's name.
    pub name: String,
    /// What its bytes are; `None` for a kind that this release does not know.
    pub kind: Option<Kind>,
    /// Rows (output channels) and columns (inputs), zero for plain bytes.
    pub shape: [usize; 2],
    /// Where the section begins in the file.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
}

impl PackedModel {
    /// Reads a packed model into memory and checks it as [`PackedModel::map`] does.
    ///
    /// # Errors
    /// If the file cannot be read or is not a sound packed model.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let bytes = crate::error::read(path)?;
        Self::new(Storage::new(bytes.into()), path.to_owned())
    }

    /// Maps a packed model into memory and checks its header, section table and configuration;
    /// see [`PackedModel::verify`] for the weights. Pages are read when they are first used and
    /// are shared between processes.
    ///
    /// **The file must not change while it is mapped**: replace it by renaming a new one over
    /// it. A file that is truncated in place ends the process with SIGBUS, and one that is
    /// overwritten in place changes scores. [`PackedModel::open`] has no such condition.
    ///
    /// # Errors
    /// If the file cannot be mapped or is not a sound packed model.
    pub fn map(path: &Path) -> Result<Self, LoadError> {
        Self::new(Storage::Mapped(mapped::map(path)?), path.to_owned())
    }

    /// Takes a packed model from memory: in place if it begins on a 64-byte
    /// boundary, as one that is part of the program should, else from a copy.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, LoadError> {
        Self::new(Storage::new(bytes.into()), IN_MEMORY.into())
    }

    fn new(storage: Storage, path: PathBuf) -> Result<Self, LoadError> {
        let checked = check(storage.bytes(), &path)?;
        Ok(Self(Arc::new(Inner {
            path,
            storage,
            fingerprint: checked.fingerprint,
            meta: checked.meta,
            activation: checked.activation,
            tokenizer: checked.tokenizer,
            emoji: checked.emoji,
            sections: checked.sections,
        })))
    }

    /// Reads the whole file and sees that it is what was packed: every checksum
    /// matches, column sums are the sums of their columns, scales are finite, and what a table
    /// of pieces leads to is in it.
    pub fn verify(&self) -> Result<(), LoadError> {
        let bytes = self.bytes();
        Table::parse(bytes)
            .and_then(|table| table.verify(bytes))
            .and_then(|()| self.verify_values())
            .map_err(|refusal| refusal.about(&self.0.path))
    }

    fn verify_values(&self) -> Result<(), Refusal> {
        views::verify_scales("embeddings.word", self.embeddings().word.scales)?;
        if let PackedTokenizer::Unigram(_, table) = self.tokenizer()
            && !table.is_sound()
        {
            return invalid("section unigram is no sound table of pieces");
        }
        for (name, linear) in self.linears() {
            views::verify_range(&name, &linear)?;
            views::verify_linear(&name, &linear)?;
        }
        Ok(())
    }

    /// Reads all weights that the table calls narrow and sees that they are. Kernels that rest
    /// on it would saturate otherwise; bytes that are part of the program are not read again,
    /// for whoever built the program has verified them.
    ///
    /// # Errors
    /// If a weight lies outside of its section's range.
    pub fn verify_ranges(&self) -> Result<(), LoadError> {
        if matches!(self.0.storage, Storage::Static(_)) {
            return Ok(());
        }
        for (name, linear) in self.linears() {
            views::verify_range(&name, &linear).map_err(|e| e.about(&self.0.path))?;
        }
        Ok(())
    }

    /// Every int8 linear layer and its section's name.
    fn linears(&self) -> impl Iterator<Item = (String, layout::Linear<'_>)> {
        let projection = self.embeddings().projection;
        let projection = projection.map(|linear| ("embeddings.projection".to_owned(), linear));
        let layers = (0..self.config().num_hidden_layers).flat_map(|i| {
            let layer = self.layer(i);
            [
                ("qkv", layer.qkv),
                ("attention_output", layer.attention_output),
                ("intermediate", layer.intermediate),
                ("output", layer.output),
            ]
            .map(|(name, linear)| (format!("layers.{i}.{name}"), linear))
        });
        projection.into_iter().chain(layers)
    }

    /// Where the model came from, for messages.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.0.storage.bytes()
    }

    /// A number that differs between models: the checksum of all checksums.
    pub fn fingerprint(&self) -> u64 {
        self.0.fingerprint
    }

    /// What the model is called in results.
    pub fn name(&self) -> &str {
        &self.0.meta.name
    }

    /// Architecture, sizes and labels.
    pub fn config(&self) -> &ModelConfig {
        &self.0.meta.config
    }

    /// How the model wants its text normalised.
    pub fn profile(&self) -> Option<&NormalizationProfile> {
        self.0.meta.profile.as_ref()
    }

    /// Logits are divided by this before softmax or sigmoid.
    pub fn temperature(&self) -> f32 {
        self.0.meta.temperature
    }

    /// The lines of the emoji table that the profile names, for
    /// [`emoji_words`](crate::profile::emoji_words); nothing where it names none.
    pub fn emoji_table(&self) -> &[u8] {
        let table = self.0.emoji.clone().unwrap_or_default();
        &self.bytes()[table]
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> PackedTokenizer<'_> {
        let bytes = &self.bytes()[self.0.tokenizer.clone()];
        match (&self.0.meta.wordpiece, &self.0.meta.unigram) {
            (Some(rules), _) => {
                let vocabulary = Vocabulary::new(bytes).expect("checked at opening");
                PackedTokenizer::WordPiece(rules, vocabulary)
            }
            (None, Some(rules)) => {
                let table = unigram::Table::new(bytes).expect("checked at opening");
                PackedTokenizer::Unigram(rules, table)
            }
            (None, None) => PackedTokenizer::Json(bytes),
        }
    }

    /// The bytes of any section.
    pub fn section(&self, name: &str) -> Option<&[u8]> {
        let table = Table::parse(self.bytes()).ok()?;
        let entry = table.entries.iter().find(|entry| entry.name == name)?;
        self.bytes().get(entry.place())
    }

    /// The sections in the order of the file.
    pub fn sections(&self) -> Vec<SectionInfo> {
        let entries = Table::parse(self.bytes()).map_or(Vec::new(), |table| table.entries);
        entries
            .iter()
            .map(|entry| SectionInfo {
                name: entry.name.to_owned(),
                kind: entry.kind,
                shape: [entry.rows as usize, entry.cols as usize],
                offset: entry.start,
                len: entry.len,
            })
            .collect()
    }

    /// The embeddings.
    pub fn embeddings(&self) -> layout::Embeddings<'_> {
        let (bytes, sections) = (self.bytes(), &self.0.sections);
        layout::Embeddings {
            word: sections.word.embedding(bytes),
            position: sections.position.matrix(bytes),
            norm: sections.embeddings_norm.norm(bytes),
            projection: sections.projection.as_ref().map(|s| s.linear(bytes)),
        }
    }

    /// An encoder layer, `i` from 0 to below `num_hidden_layers`.
    pub fn layer(&self, i: usize) -> layout::Layer<'_> {
        let (bytes, sections) = (self.bytes(), &self.0.sections.layers[i]);
        layout::Layer {
            qkv: sections.qkv.linear(bytes),
            attention_output: sections.attention_output.linear(bytes),
            attention_norm: sections.attention_norm.norm(bytes),
            intermediate: sections.intermediate.linear(bytes),
            output: sections.output.linear(bytes),
            output_norm: sections.output_norm.norm(bytes),
        }
    }

    /// The classification head. Without `dense`, `activation` applies to nothing.
    pub fn head(&self) -> layout::Head<'_> {
        let (bytes, sections) = (self.bytes(), &self.0.sections);
        layout::Head {
            dense: sections.dense.as_ref().map(|s| s.dense(bytes)),
            activation: self.0.activation,
            classifier: sections.classifier.dense(bytes),
        }
    }
}

/// The whole file.
impl AsRef<[u8]> for PackedModel {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for PackedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedModel")
            .field("path", &self.0.path)
            .field("name", &self.0.meta.name)
            .field("fingerprint", &format_args!("{:016x}", self.0.fingerprint))
            .finish_non_exhaustive()
    }
}

impl Refusal {
    fn about(self, path: &Path) -> LoadError {
        match self {
            Self::Invalid(reason) => LoadError::invalid(path, reason),
            Self::Unsupported(reason) => LoadError::unsupported(path, reason),
        }
    }
}

/// What opening finds out.
struct Checked {
    fingerprint: u64,
    meta: Meta,
    activation: layout::HeadActivation,
    tokenizer: Range<usize>,
    emoji: Option<Range<usize>>,
    sections: Schema<Section>,
}

fn check(bytes: &[u8], path: &Path) -> Result<Checked, LoadError> {
    let refused = |refusal: Refusal| refusal.about(path);
    let table = Table::parse(bytes).map_err(refused)?;
    let index = Index::new(&table).map_err(refused)?;

    let meta = index.small(schema::META, bytes).map_err(refused)?;
    let meta: Meta = serde_json::from_slice(meta)
        .map_err(|e| LoadError::invalid(path, format!("section {}: {e}", schema::META)))?;
    meta.config
        .check()
        .and_then(|()| check_temperature(meta.temperature))
        .map_err(|e| LoadError::invalid(path, format!("section {}: {e}", schema::META)))?;
    let mut emoji = None;
    if let Some(profile) = &meta.profile {
        profile.check(path)?;
        if profile.emoji.is_some() {
            emoji = Some(index.bytes(schema::EMOJI).map_err(refused)?);
        }
    }
    let architecture = meta.config.architecture;
    let activation = head_activation(architecture).ok_or_else(|| {
        LoadError::unsupported(
            path,
            format!("models of the architecture {architecture:?} cannot be packed"),
        )
    })?;
    let tokenizer = index.bytes(meta.tokenizer()).map_err(refused)?;
    check_tokenizer(&meta, &bytes[tokenizer.clone()]).map_err(refused)?;
    let sections = Schema::new(&meta.config, meta.head_dense)
        .try_map(|spec| index.section(&spec))
        .map_err(refused)?;
    Ok(Checked {
        fingerprint: table.checksum,
        meta,
        activation,
        tokenizer,
        emoji,
        sections,
    })
}

/// Sees that a tokenizer that is used in place has its parts, and that every id of its rules and
/// of the pieces that it counts has an embedding. What stands in a table of pieces is not read.
fn check_tokenizer(meta: &Meta, bytes: &[u8]) -> Result<(), Refusal> {
    let (pieces, ids) = if let Some(rules) = &meta.wordpiece {
        let Some(vocabulary) = Vocabulary::new(bytes) else {
            return invalid("section vocabulary is no table of pieces");
        };
        let added: Vec<u32> = rules.added_tokens.iter().map(|(_, id)| *id).collect();
        let ids = [&rules.before[..], &rules.after, &[rules.unk_id], &added];
        (vocabulary.num_ids(), ids.concat())
    } else if let Some(rules) = &meta.unigram {
        let Some(table) = unigram::Table::new(bytes).filter(|_| rules.is_sound()) else {
            return invalid("section unigram is no table of pieces");
        };
        (table.num_ids(), rules.ids())
    } else {
        return Ok(());
    };
    let largest = ids.iter().max();
    let ids = pieces.max(largest.map_or(0, |&id| id as usize + 1));
    if ids > meta.config.vocab_size {
        return invalid(format!(
            "the tokenizer has ids up to {}, but vocab_size is {}",
            ids - 1,
            meta.config.vocab_size
        ));
    }
    Ok(())
}

/// The section table by name.
struct Index<'a>(HashMap<&'a str, format::Entry<'a>>);

impl<'a> Index<'a> {
    fn new(table: &Table<'a>) -> Result<Self, Refusal> {
        let mut index = HashMap::with_capacity(table.entries.len());
        for entry in &table.entries {
            if index.insert(entry.name, *entry).is_some() {
                return invalid(format!("section {} stands in the file twice", entry.name));
            }
        }
        Ok(Self(index))
    }

    fn entry(&self, name: &str, kind: Kind) -> Result<&format::Entry<'a>, Refusal> {
        match self.0.get(name) {
            None => invalid(format!("section {name} is missing")),
            Some(entry) if entry.kind != Some(kind) => invalid(format!(
                "section {name} is {:?}; it must be {kind:?}",
                entry.kind
            )),
            Some(entry) => Ok(entry),
        }
    }

    /// The place of a section of plain bytes.
    fn bytes(&self, name: &str) -> Result<Range<usize>, Refusal> {
        Ok(self.entry(name, Kind::Bytes)?.place())
    }

    /// A section that is small enough to be read, and its checksum compared, at
    /// opening.
    fn small<'b>(&self, name: &str, file: &'b [u8]) -> Result<&'b [u8], Refusal> {
        let entry = self.entry(name, Kind::Bytes)?;
        if entry.len > MAX_META {
            return invalid(format!("section {name} has {} bytes", entry.len));
        }
        entry.checked(file)
    }

    /// The place of a section, seen to be what the configuration calls for.
    fn section(&self, spec: &Spec) -> Result<Section, Refusal> {
        let name = &spec.name;
        let entry = self.entry(name, spec.kind)?;
        let shape = (entry.rows as usize, entry.cols as usize);
        if shape != (spec.rows, spec.cols) {
            return invalid(format!(
                "section {name} has shape {shape:?}; the configuration calls for {:?}",
                (spec.rows, spec.cols)
            ));
        }
        if entry.len as u64 != spec.len() {
            return invalid(format!(
                "section {name} has {} bytes; its shape takes {}",
                entry.len,
                spec.len()
            ));
        }
        let range = match (spec.kind, entry.range) {
            (_, 0) => WeightRange::Full,
            // Range 2, of earlier releases: narrow, with bounded sums of groups of four.
            (Kind::Linear, 1 | 2) => WeightRange::Narrow,
            (Kind::Linear, 3) => WeightRange::Grouped,
            (_, other) => {
                return unsupported(format!(
                    "section {name} has weights of range {other}, which this release does not \
                     know; pack the model with this release"
                ));
            }
        };
        Ok(Section {
            start: entry.start,
            rows: spec.rows,
            cols: spec.cols,
            range,
        })
    }
}
