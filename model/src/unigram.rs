//! XLM-RoBERTa's tokenizer in a form that is used where it lies.
//!
//! `SentencePiece` gives each piece a score, and a word becomes those pieces that have the
//! largest sum. The `tokenizers` library reads 250,000 pieces and builds a tree of hash
//! maps of them at every start, which takes longer than everything else. So packing looks
//! at the `tokenizer.json` once: if it is XLM-RoBERTa's in every respect that
//! [`Unigram::compile`] checks, its rules become a few numbers ([`Unigram`]), and its pieces
//! and its character map one [`Table`] that needs no building.
//!
//! `docs/internals/packed-format.md` has the table's layout.

use crate::tokens::{AddedToken, MAX_PIECE, added_tokens, special_tokens};
use crate::trie::{self, Trie};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::slice;

/// Stands for a space, and begins every word.
pub const SPACE: char = '\u{2581}';

/// How much worse than the worst piece a character without a piece is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Bytes of the longest replacement of a character. It bounds how much a hostile table can
/// make a text grow. The longest of XLM-RoBERTa's, for U+FDFA, has 33.
const MAX_REPLACEMENT: usize = 64;

/// Rules of a tokenizer of XLM-RoBERTa's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unigram {
    /// All white space separates words and is dropped. Otherwise only spaces separate
    /// words, and each begins one.
    pub split_whitespace: bool,
    /// White space at a text's end is dropped.
    pub trim_end: bool,
    /// Spaces in a row are one.
    pub merge_spaces: bool,
    /// The id of characters that no piece has.
    pub unk_id: u32,
    /// The special tokens before a post's own, `<s>` in XLM-RoBERTa.
    pub before: Vec<u32>,
    /// The special tokens after them, `</s>` in XLM-RoBERTa.
    pub after: Vec<u32>,
    /// Tokens that are looked for in the text as it is written, the longest first.
    pub added_tokens: Vec<AddedToken>,
}

impl Unigram {
    /// Takes a `tokenizer.json` apart; gives the rules, and the words of memory of a
    /// [`Table`]. `None` if it is anything but XLM-RoBERTa's tokenizer with added tokens of
    /// the plainest kind.
    pub fn compile(json: &Value) -> Option<(Self, Vec<u64>)> {
        let model = &json["model"];
        let falls_back = !matches!(model["byte_fallback"], Value::Null | Value::Bool(false));
        if model["type"] != "Unigram" || falls_back {
            return None;
        }
        let split_whitespace = pre_tokenizer(&json["pre_tokenizer"])?;
        let Normalizer {
            charsmap,
            trim_end,
            merge_spaces,
        } = Normalizer::parse(&json["normalizer"], split_whitespace)?;
        let (before, after) = special_tokens(&json["post_processor"])?;

        let mut scores = Vec::new();
        // Of two equal pieces the later one counts, as in the library.
        let mut ids = BTreeMap::new();
        for (id, piece) in (0..).zip(model["vocab"].as_array()?) {
            ids.insert(piece[0].as_str()?, id);
            scores.push(piece[1].as_f64()?);
        }
        let unk_id = u32::try_from(model["unk_id"].as_u64()?).ok()?;
        let id_of = |piece: &str| ids.get(piece).copied();
        let added_tokens = added_tokens(&json["added_tokens"], id_of)?;
        // Zero bytes end a key, in texts too.
        let is_key = |piece: &&str| !piece.contains('\0') && piece.len() <= MAX_PIECE;
        if !ids.keys().all(is_key) || unk_id as usize >= scores.len() {
            return None;
        }
        let keys = ids.iter().filter(|(piece, _)| !piece.is_empty());
        let keys: Vec<_> = keys.map(|(piece, &id)| (piece.as_bytes(), id)).collect();
        let rules = Self {
            split_whitespace,
            trim_end,
            merge_spaces,
            unk_id,
            before,
            after,
            added_tokens,
        };
        Some((rules, table(&scores, &trie::build(&keys)?, &charsmap)?))
    }

