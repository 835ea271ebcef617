//! Text to tokens with the vocabulary inside a GGUF file.
//!
//! Special tokens are never made of text: whoever writes `<end_of_turn>` gets the letters. The
//! prompt names its special tokens one by one, with [`Vocabulary::marker`].

use super::decoder::MAX_VOCAB;
use super::gguf::{Gguf, TextAt};
use super::prompt;
use coldread_model::LoadError;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// How `SentencePiece` writes a space.
const SPACE: &str = "\u{2581}";

/// Types of tokens.
const NORMAL: i32 = 1;
const USER_DEFINED: i32 = 4;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A vocabulary and how it is applied.
pub(crate) struct Vocabulary {
    gguf: Arc<Gguf>,
    tokens: Vec<TextAt>,
    types: Vec<i32>,
    /// Ids of all tokens by their text.
    ids: HashTable<u32>,
    hasher: RandomState,
    model: Model,
    /// The token before every prompt.
    bos: Option<u32>,
}

enum Model {
    /// Pieces are merged by their score, best first.
    SentencePiece {
        scores: Vec<f32>,
        add_space_prefix: bool,
        bytes: Box<[Option<u32>; 256]>,
    },
    /// Pieces are merged by a list.
    Bpe(Box<Tokenizer>),
}

impl Vocabulary {
    pub(crate) fn read(gguf: &Arc<Gguf>) -> Result<Self, LoadError> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let missing = |name: &str| gguf.invalid(format!("{} is missing", key(name)));
        let tokens = gguf
            .texts(&key("tokens"))?
            .ok_or_else(|| missing("tokens"))?;
        if tokens.is_empty() || tokens.len() > MAX_VOCAB {
            return Err(gguf.invalid(format!(
                "{} tokens, not between 1 and {MAX_VOCAB}",
                tokens.len()
            )));
        }
        let of_all = |name: &str, len: Option<usize>| match len {
            Some(len) if len != tokens.len() => Err(gguf.invalid(format!(
                "{} has {len} entries for {} tokens",
                key(name),
                tokens.len()
            ))),
            _ => Ok(()),
        };
        let types = gguf.integers(&key("token_type"))?;
        of_all("token_type", types.as_ref().map(Vec::len))?;
        let types = types.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
        let hasher = RandomState::new();
        let mut ids = HashTable::with_capacity(tokens.len());
        let hash = |id: &u32| hasher.hash_one(gguf.text_at(tokens[*id as usize]));
        for id in 0..tokens.len() as u32 {
            let text = gguf.text_at(tokens[id as usize]);
            let same = |other: &u32| gguf.text_at(tokens[*other as usize]) == text;
            // Of tokens with the same text the first counts.
            if let hashbrown::hash_table::Entry::Vacant(entry) =
                ids.entry(hasher.hash_one(text), same, hash)
            {
                entry.insert(id);
            }
        }
        let name = gguf.text(&key("model"))?.ok_or_else(|| missing("model"))?;
        let pre = gguf.text(&key("pre"))?.unwrap_or("default");
        let (model, bos_by_default) = match name {
            "llama" => {
                let scores = gguf
                    .floats(&key("scores"))?
                    .ok_or_else(|| missing("scores"))?;
                of_all("scores", Some(scores.len()))?;
                let model = Model::SentencePiece {
                    scores,
                    add_space_prefix: gguf.bool(&key("add_space_prefix"))?.unwrap_or(true),
                    bytes: Box::new([None; 256]),
                };
                (model, true)
            }
            "gpt2" => {
                let pattern = match pre {
                    "qwen2" => vec![QWEN2],
                    "llama3" | "llama-v3" | "llama-bpe" | "smaug-bpe" => vec![LLAMA3],
                    "smollm" => vec![r"\p{N}", GPT2],
                    "default" | "gpt-2" | "gpt2" => vec![GPT2],
                    other => {
                        return Err(gguf.unsupported(format!(
                            "the tokenizer {other:?}; supported are qwen2, llama-bpe, smollm, \
                             gpt-2 and SentencePiece's"
                        )));
                    }
                };
                let is_llama3 = pattern == [LLAMA3];
                let merges = gguf
                    .texts(&key("merges"))?
                    .ok_or_else(|| missing("merges"))?;
                let bpe = bpe(gguf, &tokens, &types, &merges, &pattern, is_llama3)
                    .map_err(|e| gguf.invalid(format!("the tokenizer: {e}")))?;
                (Model::Bpe(Box::new(bpe)), is_llama3)
            }
            other => {
                return Err(gguf.unsupported(format!(
                    "the tokenizer {other:?}; supported are llama (SentencePiece) and gpt2 (BPE)"
                )));
            }
        };
        let mut vocabulary = Self {
            gguf: Arc::clone(gguf),
            tokens,
            types,
            ids,
            hasher,
            model,
            bos: None,
        };
        if gguf.bool(&key("add_bos_token"))?.unwrap_or(bos_by_default) {
            let bos = gguf.count(&key("bos_token_id"))?;
            vocabulary.bos = match bos.map(u32::try_from) {
                None => None,
                Some(Ok(id)) if (id as usize) < vocabulary.len() => Some(id),
                Some(_) => return Err(gguf.invalid("bos_token_id is not a token")),
            };
        }
        vocabulary.find_bytes();
        // A file may declare them as the user's, which text may become.
        for marker in prompt::markers() {
            if let Some(id) = vocabulary.marker(marker) {
                vocabulary.types[id as usize] = CONTROL;
            }
        }
        Ok(vocabulary)
    }

    fn find_bytes(&mut self) {
        let find = |byte| {
            let id = self.id(format!("<0x{byte:02X}>").as_bytes())?;
            (self.types[id as usize] == BYTE).then_some(id)
        };
        let found: Vec<Option<u32>> = (0..256).map(find).collect();
        if let Model::SentencePiece { bytes, .. } = &mut self.model {
            bytes.copy_from_slice(&found);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        // Strings, tables and merges of the library take about this much for a token.
        const LIBRARY: usize = 400;
        self.len()
            * match &self.model {
                Model::SentencePiece { .. } => 40,
                Model::Bpe(_) => 40 + LIBRARY,
            }
    }

    fn text_of(&self, id: u32) -> &[u8] {
        self.gguf.text_at(self.tokens[id as usize])
    }

    fn id(&self, text: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.ids.find(hash, |&id| self.text_of(id) == text).copied()
    }

    /// The special token with this text.
    pub(crate) fn marker(&self, text: &str) -> Option<u32> {
        let id = self.id(text.as_bytes())?;
        (self.types[id as usize] != NORMAL).then_some(id)
    }

    /// Whether no text makes this token.
    #[cfg(test)]
    pub(crate) fn is_special(&self, id: u32) -> bool {
        !matches!(self.types[id as usize], NORMAL | USER_DEFINED | BYTE)
    }

    /// Appends the tokens of a text, none of which is special. `starts` says that nothing or a
    /// special token is before it, where some vocabularies want a space.
    pub(crate) fn encode(
        &self,
        text: &str,
        starts: bool,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        match &self.model {
            Model::Bpe(tokenizer) => {
                ids.extend_from_slice(tokenizer.encode_fast(text, false)?.get_ids());
            }
            Model::SentencePiece {
                scores,
                add_space_prefix,
                bytes,
            } => {
                let mut pieces = text.replace(' ', SPACE);
                if starts && *add_space_prefix && !text.is_empty() {
                    pieces.insert_str(0, SPACE);
                }
                self.merge(&pieces, scores, bytes, ids)?;
            }
        }
        Ok(())
    }

    /// `SentencePiece`'s BPE: of all neighbours that are a token together, those with the best
    /// score become one, the first of equals first, until there are none. What is no token at
    /// last is written byte by byte.
    fn merge(
        &self,
        text: &str,
        scores: &[f32],
        bytes: &[Option<u32>; 256],
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        let mut pieces: Vec<Piece> = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Piece {
                start,
                len: c.len_utf8(),
                previous: i.checked_sub(1),
                next: Some(i + 1),
            })
            .collect();
        let Some(last) = pieces.last_mut() else {
            return Ok(());
        };
        last.next = None;
        let mut merges = BinaryHeap::new();
        let propose = |pieces: &[Piece], left: usize, merges: &mut BinaryHeap<Merge>| {
            let right = pieces[left].next?;
            let len = pieces[left].len + pieces[right].len;
            let start = pieces[left].start;
            let id = self.text_token(&text.as_bytes()[start..start + len])?;
            merges.push(Merge {
                score: scores[id as usize],
                left,
                right,
                len,
            });
            Some(())
        };
        for left in 0..pieces.len() {
            propose(&pieces, left, &mut merges);
        }
        while let Some(Merge {
            left, right, len, ..
        }) = merges.pop()
        {
            // One of the two may have become part of another piece since.
            let is_stale = pieces[left].len == 0
                || pieces[right].len == 0
                || pieces[left].len + pieces[right].len != len;
            if is_stale {
                continue;
            }
            pieces[left].len = len;
            pieces[right].len = 0;
            pieces[left].next = pieces[right].next;
            if let Some(next) = pieces[right].next {
                pieces[next].previous = Some(left);
            }
            if let Some(previous) = pieces[left].previous {
                propose(&pieces, previous, &mut merges);
            }
            propose(&pieces, left, &mut merges);
        }
        for piece in pieces.iter().filter(|piece| piece.len > 0) {
            let text = &text.as_bytes()[piece.start..piece.start + piece.len];
            if let Some(id) = self.text_token(text) {
                ids.push(id);
                continue;
            }
            for &byte in text {
                ids.push(bytes[byte as usize].ok_or("a character that has no token")?);
            }
        }
        Ok(())
    }

    /// The token that text may become.
    fn text_token(&self, text: &[u8]) -> Option<u32> {
        let id = self.id(text)?;
        matches!(self.types[id as usize], NORMAL | USER_DEFINED).then_some(id)
    }
}

/// A part of the text, in a list from left to right; merged into another it has no length.
struct Piece {
    start: usize,
    len: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

struct Merge {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Merge {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Merge {}

/// A tokenizer of the library that knows no special tokens.
fn bpe(
    gguf: &Gguf,
    tokens: &[TextAt],
    types: &[i32],
    merges: &[TextAt],
    patterns: &[&str],
    ignore_merges: bool,
) -> tokenizers::Result<Tokenizer> {
    let text = |at: TextAt| std::str::from_utf8(gguf.text_at(at)).map(str::to_owned);
    let mut vocabulary = std::collections::HashMap::with_capacity(tokens.len());
    for (id, (&token, &kind)) in (0..).zip(tokens.iter().zip(types)) {
        if kind == NORMAL {
            vocabulary.entry(text(token)?).or_insert(id);
        }
    }
    let mut pairs = Vec::with_capacity(merges.len());
    for &merge in merges {
        let merge = text(merge)?;
        // A token may begin with a space in a vocabulary that is no GPT-2's.
        let (left, right) = merge.split_once(' ').ok_or("a merge without a space")?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(
            vocabulary
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            pairs,
        )
        .ignore_merges(ignore_merges)
        .build()?;
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(tokenizer)
}
