//! How a model wants its text normalised.
//!
//! The profile belongs to the model, not to the code: it is the file
//! `normalization.json` in the model folder, with the emoji table that it
//! names beside it. A folder without one gets its text unchanged, unless its name is
//! of a family that is known to have been trained otherwise. The steps
//! themselves are in the service crate's `text` module and, word for word the
//! same, in `model/train/normalize.py`.

use crate::error::{LoadError, read, read_optional};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The name of the profile's file in a model folder.
pub const FILE: &str = "normalization.json";

/// The only version of the profile that this release knows.
pub const VERSION: u32 = 1;

/// The steps that a model's text goes through before tokenization; a step that
/// is absent or off leaves the text alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a step, on or off")]
pub struct NormalizationProfile {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// Drop the tags of posts that are HTML.
    #[serde(default)]
    pub html_tags: bool,
    /// Decode HTML character references, once.
    #[serde(default)]
    pub html_entities: bool,
    /// Drop characters that nobody sees, such as zero-width spaces.
    #[serde(default)]
    pub invisible: bool,
    /// Fold styled letters and numbers (mathematical, full-width, circled) to plain ones.
    #[serde(default)]
    pub styled_letters: bool,
    /// What a handle (`@name`) becomes.
    #[serde(default)]
    pub handles: Option<String>,
    /// What a link becomes.
    #[serde(default)]
    pub links: Option<String>,
    /// Which quotation marks typographic ones become.
    #[serde(default)]
    pub quotes: Option<Quotes>,
    /// Split the words of a hashtag at underscores and case changes.
    #[serde(default)]
    pub split_hashtags: bool,
    /// The longest run of one character (ASCII digits apart) or one emoji.
    #[serde(default)]
    pub max_repeat: Option<usize>,
    /// The emoji table's file, relative to the folder.
    #[serde(default)]
    pub emoji: Option<String>,
    /// What stands in that file, for [`emoji_words`]. Filled in by
    /// [`NormalizationProfile::open`]; in a packed model it is a section of its own
    /// ([`PackedModel::emoji_table`](crate::PackedModel::emoji_table)).
    #[serde(skip)]
    pub emoji_table: Vec<u8>,
}

/// Which quotation marks typographic ones become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quotes {
    /// `'` and `"`.
    Ascii,
}

impl NormalizationProfile {
    /// Reads the profile of a folder; `None` when the folder has none.
    pub fn open(folder: &Path) -> Result<Option<Self>, LoadError> {
        let path = folder.join(FILE);
        let Some(bytes) = read_optional(&path)? else {
            return Ok(None);
        };
        let mut profile: Self =
            serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(&path, e.to_string()))?;
        profile.check(&path)?;
        if let Some(file) = &profile.emoji {
            let path = folder.join(file);
            let table = read(&path)?;
            check_emoji_table(&table, &path)?;
            profile.emoji_table = table;
        }
        Ok(Some(profile))
    }

    /// Sees that this release knows the profile's steps; `path` names it in errors.
    pub(crate) fn check(&self, path: &Path) -> Result<(), LoadError> {
        if self.version != VERSION {
            return Err(LoadError::unsupported(
                path,
                format!(
                    "version {} of the normalisation profile; this release knows version {VERSION}",
                    self.version
                ),
            ));
        }
        if self.max_repeat == Some(0) {
            return Err(LoadError::invalid(path, "max_repeat must be at least 1"));
        }
        if let Some(file) = &self.emoji {
            // A backslash separates nothing here, but does on Windows.
            let is_plain_name = Path::new(file)
                .file_name()
                .is_some_and(|name| name == &**file)
                && !file.contains('\\');
            if !is_plain_name {
                return Err(LoadError::invalid(
                    path,
                    format!("emoji: {file:?} is not the name of a file in the folder"),
                ));
            }
        }
        Ok(())
    }
}

/// The name of the emoji table that a folder's profile calls for, if it has a profile and
/// that one.
pub fn emoji_file(folder: &Path) -> Result<Option<String>, LoadError> {
    let path = folder.join(FILE);
    let Some(bytes) = read_optional(&path)? else {
        return Ok(None);
    };
    let profile: NormalizationProfile =
        serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(&path, e.to_string()))?;
    profile.check(&path)?;
    Ok(profile.emoji)
}

/// What is known of how a model without a profile was trained, by its name.
///
/// `cardiffnlp`'s `twitter-*` models and the `TweetEval` ones were trained on posts in
/// which a handle is `@user` and a link `http`.
pub(crate) fn known(name: &str) -> Option<NormalizationProfile> {
    let name = name.to_ascii_lowercase();
    let is_tweet_eval = name.starts_with("cardiffnlp/twitter-")
        || name.starts_with("twitter-roberta-base")
        || name.starts_with("twitter-xlm-roberta-base")
        || name.contains("tweeteval");
    is_tweet_eval.then(|| NormalizationProfile {
        version: VERSION,
        handles: Some("@user".to_owned()),
        links: Some("http".to_owned()),
        html_tags: false,
        html_entities: false,
        invisible: false,
        styled_letters: false,
        quotes: None,
        split_hashtags: false,
        max_repeat: None,
        emoji: None,
        emoji_table: Vec::new(),
    })
}

/// The lines of an emoji table: an emoji (without variation selectors and skin
/// tones), a tab and its words. What is no such line is passed over;
/// [`NormalizationProfile::open`] rejects it.
pub fn emoji_words(table: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    table.split(|&byte| byte == b'\n').filter_map(emoji_line)
}

/// One line, with or without a carriage return.
fn emoji_line(line: &[u8]) -> Option<(&str, &str)> {
    let line = str::from_utf8(line).ok()?;
    let (emoji, words) = line.strip_suffix('\r').unwrap_or(line).split_once('\t')?;
    // Text in plain ASCII, which most posts are, is passed over without a look.
    let is_sound = !emoji.is_ascii() && !words.contains('\t');
    is_sound.then_some((emoji, words))
}

fn check_emoji_table(table: &[u8], path: &Path) -> Result<(), LoadError> {
    let table = table.strip_suffix(b"\n").unwrap_or(table);
    let mut lines = table.split(|&byte| byte == b'\n');
    match lines.position(|line| emoji_line(line).is_none()) {
        Some(_) if table.is_empty() => Ok(()),
        Some(i) => Err(LoadError::invalid(
            path,
            format!(
                "line {}: expected an emoji (beyond ASCII), a tab and its words, in UTF-8",
                i + 1
            ),
        )),
        None => Ok(()),
    }
}
