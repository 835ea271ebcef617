//! From a post to the token ids that a transformer reads.
//!
//! [`TextPipeline`] joins a model's [`Normalizer`] and its [`Tokenizer`]. The
//! first exists because posts are not the text that tokenizers were made for:
//! BERT's vocabulary has no emoji, spells a link letter by letter and reads
//! `&amp;` as three words.
//!
//! # The normalisation profile
//!
//! Which steps a model's text goes through belongs to the model: it was trained
//! on text treated so. They stand in `normalization.json` in its folder
//! ([`NormalizationProfile`](coldread_model::NormalizationProfile)); a model
//! without that file gets every post unchanged. `model/train/normalize.py` does
//! the same in Python for training, and `tests/data/normalization_vectors.jsonl`
//! holds both to it. The steps run in this order:
//!
//! 1. `html_tags`: the tags of a post that is HTML are dropped, as fediverse APIs, feeds
//!    and Reddit give posts; a tag that ends a line, a block or a cell becomes a space, and
//!    comments, scripts and styles go with their contents. A post is HTML if it begins with
//!    a block, a comment or a declaration, has a line break, has a tag with a quoted
//!    attribute, or closes a tag that it opened. In any other post `<` stays, and in HTML
//!    only tags with a known name are dropped. A tag that is cut off ends with the post.
//!    With `html_entities`, a post that is HTML escaped once more is decoded first.
//! 2. `html_entities`: character references are decoded, once. Collected posts
//!    are often escaped as HTML; `&amp;lt;` stays `&lt;`, since somebody may have
//!    written it. Names are those of the HTML standard, the longest that fits;
//!    only the old names that it lists without a semicolon may lack one. Numbers
//!    are decimal or hexadecimal, their semicolon optional; 128 to 159 are read
//!    as windows-1252, and 0, surrogates and what Unicode lacks as U+FFFD.
//!    Anything else that begins with `&` stays.
//! 3. `invisible`: soft hyphens, marks of direction, joiners of words and tag characters
//!    are dropped; the region in a flag stays. Zero-width spaces, joiners and non-joiners
//!    are dropped unless a character beyond ASCII, and no white space, stands on both sides:
//!    there they may separate words (Thai), shape letters (Persian, Hindi) or join emoji.
//! 4. `styled_letters`: mathematical, full-width, circled, squared and parenthesised letters
//!    and digits, superscripts, subscripts and small capitals become plain ones; `¹ ² ³ ª º`
//!    stay. Five such letters are emoji too (`Ⓜ 🅰 🅱 🅾 🅿`) and become plain only beside a
//!    letter. Regional indicators become letters unless their run is nothing but flags. Lines
//!    over and under (U+0332, U+0333, U+0335 to U+0338) go behind ASCII letters, digits
//!    and spaces.
//! 5. `links`: a link says that there is one; where it leads is noise. It is
//!    `http://` or `https://` in any case, or `www.` not behind an ASCII letter or
//!    digit, and the longest run behind it of printable ASCII but `<`, `>` and `"`
//!    and of U+00A1 to U+1FFF. Closing punctuation at its end (`.,!?;:')]}*`) is
//!    the sentence's; without anything else in the run there is no link. It
//!    becomes the profile's value between spaces. Links go before handles, which
//!    they may contain.
//! 6. `handles`: who is meant is noise as well, and private. It is `@` or its
//!    full-width form `＠`, not behind an ASCII letter or digit, `_`, `.` or `@` (so
//!    no mail address), and a run of `[A-Za-z0-9_]`; in federated networks also
//!    `@` and a host of `[A-Za-z0-9.-]` that ends in a letter or digit. It becomes
//!    the profile's value, without added spaces.
//! 7. `quotes`: `‘ ’ ‛ ´ ′` become `'` and `“ ” ‟ ″` become `"`: phones
//!    type the one, the training data mostly has the other.
//! 8. `split_hashtags`: in `#` or `＃` and a run of `[A-Za-z0-9_]`, a space goes
//!    between a lower-case and an upper-case ASCII letter, and `_` becomes one:
//!    `#SoHappy` holds two words that the model knows.
//! 9. `emoji`: U+FE0E, U+FE0F and skin tones (U+1F3FB to U+1F3FF) go, wherever
//!    they stand: they say how an emoji is drawn. Then, at each position, the
//!    longest emoji of the table becomes its words between spaces, so that
//!    families and flags come as one. Of the same emoji many times over, nothing
//!    between, `max_repeat` are kept. A joiner (U+200D) directly before or after
//!    an emoji goes too: it would keep company with a part of an emoji that the
//!    table does not know whole.
//! 10. `max_repeat`: longer runs of one code point are cut to it; `sooooo` is no
//!     word, `sooo` is at least short. ASCII digits are left alone: they are amounts.
//! 11. Always: runs of white space become one space, with none at either end.
//!     White space is the 25 code points with Unicode's property `White_Space`.

