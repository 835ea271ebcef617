//! A `SentencePiece` model: pieces with their scores, and how text is normalised.
//!
//! The file is one message of protocol buffers, `ModelProto` of
//! `sentencepiece_model.proto`; four of its fields matter here. Each family puts its
//! special tokens before the pieces in a way of its own, which is transformers'.

use super::special::Special;
use super::{SentencePieceOf, surround};
use crate::error::LoadError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn json(
    path: &Path,
    bytes: &[u8],
    of: SentencePieceOf,
    special: &Special,
) -> Result<Value, LoadError> {
    let invalid =
        |reason: &str| LoadError::invalid(path, format!("no SentencePiece model: {reason}"));
    let model = Model::parse(bytes).ok_or_else(|| invalid("its fields are not sound"))?;
    special.check_class(match of {
        SentencePieceOf::XlmRoberta => &["XLMRobertaTokenizer"],
        SentencePieceOf::CamemBert => &["CamembertTokenizer"],
        SentencePieceOf::DebertaV2 => &["DebertaV2Tokenizer"],
    })?;
    if model.kind != UNIGRAM {
        return Err(LoadError::unsupported(
            path,
            "a SentencePiece model of another kind than unigram",
        ));
    }
    let skip = |n: usize| {
        model
            .pieces
            .get(n..)
            .ok_or_else(|| invalid("too few pieces"))
    };
    let extra = |names: &[(&str, f32)]| -> Vec<(String, f32)> {
        names
            .iter()
            .map(|&(name, score)| (name.to_owned(), score))
            .collect()
    };
    let (vocab, unk_id, [start, end]) = match of {
        SentencePieceOf::XlmRoberta => {
            let before = extra(&[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]);
            let vocab = [&before[..], skip(3)?, &extra(&[("<mask>", 0.0)])].concat();
            (vocab, 3, ["<s>", "</s>"])
        }
        SentencePieceOf::CamemBert => {
            let before = extra(&[
                ("<s>NOTUSED", 0.0),
                ("<pad>", 0.0),
                ("</s>NOTUSED", 0.0),
                ("<unk>", 0.0),
                // SentencePiece's own, which must not win over the one above.
                ("<unk>NOTUSED", -100.0),
            ]);
            let vocab = [&before[..], skip(1)?, &extra(&[("<mask>", 0.0)])].concat();
            (vocab, 3, ["<s>", "</s>"])
        }
        SentencePieceOf::DebertaV2 => {
            let mut vocab = model.pieces.clone();
            if !vocab.iter().any(|(piece, _)| piece == "[MASK]") {
                vocab.push(("[MASK]".to_owned(), 0.0));
            }
            (vocab, model.unk_id, ["[CLS]", "[SEP]"])
        }
    };
    let ids: Map<String, Value> = vocab
        .iter()
        .enumerate()
        .map(|(id, (piece, _))| (piece.clone(), id.into()))
        .collect();
    let id = |token: &str| special.id(path, token, &ids);
    let post_processor = surround((start, id(start)?), (end, id(end)?));
    let specials: &[&str] = match of {
        SentencePieceOf::DebertaV2 => &["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"],
        _ => &["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special.added_tokens(specials, |token| id(token).ok()),
        "normalizer": {"type": "Sequence", "normalizers": model.normalizers(of, special)},
        "pre_tokenizer": pre_tokenizer(of),
        "post_processor": post_processor,
        "decoder": metaspace(),
        "model": {"type": "Unigram", "unk_id": unk_id, "vocab": vocab, "byte_fallback": false},
    }))
}

fn metaspace() -> Value {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true})
}

fn pre_tokenizer(of: SentencePieceOf) -> Value {
    match of {
        SentencePieceOf::DebertaV2 => metaspace(),
        _ => json!({
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace()],
        }),
    }
}

/// `TrainerSpec.ModelType.UNIGRAM`, which is also the default.
const UNIGRAM: u64 = 1;

/// What matters of a `ModelProto`.
struct Model {
    pieces: Vec<(String, f32)>,
    kind: u64,
    unk_id: u64,
    precompiled_charsmap: Vec<u8>,
}

impl Model {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            unk_id: 0,
            precompiled_charsmap: Vec::new(),
        };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => model.pieces.push(parse_piece(piece)?),
                // trainer_spec
                (2, Field::Bytes(spec)) => {
                    for field in Fields(spec) {
                        match field? {
                            (3, Field::Int(kind)) => model.kind = kind,
                            (40, Field::Int(id)) => model.unk_id = id,
                            _ => {}
                        }
                    }
                }
                // normalizer_spec
                (3, Field::Bytes(spec)) => {
                    for field in Fields(spec) {
                        if let (2, Field::Bytes(map)) = field? {
                            model.precompiled_charsmap = map.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }

    fn normalizers(&self, of: SentencePieceOf, special: &Special) -> Vec<Value> {
        let mut steps = Vec::new();
        let is_deberta = of == SentencePieceOf::DebertaV2;
        if is_deberta && special.switch("do_lower_case") == Some(true) {
            steps.push(json!({"type": "Lowercase"}));
        }
        if is_deberta {
            steps.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        }
        if !self.precompiled_charsmap.is_empty() {
            let map = BASE64_STANDARD.encode(&self.precompiled_charsmap);
            steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
        }
        // CamemBERT and XLM-RoBERTa split at white space anyway.
        let pattern = if is_deberta {
            r"\s{2,}|[\n\r\t]"
        } else {
            " {2,}"
        };
        let spaces = json!({"Regex": pattern});
        steps.push(json!({"type": "Replace", "pattern": spaces, "content": " "}));
        steps
    }
}

/// `SentencePiece`: the text and its score.
fn parse_piece(bytes: &[u8]) -> Option<(String, f32)> {
    let (mut text, mut score) = (String::new(), 0.0);
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => str::from_utf8(bytes).ok()?.clone_into(&mut text),
            (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
            _ => {}
        }
    }
    score.is_finite().then_some((text, score))
}

/// A field of a message.
enum Field<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Other,
}

/// The fields of a message with their numbers; `None` at one that is not sound, and then
/// the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Int(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
