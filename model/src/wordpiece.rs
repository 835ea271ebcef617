//! BERT's tokenizer in a form that is used where it lies.
//!
//! Reading a `tokenizer.json` of 30,000 pieces takes longer than everything else
//! between a process's start and its first response. So packing looks at it once:
//! if it is BERT's in every respect that [`WordPiece::compile`] checks, its rules
//! become a few numbers ([`WordPiece`]) and its vocabulary a hash table
//! ([`Vocabulary`]) that needs no building, only looking up. Any other tokenizer is
//! kept as it is and read by the `tokenizers` library.
//!
//! The table is open addressing with linear probing at a load of at most a half,
//! and FNV-1a for a hash, because it gives the hashes of all of a word's beginnings
//! in one pass. A search touches one slot and one piece's text, two or three cache
//! lines; all of a table of 30,000 pieces is 600 kB, of which a post touches little.

use crate::tokens::{AddedToken, MAX_PIECE, added_tokens, special_tokens};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rules of a tokenizer of BERT's kind.
#[allow(
    clippy::struct_excessive_bools,
    reason = "the four switches of BERT's normalizer, by their names"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordPiece {
    /// Control characters go, and all white space is a space.
    pub clean_text: bool,
    /// Every CJK ideograph is a word.
    pub handle_chinese_chars: bool,
    /// Canonical decomposition, and non-spacing marks go.
    pub strip_accents: bool,
    /// Lower case, character by character.
    pub lowercase: bool,
    /// A longer word is unknown as a whole.
    pub max_input_chars_per_word: usize,
    /// The id of a word that pieces cannot be found for.
    pub unk_id: u32,
    /// The special tokens before a post's own, `[CLS]` in BERT.
    pub before: Vec<u32>,
    /// The special tokens after them, `[SEP]` in BERT.
    pub after: Vec<u32>,
    /// Tokens that are looked for in the text as it is written: printable ASCII.
    pub added_tokens: Vec<(String, u32)>,
}

impl WordPiece {
    /// Takes a `tokenizer.json` apart; gives the rules, and the words of memory of
    /// a [`Vocabulary`]. `None` if it is anything but BERT's tokenizer with added
    /// tokens of the plainest kind.
    pub fn compile(json: &Value) -> Option<(Self, Vec<u32>)> {
        let (normalizer, model) = (&json["normalizer"], &json["model"]);
        let is_bert = normalizer["type"] == "BertNormalizer"
            && json["pre_tokenizer"]["type"] == "BertPreTokenizer"
            && model["type"] == "WordPiece";
        // Words are split at punctuation, so that no word can begin with the mark of a
        // continuation, and pieces with it can be told from those without.
        let prefix = model["continuing_subword_prefix"].as_str()?;
        let is_mark = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_punctuation());
        if !is_bert || !is_mark {
            return None;
        }
        let vocab = model["vocab"].as_object()?;
        let mut pieces = Vec::with_capacity(vocab.len());
        for (text, id) in vocab {
            let id = u32::try_from(id.as_u64()?).ok()?;
            let piece = match text.strip_prefix(prefix) {
                Some(rest) if !rest.is_empty() => Piece::new(id, true, rest),
                _ => Piece::new(id, false, text),
            };
            pieces.push(piece);
        }
        let id_of = |piece: &str| u32::try_from(vocab.get(piece)?.as_u64()?).ok();
        let added_tokens = added_tokens(&json["added_tokens"], id_of)?;
        if added_tokens.iter().any(|token| token.lstrip) {
            return None;
        }
        let lowercase = normalizer["lowercase"].as_bool()?;
        let (before, after) = special_tokens(&json["post_processor"])?;
        let rules = Self {
            clean_text: normalizer["clean_text"].as_bool()?,
            handle_chinese_chars: normalizer["handle_chinese_chars"].as_bool()?,
            strip_accents: normalizer["strip_accents"].as_bool().unwrap_or(lowercase),
            lowercase,
            max_input_chars_per_word: usize::try_from(model["max_input_chars_per_word"].as_u64()?)
                .ok()?,
            unk_id: id_of(model["unk_token"].as_str()?)?,
            before,
            after,
            added_tokens: added_tokens
                .into_iter()
                .map(|AddedToken { content, id, .. }| (content, id))
                .collect(),
        };
        Some((rules, build(&mut pieces)?))
    }
}

/// Marks a free slot.
const FREE: u32 = u32::MAX;
/// Marks, in a slot, a piece that continues a word.
const CONTINUES: u32 = 1 << 31;
/// The table's header: the binary logarithm of the number of slots, the number of
/// ids, the longest piece in bytes, and a zero.
const HEADER: usize = 4;
/// Slots that a search looks at, at most. It bounds what a hostile table can make a search
/// cost. The default model's vocabulary needs 39, random ones of 250,000 pieces up to 43.
const MAX_SLOTS: usize = 128;