    /// Whether the added tokens are such as [`Unigram::compile`] takes.
    pub(crate) fn is_sound(&self) -> bool {
        self.added_tokens.iter().all(AddedToken::is_graphic)
    }

    /// Every id that stands in the rules.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let added: Vec<u32> = self.added_tokens.iter().map(|token| token.id).collect();
        [&self.before[..], &self.after, &[self.unk_id], &added].concat()
    }
}

/// What the normalizer does, in this order.
struct Normalizer {
    charsmap: Charsmap,
    trim_end: bool,
    merge_spaces: bool,
}

impl Normalizer {
    fn parse(json: &Value, split_whitespace: bool) -> Option<Self> {
        let mut steps = match &json["type"] {
            Value::Null if json.is_null() => &[],
            kind if kind == "Sequence" => &json["normalizers"].as_array()?[..],
            _ => slice::from_ref(json),
        };
        let mut next = |is_next: &dyn Fn(&Value) -> bool| {
            let (step, rest) = steps.split_first().filter(|(step, _)| is_next(step))?;
            steps = rest;
            Some(step)
        };
        let charsmap = match next(&|step| step["type"] == "Precompiled") {
            None => Charsmap::default(),
            Some(step) => {
                let base64 = step["precompiled_charsmap"].as_str()?;
                Charsmap::parse(&BASE64_STANDARD.decode(base64).ok()?)?
            }
        };
        let trim = json!({"type": "Strip", "strip_left": false, "strip_right": true});
        let trim_end = next(&|step| *step == trim).is_some();
        let merge = |one| json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": one});
        let merge_spaces = next(&|step| {
            // What spaces become in the end; white space is not split there any more.
            *step == merge(' ') || !split_whitespace && *step == merge(SPACE)
        });
        let merge_spaces = merge_spaces.is_some();
        steps.is_empty().then_some(Self {
            charsmap,
            trim_end,
            merge_spaces,
        })
    }
}

/// Whether the pre-tokenizer splits at all white space or only at spaces.
fn pre_tokenizer(json: &Value) -> Option<bool> {
    let (split_whitespace, metaspace) = match json["pretokenizers"].as_array() {
        None => (false, json),
        Some(steps) => match &steps[..] {
            [split, metaspace] if split["type"] == "WhitespaceSplit" => (true, metaspace),
            _ => return None,
        },
    };
    let is = |name: &str, value: Value| metaspace[name] == value;
    // What the library takes for granted where the file says nothing.
    let is_or_absent = |name: &str, value: Value| metaspace[name].is_null() || is(name, value);
    let is_sequence = json["type"] == "Sequence";
    let is_xlm_robertas = is_sequence == split_whitespace
        && is("type", json!("Metaspace"))
        && is("replacement", json!(SPACE))
        && is_or_absent("prepend_scheme", json!("always"))
        && is_or_absent("add_prefix_space", json!(true))
        && is_or_absent("split", json!(true));
    is_xlm_robertas.then_some(split_whitespace)
}

/// What characters become before a text is cut: `SentencePiece`'s `precompiled_charsmap`.
#[derive(Default)]
struct Charsmap {
    /// From a character, or some that belong together, to a place in `text`.
    trie: Vec<u32>,
    /// Replacements, each up to a zero byte.
    text: String,
}

impl Charsmap {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&len, rest) = bytes.split_first_chunk()?;
        let len = u32::from_le_bytes(len) as usize / size_of::<u32>();
        let (trie, text) = rest.split_at_checked(len * size_of::<u32>())?;
        let units = trie.as_chunks().0.iter();
        let charsmap = Self {
            trie: units.map(|&unit| u32::from_le_bytes(unit)).collect(),
            text: str::from_utf8(text).ok()?.to_owned(),
        };
        // The library takes whatever stands in a value's place.
        let is_whole = !charsmap.trie.is_empty() && Trie::new(&charsmap.trie).has_all_values();
        is_whole.then_some(charsmap)
    }
}

