//! BERT's tokenizer over a vocabulary that is used where it lies.
//!
//! One pass over the text, character by character: clean, decompose, drop accents,
//! lower, split at white space and punctuation, and look a word's pieces up as soon
//! as it ends. The library makes a copy of the text for each of these steps and
//! keeps offsets that nobody here reads; the ids are the same, which the tests hold
//! against it on every code point and on random text. Unicode's categories and
//! decompositions come from the very crates that the library takes them from.
//!
//! ASCII, most of most posts, goes through a table. A run of other characters goes
//! through the general steps as a whole, since the order of combining marks is a
//! property of the run; no ASCII character takes part in that.

use coldread_model::PackedModel;
use coldread_model::packed::PackedTokenizer;
use coldread_model::wordpiece::{self, Vocabulary};
use serde_json::Value;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

/// A tokenizer of BERT's kind.
pub(super) struct WordPiece {
    store: VocabularyStore,
    ascii: [Ascii; 128],
}

/// Where its rules and its vocabulary are.
enum VocabularyStore {
    Packed(PackedModel),
    Owned(wordpiece::WordPiece, Vec<u32>),
}

/// What becomes of an ASCII character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ascii {
    Dropped,
    Space,
    Punctuation,
    Letter(u8),
}

impl WordPiece {
    /// That of a packed model, which has one of this kind.
    pub(super) fn from_packed(model: &PackedModel) -> Self {
        Self::new(VocabularyStore::Packed(model.clone()))
    }

    /// That of a `tokenizer.json`, if it is of this kind.
    pub(super) fn compile(json: &Value) -> Option<Self> {
        let (rules, vocabulary) = wordpiece::WordPiece::compile(json)?;
        Some(Self::new(VocabularyStore::Owned(rules, vocabulary)))
    }

    fn new(store: VocabularyStore) -> Self {
        let rules = store.parts().0;
        let ascii = std::array::from_fn(|i| {
            let c = char::from(i as u8);
            match clean(rules, c) {
                None => Ascii::Dropped,
                Some(c) if c.is_whitespace() => Ascii::Space,
                Some(c) if c.is_ascii_punctuation() => Ascii::Punctuation,
                Some(_) if rules.lowercase => Ascii::Letter((i as u8).to_ascii_lowercase()),
                Some(_) => Ascii::Letter(i as u8),
            }
        });
        Self { store, ascii }
    }

    /// Ids are below this.
    pub(super) fn num_ids(&self) -> usize {
        self.store.parts().1.num_ids()
    }

    /// The special tokens before and after a text.
    pub(super) fn special_tokens(&self) -> (Vec<u32>, Vec<u32>) {
        let (rules, _) = self.store.parts();
        (rules.before.clone(), rules.after.clone())
    }

    /// Appends the text's tokens without special ones, and stops soon after there are
    /// more than `limit` ids.
    pub(super) fn encode(&self, text: &str, limit: usize, input_ids: &mut Vec<u32>) {
        let (rules, vocabulary) = self.store.parts();
        let mut words = Words {
            rules,
            vocabulary,
            input_ids,
            limit,
            word: String::with_capacity(64),
            chars: 0,
            beginnings: Vec::with_capacity(32),
        };
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first()
            && !words.is_full()
        {
            let length = match self.ascii.get(usize::from(byte)) {
                None => self.beyond_ascii(rest, &mut words),
                Some(&class) => match added_token(rules, rest) {
                    Some((length, id)) => {
                        words.end();
                        words.input_ids.push(id);
                        length
                    }
                    None => {
                        match class {
                            Ascii::Dropped => {}
                            Ascii::Space => words.end(),
                            Ascii::Punctuation => words.single(char::from(byte)),
                            Ascii::Letter(lower) => words.push(char::from(lower)),
                        }
                        1
                    }
                },
            };
            rest = &rest[length..];
        }
        words.end();
    }

    /// The run of characters beyond ASCII that `text` begins with, and of such ASCII
    /// ones among them as are dropped; gives its length.
    fn beyond_ascii(&self, text: &str, words: &mut Words<'_>) -> usize {
        let goes_on = |c: char| match self.ascii.get(c as usize) {
            None => true,
            Some(&class) => class == Ascii::Dropped,
        };
        let length = text.find(|c| !goes_on(c)).unwrap_or(text.len());
        let rules = words.rules;
        let spaced = text[..length]
            .chars()
            .filter_map(|c| clean(rules, c))
            .flat_map(|c| {
                let alone = rules.handle_chinese_chars && is_chinese_char(c);
                let space = alone.then_some(' ');
                space.into_iter().chain([c]).chain(space)
            });
        if rules.strip_accents {
            let decomposed = spaced.nfd().map(|(c, _)| c);
            words.extend(decomposed.filter(|c| !c.is_mark_nonspacing()));
        } else {
            words.extend(spaced);
        }
        length
    }
}