/// The hash of the empty beginning of a word, or of the rest of one.
pub const fn hash_start(continues: bool) -> u32 {
    if continues { 0x2f0b_4c47 } else { 0x811c_9dc5 }
}

/// The hash of one byte more: FNV-1a.
#[must_use]
pub const fn hash_next(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

struct Piece<'a> {
    id: u32,
    continues: bool,
    text: &'a str,
}

impl<'a> Piece<'a> {
    fn new(id: u32, continues: bool, text: &'a str) -> Self {
        Self {
            id,
            continues,
            text,
        }
    }
}

/// Writes the table; `None` if two pieces have the same id, an id is too large to be one
/// of a vocabulary that leaves few gaps, or a piece or a search for it is too long.
fn build(pieces: &mut [Piece<'_>]) -> Option<Vec<u32>> {
    pieces.sort_by_key(|piece| piece.id);
    let ids = pieces.last()?.id as usize + 1;
    let is_dense = ids <= 2 * pieces.len() && ids < CONTINUES as usize;
    if !is_dense || pieces.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return None;
    }
    let mut ends = vec![0_u32; ids + 1];
    let mut text = Vec::new();
    let slots_log2 = (2 * pieces.len()).next_power_of_two().ilog2();
    let mut slots = vec![FREE; 1 << slots_log2];
    let mut next = pieces.iter().peekable();
    for id in 0..ids {
        if let Some(piece) = next.next_if(|piece| piece.id as usize == id) {
            text.extend_from_slice(piece.text.as_bytes());
            let start = hash_start(piece.continues);
            let hash = piece.text.bytes().fold(start, hash_next);
            let mut slot = first_slot(hash, slots_log2);
            let mut tried = 1;
            while slots[slot] != FREE {
                slot = (slot + 1) % slots.len();
                tried += 1;
            }
            if tried > MAX_SLOTS {
                return None;
            }
            slots[slot] = piece.id | if piece.continues { CONTINUES } else { 0 };
        }
        ends[id + 1] = u32::try_from(text.len()).ok()?;
    }
    let longest = pieces.iter().map(|piece| piece.text.len()).max()?;
    if longest > MAX_PIECE {
        return None;
    }
    let header = [slots_log2, ids as u32, u32::try_from(longest).ok()?, 0];
    text.resize(text.len().next_multiple_of(size_of::<u32>()), 0);
    let mut table = [&header[..], &slots, &ends].concat();
    table.extend(
        text.as_chunks()
            .0
            .iter()
            .map(|&word| u32::from_ne_bytes(word)),
    );
    Some(table)
}

/// The upper bits of the hash times a number without pattern: FNV's lower bits are
/// its weakest.
const fn first_slot(hash: u32, slots_log2: u32) -> usize {
    (hash.wrapping_mul(0x9e37_79b1) as u64 >> (32 - slots_log2)) as usize
}

/// A vocabulary's hash table, in place.
///
/// Whatever stands in the bytes, looking up neither panics nor goes on forever; what
/// it finds in a damaged table means nothing.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary<'a> {
    slots_log2: u32,
    longest: usize,
    slots: &'a [u32],
    /// Where the text of an id begins; that of the next one ends it.
    ends: &'a [u32],
    text: &'a [u8],
}