/// The words of memory of a [`Table`]; `None` if its parts are not sound.
fn table(scores: &[f64], pieces: &[u32], charsmap: &Charsmap) -> Option<Vec<u64>> {
    let mut bytes: Vec<u8> = Vec::new();
    let header = [
        scores.len() as u64,
        pieces.len() as u64,
        charsmap.trie.len() as u64,
        unknown_score(scores).to_bits(),
    ];
    bytes.extend_from_slice(bytemuck::cast_slice(&header));
    bytes.extend_from_slice(bytemuck::cast_slice(scores));
    bytes.extend_from_slice(bytemuck::cast_slice(pieces));
    bytes.extend_from_slice(bytemuck::cast_slice(&charsmap.trie));
    bytes.extend_from_slice(charsmap.text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), 0);
    let words = bytes.as_chunks().0.iter();
    let words: Vec<u64> = words.map(|&word| u64::from_ne_bytes(word)).collect();
    Table::new(bytemuck::cast_slice(&words))?
        .is_sound()
        .then_some(words)
}

/// The score of a character that no piece has.
fn unknown_score(scores: &[f64]) -> f64 {
    let lesser = |a: f64, &b: &f64| if b < a { b } else { a };
    scores.iter().fold(f64::INFINITY, lesser) - UNKNOWN_PENALTY
}

/// Pieces with their scores and the character map, in place.
///
/// Whatever stands in the bytes, looking up neither panics nor goes on forever; what it
/// finds in a damaged table means nothing. [`Table::is_sound`] notices damage.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    unknown_score: f64,
    scores: &'a [f64],
    pieces: Trie<'a>,
    charsmap: Trie<'a>,
    replacements: &'a [u8],
}