impl VocabularyStore {
    fn parts(&self) -> (&wordpiece::WordPiece, Vocabulary<'_>) {
        match self {
            Self::Packed(model) => match model.tokenizer() {
                PackedTokenizer::WordPiece(rules, vocabulary) => (rules, vocabulary),
                _ => unreachable!("the model has one of this kind"),
            },
            Self::Owned(rules, table) => {
                let bytes = bytemuck::cast_slice(table);
                (rules, Vocabulary::new(bytes).expect("a table just made"))
            }
        }
    }
}

/// The character after cleaning: control characters go, white space is a space.
fn clean(rules: &wordpiece::WordPiece, c: char) -> Option<char> {
    match c {
        _ if !rules.clean_text => Some(c),
        '\t' | '\n' | '\r' => Some(' '),
        '\0' | '\u{fffd}' => None,
        _ if c.is_other() => None,
        _ if c.is_whitespace() => Some(' '),
        _ => Some(c),
    }
}

/// What BERT's authors took for the CJK ideographs; Hangul and kana are not among them.
fn is_chinese_char(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}'
        | '\u{2b920}'..='\u{2ceaf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}

/// The added token that `text` begins with, the longest first: its length and id.
fn added_token(rules: &wordpiece::WordPiece, text: &str) -> Option<(usize, u32)> {
    let mut tokens = rules.added_tokens.iter();
    let (content, id) = tokens.find(|(content, _)| text.starts_with(content))?;
    Some((content.len(), *id))
}

/// Gathers characters into words and words' pieces into ids.
struct Words<'a> {
    rules: &'a wordpiece::WordPiece,
    vocabulary: Vocabulary<'a>,
    input_ids: &'a mut Vec<u32>,
    limit: usize,
    /// The word so far, or as much of it as matters.
    word: String,
    /// Its length in characters.
    chars: usize,
    /// Where beginnings of the rest of a word end, with their hashes.
    beginnings: Vec<(usize, u32)>,
}

impl Words<'_> {
    fn is_full(&self) -> bool {
        self.input_ids.len() > self.limit
    }

    /// Characters that went through all steps but the last, lower case.
    fn extend(&mut self, chars: impl Iterator<Item = char>) {
        for c in chars {
            if self.is_full() {
                return;
            }
            if self.rules.lowercase {
                c.to_lowercase().for_each(|c| self.any(c));
            } else {
                self.any(c);
            }
        }
    }

    fn any(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else if c.is_ascii_punctuation() || c.is_punctuation() {
            self.single(c);
        } else {
            self.push(c);
        }
    }

    fn push(&mut self, c: char) {
        self.chars += 1;
        // A longer word is unknown, whatever it is.
        if self.chars <= self.rules.max_input_chars_per_word {
            self.word.push(c);
        }
    }

    /// A word of one character.
    fn single(&mut self, c: char) {
        self.end();
        self.push(c);
        self.end();
    }

    fn end(&mut self) {
        if self.chars == 0 {
            return;
        }
        let first = self.input_ids.len();
        if self.chars > self.rules.max_input_chars_per_word || !self.pieces() {
            self.input_ids.truncate(first);
            self.input_ids.push(self.rules.unk_id);
        }
        self.word.clear();
        self.chars = 0;
    }

    /// The longest piece that the word begins with, then the longest that its rest
    /// begins with, to its end. `false` if there is a rest without any.
    fn pieces(&mut self) -> bool {
        let mut start = 0;
        while start < self.word.len() {
            let rest = &self.word[start..];
            let continues = start > 0;
            let mut hash = wordpiece::hash_start(continues);
            self.beginnings.clear();
            for (i, byte) in rest.bytes().enumerate().take(self.vocabulary.longest()) {
                hash = wordpiece::hash_next(hash, byte);
                if rest.is_char_boundary(i + 1) {
                    self.beginnings.push((i + 1, hash));
                }
            }
            let found = self.beginnings.iter().rev().find_map(|&(end, hash)| {
                let piece = &rest.as_bytes()[..end];
                let id = self.vocabulary.find(piece, continues, hash)?;
                Some((end, id))
            });
            let Some((length, id)) = found else {
                return false;
            };
            self.input_ids.push(id);
            start += length;
        }
        true
    }
}