mod emoji;
mod html;
mod markup;
mod normalize;
mod styled;
mod tokenize;

pub use emoji::EmojiSource;
pub use normalize::Normalizer;
pub use tokenize::{Tokenizer, Truncated};

use crate::error::EngineError;
use coldread_model::{LoadError, ModelConfig, ModelFolder, PackedModel};
use std::borrow::Cow;
use std::path::Path;

/// A model's way from a post to token ids.
pub struct TextPipeline {
    normalizer: Option<Normalizer>,
    tokenizer: Tokenizer,
}

impl TextPipeline {
    /// The way of a packed model. For its own tokenizer nothing is read here but the
    /// rules: vocabulary and emoji table wait for the first post that needs them.
    pub fn from_packed(model: &PackedModel) -> Result<Self, LoadError> {
        let emoji = EmojiSource::Packed(model.clone());
        let normalizer = model.profile().map(|p| Normalizer::new(p, emoji));
        Self::new(
            model.path(),
            normalizer,
            Tokenizer::from_packed(model)?,
            model.config(),
        )
    }

    /// The way of a model with an engine of the caller's own.
    pub fn custom(normalizer: Option<Normalizer>, tokenizer: Tokenizer) -> Self {
        Self {
            normalizer,
            tokenizer,
        }
    }

    /// Reads a model folder's tokenizer and prepares its profile.
    pub fn from_folder(folder: &ModelFolder) -> Result<Self, LoadError> {
        let (path, json) = (folder.tokenizer.path(), folder.tokenizer.json()?);
        let normalizer = folder.profile.as_ref().map(|profile| {
            Normalizer::new(profile, EmojiSource::Owned(profile.emoji_table.clone()))
        });
        let tokenizer = Tokenizer::from_bytes(path, &json, folder.config.vocab_size)?;
        Self::new(path, normalizer, tokenizer, &folder.config)
    }

    /// Sees that the special tokens leave a post room; `path` is named if they do not.
    fn new(
        path: &Path,
        normalizer: Option<Normalizer>,
        tokenizer: Tokenizer,
        config: &ModelConfig,
    ) -> Result<Self, LoadError> {
        let (specials, max_tokens) = (tokenizer.num_special_tokens(), config.max_tokens);
        if specials >= max_tokens {
            return Err(LoadError::invalid(
                path,
                format!("{specials} special tokens leave no room in {max_tokens} tokens"),
            ));
        }
        Ok(Self {
            normalizer,
            tokenizer,
        })
    }

    /// How many tokens a post of no text has.
    pub fn num_special_tokens(&self) -> usize {
        self.tokenizer.num_special_tokens()
    }

    /// The special tokens before and after every post.
    pub fn special_tokens(&self) -> (&[u32], &[u32]) {
        self.tokenizer.special_tokens()
    }

    /// The post as the tokenizer sees it.
    pub fn normalize<'a>(&self, post: &'a str) -> Cow<'a, str> {
        match &self.normalizer {
            Some(normalizer) => normalizer.normalize(post),
            None => Cow::Borrowed(post),
        }
    }

    /// Replaces `input_ids` by the post's tokens, special tokens included and at
    /// most `max_tokens` in all. They depend on the post alone.
    pub fn encode(
        &self,
        post: &str,
        max_tokens: usize,
        input_ids: &mut Vec<u32>,
    ) -> Result<Truncated, EngineError> {
        let normalized = self.normalize(post);
        self.tokenizer.encode(&normalized, max_tokens, input_ids)
    }
}