impl<'a> Table<'a> {
    /// Finds the table's parts; `None` if the lengths do not fit or `bytes` is not aligned
    /// for a u64.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(4 * size_of::<u64>())?;
        let [ids, pieces, charsmap, unknown_score] = *bytemuck::try_cast_slice(header).ok()? else {
            return None;
        };
        let len = |count: u64, size: usize| usize::try_from(count).ok()?.checked_mul(size);
        let (scores, rest) = rest.split_at_checked(len(ids, size_of::<f64>())?)?;
        let (pieces, rest) = rest.split_at_checked(len(pieces, size_of::<u32>())?)?;
        let (charsmap, replacements) = rest.split_at_checked(len(charsmap, size_of::<u32>())?)?;
        Some(Self {
            unknown_score: f64::from_bits(unknown_score),
            scores: bytemuck::try_cast_slice(scores).ok()?,
            pieces: Trie::new(bytemuck::try_cast_slice(pieces).ok()?),
            charsmap: Trie::new(bytemuck::try_cast_slice(charsmap).ok()?),
            replacements,
        })
    }

    /// Reads all of it and sees that every place, id and score in it is one.
    pub fn is_sound(&self) -> bool {
        let ids = self.scores.len();
        if str::from_utf8(self.replacements).is_err() {
            return false;
        }
        self.scores.iter().all(|score| score.is_finite())
            && self.unknown_score.to_bits() == unknown_score(self.scores).to_bits()
            && self.pieces.is_sound(|id| (id as usize) < ids)
            && self
                .charsmap
                .is_sound(|start| self.replacement_at(start).is_some())
    }

    /// Ids are below this.
    pub fn num_ids(&self) -> usize {
        self.scores.len()
    }

    /// The pieces that `text` begins with, the shortest first: their lengths and ids.
    pub fn pieces(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        self.pieces.prefixes(&text[..text.len().min(MAX_PIECE)])
    }

    /// The id of the piece that is `text`.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        self.pieces.get(text)
    }

    /// The logarithm of a piece's probability.
    pub fn score(&self, id: u32) -> f64 {
        self.scores
            .get(id as usize)
            .copied()
            .unwrap_or(self.unknown_score)
    }

    /// The score of a character that no piece has.
    pub fn unknown_score(&self) -> f64 {
        self.unknown_score
    }

    /// What `text` becomes if the character map has it, or something that it begins with.
    pub fn replacement(&self, text: &str) -> Option<&'a str> {
        let text = text.as_bytes();
        let text = &text[..text.len().min(MAX_PIECE)];
        let (_, start) = self.charsmap.prefixes(text).next()?;
        self.replacement_at(start)
    }

    /// The replacement that begins at `start`: up to a zero byte or the end.
    fn replacement_at(&self, start: u32) -> Option<&'a str> {
        let rest = self.replacements.get(start as usize..)?;
        let mut ends = rest.iter().take(MAX_REPLACEMENT + 1);
        let end = match ends.position(|&b| b == 0) {
            Some(end) => end,
            None if rest.len() <= MAX_REPLACEMENT => rest.len(),
            None => return None,
        };
        str::from_utf8(&rest[..end]).ok()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// Full-width letters become plain ones, and a soft hyphen goes.
    fn charsmap() -> String {
        charsmap_of("\0A\0\u{c5}\0")
    }

    /// The same with other replacements, which begin at bytes 0, 1 and 3.
    fn charsmap_of(replacements: &str) -> String {
        let keys: [(&[u8], u32); 3] = [
            ("\u{ad}".as_bytes(), 0),
            ("\u{ff21}".as_bytes(), 1),
            ("\u{ff21}\u{30a}".as_bytes(), 3),
        ];
        let trie = trie::build(&keys).unwrap();
        let len = (trie.len() * size_of::<u32>()) as u32;
        let words = [&[len], &trie[..]].concat();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(replacements.as_bytes());
        BASE64_STANDARD.encode(bytes)
    }

    fn xlm_roberta() -> Value {
        let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        json!({
            "added_tokens": [
                {"id": 2, "content": "<mask>", "single_word": false, "lstrip": true,
                 "rstrip": false, "normalized": false, "special": true}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap()},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}",
                "prepend_scheme": "always", "split": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [special("<s>"), {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": false, "vocab": [
                ["<s>", 0.0], ["<unk>", 0.0], ["<mask>", 0.0], ["A", -1.5], ["AB", -2.5],
                ["\u{c5}", -3.25]]},
        })
    }

    fn table_of(words: &[u64]) -> Option<Table<'_>> {
        Table::new(bytemuck::cast_slice(words))
    }

    #[test]
    fn pieces_scores_and_replacements_are_found() {
        let (rules, words) = Unigram::compile(&xlm_roberta()).unwrap();
        assert!(rules.merge_spaces && !rules.trim_end && !rules.split_whitespace);
        assert_eq!(
            (rules.unk_id, rules.before, rules.after),
            (1, vec![0], vec![])
        );
        assert!(rules.added_tokens[0].lstrip);
        let table = table_of(&words).unwrap();
        assert!(table.is_sound());
        assert_eq!(table.num_ids(), 6);
        assert_eq!(table.pieces(b"ABA").collect::<Vec<_>>(), [(1, 3), (2, 4)]);
        assert_eq!((table.find(b"AB"), table.find(b"B")), (Some(4), None));
        assert_eq!((table.score(5), table.unknown_score()), (-3.25, -13.25));
        for (text, replacement) in [
            ("\u{ff21}", Some("A")),
            ("\u{ad}", Some("")),
            // The shortest that it begins with counts, as in the library.
            ("\u{ff21}\u{30a}", Some("A")),
            ("A", None),
            ("", None),
        ] {
            assert_eq!(table.replacement(text), replacement, "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_xlm_robertas_is_left_to_the_library() {
        for (pointer, value) in [
            ("/model/type", json!("BPE")),
            ("/model/byte_fallback", json!(true)),
            ("/model/unk_id", json!(6)),
            ("/model/vocab/3", json!(["A"])),
            ("/model/vocab/3/0", json!("A\0")),
            (
                "/normalizer/normalizers/0/precompiled_charsmap",
                json!("AAAAAA=="),
            ),
            ("/normalizer/normalizers/0/type", json!("Nmt")),
            ("/normalizer/normalizers/1/content", json!("")),
            (
                "/normalizer/normalizers/1",
                json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            ),
            ("/pre_tokenizer/prepend_scheme", json!("never")),
            ("/pre_tokenizer/split", json!(false)),
            ("/post_processor/type", json!("RobertaProcessing")),
            ("/added_tokens/0/id", json!(1)),
            ("/added_tokens/0/content", json!("<more>")),
            ("/added_tokens/0/rstrip", json!(true)),
        ] {
            let mut json = xlm_roberta();
            *json.pointer_mut(pointer).unwrap() = value;
            assert!(Unigram::compile(&json).is_none(), "{pointer}");
        }
    }

    #[test]
    fn long_pieces_and_replacements_are_left_to_the_library() {
        for (len, compiles) in [(MAX_PIECE, true), (MAX_PIECE + 1, false)] {
            let mut json = xlm_roberta();
            json["model"]["vocab"][3][0] = json!("A".repeat(len));
            assert_eq!(Unigram::compile(&json).is_some(), compiles, "{len} bytes");
        }
        for (len, compiles) in [(MAX_REPLACEMENT, true), (MAX_REPLACEMENT + 1, false)] {
            let mut json = xlm_roberta();
            let replacements = format!("\0A\0{}\0", "b".repeat(len));
            json["normalizer"]["normalizers"][0]["precompiled_charsmap"] =
                json!(charsmap_of(&replacements));
            assert_eq!(Unigram::compile(&json).is_some(), compiles, "{len} bytes");
        }
    }

    #[test]
    fn what_a_damaged_table_costs_and_gives_is_bounded() {
        let (_, words) = Unigram::compile(&xlm_roberta()).unwrap();
        // A trie whose node for `A` is its own child, and a replacement without an end.
        let (base, letter) = (256_usize, b'A');
        let mut units = vec![0; 512];
        units[0] = (base as u32) << 10;
        units[base] = 1 << 31 | 1;
        units[base ^ usize::from(letter)] = (u32::from(letter) * (1 << 10 | 1)) | (1 << 8);
        let replacements = vec![b'b'; 4 * MAX_REPLACEMENT];
        let table = Table {
            pieces: Trie::new(&units),
            charsmap: Trie::new(&units),
            replacements: &replacements,
            ..table_of(&words).unwrap()
        };
        assert_eq!(table.pieces(&[letter; 4 * MAX_PIECE]).count(), MAX_PIECE);
        assert_eq!(table.replacement("A"), None);
    }

    #[test]
    fn damage_is_noticed() {
        let (_, words) = Unigram::compile(&xlm_roberta()).unwrap();
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        for len in 0..bytes.len() - 8 {
            assert!(
                !Table::new(&bytes[..len]).is_some_and(|table| table.is_sound()),
                "{len}"
            );
        }
        let is_sound = |at: usize, word: u64| {
            let mut words = words.clone();
            words[at] = word;
            table_of(&words).is_some_and(|table| table.is_sound())
        };
        let scores = 4;
        let pieces = scores + words[0] as usize;
        let charsmap = pieces + words[1] as usize / 2;
        let text = charsmap + words[2] as usize / 2;
        for (at, word) in [
            (0, 5),
            (0, 1 << 61),
            (1, words[1] - 2),
            (1, u64::MAX),
            (2, words[2] + 512),
            (3, 0),
            (scores + 3, f64::NAN.to_bits()),
            (scores + 3, (-9.0_f64).to_bits()),
            // The root's children are beyond the end.
            (pieces, 1 << 30),
            (charsmap, 1 << 30),
            // The replacement begins within a character.
            (text, u64::from_ne_bytes(*b"\0A\xc3\x85\0\0\0\0")),
            (text, u64::MAX),
        ] {
            assert!(!is_sound(at, word), "word {at}");
        }
        assert!(is_sound(0, words[0]));
    }
}