impl<'a> Vocabulary<'a> {
    /// Finds the table's parts; `None` if the lengths do not fit, a piece is too long or
    /// `bytes` is not aligned for a u32.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER * size_of::<u32>())?;
        let [slots_log2, ids, longest, _] = *bytemuck::try_cast_slice(header).ok()? else {
            return None;
        };
        if !(1..=30).contains(&slots_log2) || ids >= CONTINUES || longest as usize > MAX_PIECE {
            return None;
        }
        let (slots, rest) = rest.split_at_checked(size_of::<u32>() << slots_log2)?;
        let (ends, text) = rest.split_at_checked(size_of::<u32>() * (ids as usize + 1))?;
        Some(Self {
            slots_log2,
            longest: longest as usize,
            slots: bytemuck::try_cast_slice(slots).ok()?,
            ends: bytemuck::try_cast_slice(ends).ok()?,
            text,
        })
    }

    /// Ids are below this.
    pub fn num_ids(&self) -> usize {
        self.ends.len() - 1
    }

    /// The longest piece in bytes, without the mark of a continuation.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The id of `piece`, whose hash is `hash`: a word's beginning, or what goes on
    /// inside one.
    pub fn find(&self, piece: &[u8], continues: bool, hash: u32) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let first = first_slot(hash, self.slots_log2);
        for i in 0..self.slots.len().min(MAX_SLOTS) {
            let slot = self.slots[(first + i) & mask];
            if slot == FREE {
                return None;
            }
            let id = slot & !CONTINUES;
            if (slot & CONTINUES != 0) == continues && self.text_of(id) == Some(piece) {
                return Some(id);
            }
        }
        None
    }

    fn text_of(&self, id: u32) -> Option<&'a [u8]> {
        let bounds = self.ends.get(id as usize..)?.first_chunk::<2>()?;
        self.text.get(bounds[0] as usize..bounds[1] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bert() -> Value {
        json!({
            "added_tokens": [
                {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false,
                 "rstrip": false, "normalized": false, "special": true}],
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##a": 4, "##": 6, "é": 7}},
        })
    }

    fn find(vocabulary: Vocabulary<'_>, piece: &str, continues: bool) -> Option<u32> {
        let hash = piece.bytes().fold(hash_start(continues), hash_next);
        vocabulary.find(piece.as_bytes(), continues, hash)
    }

    #[test]
    fn pieces_are_found_and_others_are_not() {
        let (rules, bytes) = WordPiece::compile(&bert()).unwrap();
        assert_eq!((rules.unk_id, rules.strip_accents), (0, true));
        assert_eq!((rules.before, rules.after), (vec![1], vec![2]));
        let vocabulary = Vocabulary::new(bytemuck::cast_slice(&bytes)).unwrap();
        assert_eq!((vocabulary.num_ids(), vocabulary.longest()), (8, 5));
        assert_eq!(find(vocabulary, "a", false), Some(3));
        assert_eq!(find(vocabulary, "a", true), Some(4));
        assert_eq!(find(vocabulary, "##", false), Some(6));
        assert_eq!(find(vocabulary, "é", false), Some(7));
        for (piece, continues) in [("é", true), ("b", false), ("", false), ("", true)] {
            assert_eq!(find(vocabulary, piece, continues), None, "{piece}");
        }
    }

    #[test]
    fn what_is_not_quite_bert_is_left_to_the_library() {
        for (pointer, value) in [
            ("/normalizer/type", json!("NFC")),
            ("/pre_tokenizer/type", json!("Whitespace")),
            ("/model/type", json!("BPE")),
            ("/model/continuing_subword_prefix", json!("x")),
            ("/model/vocab/a", json!(0)),
            ("/model/vocab/a", json!(4_000_000)),
            ("/model/unk_token", json!("none")),
            ("/added_tokens/0/lstrip", json!(true)),
            ("/added_tokens/0/normalized", json!(true)),
            ("/added_tokens/0/id", json!(9)),
            ("/added_tokens/0/content", json!("\u{fe0f}")),
            ("/post_processor/type", json!("RobertaProcessing")),
        ] {
            let mut json = bert();
            *json.pointer_mut(pointer).unwrap() = value;
            assert!(WordPiece::compile(&json).is_none(), "{pointer}");
        }
    }

    #[test]
    fn long_pieces_are_left_to_the_library() {
        for (len, compiles) in [(MAX_PIECE, true), (MAX_PIECE + 1, false)] {
            let mut json = bert();
            json["model"]["vocab"]["b".repeat(len)] = json!(5);
            assert_eq!(WordPiece::compile(&json).is_some(), compiles, "{len} bytes");
        }
        let (_, mut table) = WordPiece::compile(&bert()).unwrap();
        table[2] = MAX_PIECE as u32 + 1;
        assert!(Vocabulary::new(bytemuck::cast_slice(&table)).is_none());
    }

    #[test]
    fn a_search_looks_at_a_bounded_number_of_slots() {
        // Ten bits of slots, none of them free: only the first ones after the hash count.
        let text = "a";
        let hash = text.bytes().fold(hash_start(false), hash_next);
        let slots_log2 = 10;
        let first = first_slot(hash, slots_log2);
        for (distance, id) in [(MAX_SLOTS - 1, Some(1)), (MAX_SLOTS, None)] {
            let mut slots = vec![0; 1 << slots_log2];
            slots[(first + distance) % (1 << slots_log2)] = 1;
            let text_word = u32::from_ne_bytes([text.as_bytes()[0], 0, 0, 0]);
            let table = [&[slots_log2, 2, 1, 0], &slots[..], &[0, 0, 1, text_word]].concat();
            let vocabulary = Vocabulary::new(bytemuck::cast_slice(&table)).unwrap();
            assert_eq!(find(vocabulary, text, false), id, "{distance} slots on");
        }
    }

    #[test]
    fn damaged_tables_find_nothing_and_end() {
        let (_, table) = WordPiece::compile(&bert()).unwrap();
        let bytes: &[u8] = bytemuck::cast_slice(&table);
        for len in 0..bytes.len() {
            if let Some(vocabulary) = Vocabulary::new(&bytes[..len]) {
                find(vocabulary, "a", false);
            }
        }
        // No slot is free, and every one leads to a text that is not there.
        let mut full = table.clone();
        full[HEADER..HEADER + (1 << table[0])].fill(0x7f7f_7f7f);
        let full = Vocabulary::new(bytemuck::cast_slice(&full)).unwrap();
        assert_eq!(find(full, "a", false), None);
        let mut huge = table;
        huge[0] = 31;
        assert!(Vocabulary::new(bytemuck::cast_slice(&huge)).is_none());
    }
}
