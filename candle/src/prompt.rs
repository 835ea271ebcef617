//! What a language model is asked about each post, and which answers count for which label.
//!
//! A prompt is data: an instruction, a template round the post, words for each label, examples.
//! It becomes tokens once, when the model is loaded. A post's tokens go between those of the
//! prompt and are made of the post alone, so that no post can end its place: special tokens are
//! never made of text, and a post is one line.

use super::vocabulary::Vocabulary;
use coldread_engine::text::Normalizer;
use coldread_model::LoadError;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Limits of prompts.
const MAX_LABELS: usize = 64;
const MAX_WORDS: usize = 16;
const MAX_EXAMPLES: usize = 64;
const MAX_TEXT: usize = 1 << 16;
const MAX_FILE: u64 = 1 << 20;

/// Where the post goes in a template, and the labels' names in an instruction.
const POST: &str = "{post}";
const LABELS: &str = "{labels}";

/// A prompt before it is tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    instruction: String,
    before: String,
    after: String,
    labels: Vec<Label>,
    examples: Vec<Example>,
    chat: bool,
}

/// A label and the answers that count for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    name: String,
    words: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    post: String,
    label: String,
}

/// A prompt's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    instruction: Option<String>,
    template: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    #[serde(default)]
    examples: Vec<Example>,
    #[serde(default = "yes")]
    chat: bool,
}

fn yes() -> bool {
    true
}

impl Prompt {
    /// The default prompt for these labels; without any, for sentiment as negative, neutral or
    /// positive. The error says what is wrong.
    pub fn with_labels(labels: &[String]) -> Result<Self, String> {
        Self::from_json(b"{}", labels)
    }

    /// Reads a prompt's file.
    ///
    /// # Errors
    /// If it cannot be read or is not a sound prompt; the error names the file.
    pub fn open(path: &Path, labels: &[String]) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let mut json = Vec::new();
        let file = File::open(path).map_err(read)?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut json)
            .map_err(read)?;
        if json.len() as u64 > MAX_FILE {
            return Err(LoadError::invalid(
                path,
                format!("a prompt of more than {MAX_FILE} bytes"),
            ));
        }
        Self::from_json(&json, labels).map_err(|reason| LoadError::invalid(path, reason))
    }

    /// Reads a prompt in JSON; `labels` replace sentiment's, if there are any. The error says
    /// what is wrong.
    pub fn from_json(json: &[u8], labels: &[String]) -> Result<Self, String> {
        let file: Fields = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let of_sentiment = file.labels.is_empty() && labels.is_empty();
        let labels: Vec<Label> = match (file.labels.is_empty(), labels) {
            (false, [_, ..]) => {
                return Err("the prompt has labels already; leave --labels out".to_owned());
            }
            (false, []) => file
                .labels
                .into_iter()
                .map(label)
                .collect::<Result<_, _>>()?,
            (true, []) => ["negative", "neutral", "positive"]
                .map(Label::of_name)
                .into(),
            (true, names) => names.iter().map(|name| Label::of_name(name)).collect(),
        };
        check_labels(&labels)?;
        let template = file.template.as_deref().unwrap_or(if of_sentiment {
            "Post: {post}\nSentiment:"
        } else {
            "Post: {post}\nCategory:"
        });
        let (before, after) = template
            .split_once(POST)
            .filter(|(_, after)| !after.contains(POST))
            .ok_or("the template has to have {post} in it once")?;
        if after.is_empty() {
            return Err("the template has to go on after {post}".to_owned());
        }
        let names: Vec<&str> = labels.iter().map(|label| &*label.name).collect();
        let names = match &names[..] {
            [names @ .., last] => format!("{} or {last}", names.join(", ")),
            [] => unreachable!("there are two at least"),
        };
        let instruction = file.instruction.unwrap_or_else(|| {
            if of_sentiment {
                "Is the sentiment of each post {labels}?".to_owned()
            } else {
                "Is the category of each post {labels}?".to_owned()
            }
        });
        let instruction = instruction.replace(LABELS, &names);
        if instruction.len() + template.len() > MAX_TEXT {
            return Err(format!(
                "instruction and template have more than {MAX_TEXT} bytes"
            ));
        }
        if file.examples.len() > MAX_EXAMPLES {
            return Err(format!("more than {MAX_EXAMPLES} examples"));
        }
        for example in &file.examples {
            if !labels.iter().any(|label| label.name == example.label) {
                return Err(format!("an example has the label {:?}", example.label));
            }
            if example.post.trim().is_empty() || example.post.len() > MAX_TEXT {
                return Err("an example's post is empty or too long".to_owned());
            }
        }
        Ok(Self {
            instruction,
            before: before.to_owned(),
            after: after.to_owned(),
            labels,
            examples: file.examples,
            chat: file.chat,
        })
    }

    /// The labels' names, in the order of the scores.
    pub fn labels(&self) -> Vec<String> {
        self.labels.iter().map(|label| label.name.clone()).collect()
    }

    /// `plain`, or the family of chat models that it is written for.
    pub(crate) fn style(&self, chat: Option<Chat>) -> &'static str {
        chat.filter(|_| self.chat).map_or("plain", |chat| chat.name)
    }

    /// The prompt in tokens, as turns of a chat if `chat` says how.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        normalizer: &Normalizer,
        chat: Option<Chat>,
    ) -> Result<EncodedPrompt, String> {
        let chat = chat.filter(|_| self.chat);
        let mut stream = Stream::new(vocabulary);
        if let Some(bos) = vocabulary.bos() {
            stream.ids.push(bos);
        }
        let mut instruction = Some(&*self.instruction).filter(|text| !text.is_empty());
        // Up to where a post goes, with the space before it left to the post.
        let lead = if self.before.ends_with(' ') { " " } else { "" };
        let mut ask = |stream: &mut Stream<'_>| -> Result<(), String> {
            if let Some(chat) = chat {
                stream.parts(chat.user)?;
            }
            if let Some(text) = instruction.take() {
                stream.text(text);
                stream.text("\n\n");
            }
            stream.text(self.before.strip_suffix(' ').unwrap_or(&self.before));
            stream.flush()
        };
        let answer = |stream: &mut Stream<'_>| -> Result<(), String> {
            stream.text(&self.after);
            if let Some(chat) = chat {
                stream.parts(chat.model)?;
            }
            stream.flush()
        };
        // A base model writes a space before the word, where the template has none.
        let is_open = chat.is_none() && !self.after.ends_with(char::is_whitespace);
        let word_lead = if is_open { " " } else { "" };
        for example in &self.examples {
            ask(&mut stream)?;
            stream.text(&format!("{lead}{}", normalizer.normalize(&example.post)));
            stream.flush()?;
            answer(&mut stream)?;
            let label = self.labels.iter().find(|label| label.name == example.label);
            let word = &label.expect("examples have labels").words[0];
            stream.text(&format!("{word_lead}{word}"));
            match chat {
                Some(chat) => stream.parts(chat.end)?,
                None => stream.text("\n\n"),
            }
        }
        ask(&mut stream)?;
        let post_starts = stream.starts();
        let prefix = std::mem::take(&mut stream.ids);
        answer(&mut stream)?;
        let suffix = std::mem::take(&mut stream.ids);
        let word_starts = stream.follows_marker;
        let words = |label: &Label| -> Result<Vec<Vec<u32>>, String> {
            let word = |word: &String| {
                let mut ids = Vec::new();
                vocabulary
                    .encode(&format!("{word_lead}{word}"), word_starts, &mut ids)
                    .map_err(|e| e.to_string())?;
                if ids.is_empty() {
                    return Err(format!("the word {word:?} has no tokens"));
                }
                Ok(ids)
            };
            label.words.iter().map(word).collect()
        };
        Ok(EncodedPrompt {
            prefix,
            suffix,
            lead,
            post_starts,
            words: self.labels.iter().map(words).collect::<Result<_, _>>()?,
        })
    }
}

impl Label {
    fn of_name(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            words: vec![name.to_owned()],
        }
    }
}

/// A label with its word or words.
fn label((name, words): (String, Value)) -> Result<Label, String> {
    let words = match words {
        Value::String(word) => vec![word],
        words => serde_json::from_value(words)
            .map_err(|_| format!("the words of {name:?} are not a list of text"))?,
    };
    Ok(Label { name, words })
}

fn check_labels(labels: &[Label]) -> Result<(), String> {
    if !(2..=MAX_LABELS).contains(&labels.len()) {
        let (count, plural) = (labels.len(), if labels.len() == 1 { "" } else { "s" });
        return Err(format!(
            "{count} label{plural}; a classifier has 2 to {MAX_LABELS}"
        ));
    }
    let mut words: Vec<&str> = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        if label.name.trim().is_empty() {
            return Err("a label without a name".to_owned());
        }
        if labels[..i].iter().any(|other| other.name == label.name) {
            return Err(format!("the label {:?} occurs twice", label.name));
        }
        if !(1..=MAX_WORDS).contains(&label.words.len()) {
            return Err(format!(
                "{:?} has {} words, not 1 to {MAX_WORDS}",
                label.name,
                label.words.len()
            ));
        }
        for word in &label.words {
            if word.trim() != word || word.is_empty() {
                return Err(format!("the word {word:?} is empty or has space round it"));
            }
            if words.contains(&&**word) {
                return Err(format!("the word {word:?} occurs twice"));
            }
            words.push(word);
        }
    }
    Ok(())
}

/// A prompt in tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedPrompt {
    /// Before the post, the same for every post.
    pub(crate) prefix: Vec<u32>,
    /// Between the post and the answer.
    pub(crate) suffix: Vec<u32>,
    /// What is put before the post's text.
    pub(crate) lead: &'static str,
    /// Whether the post comes right after a special token.
    pub(crate) post_starts: bool,
    /// The words of each label.
    pub(crate) words: Vec<Vec<Vec<u32>>>,
}

/// A part of a turn's frame.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A special token.
    Marker(&'static str),
    Text(&'static str),
}

/// How a family of chat models is spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chat {
    pub(crate) name: &'static str,
    /// Before what the user says.
    user: &'static [Part],
    /// Between the user and the model.
    model: &'static [Part],
    /// After what the model says.
    end: &'static [Part],
}

/// The families, told by the first marker of a user's turn. All frames are special tokens or
/// follow one, so that no text can be taken for a frame.
const CHATS: [Chat; 4] = {
    use Part::{Marker, Text};
    let chatml_user: &[Part] = &[Marker("<|im_start|>"), Text("user\n")];
    let chatml_end: &[Part] = &[Marker("<|im_end|>"), Text("\n")];
    [
        Chat {
            name: "gemma",
            user: &[Marker("<start_of_turn>"), Text("user\n")],
            model: &[
                Marker("<end_of_turn>"),
                Text("\n"),
                Marker("<start_of_turn>"),
                Text("model\n"),
            ],
            end: &[Marker("<end_of_turn>"), Text("\n")],
        },
        // Before plain ChatML: models that think before they answer are told that they have.
        Chat {
            name: "chatml-thinking",
            user: chatml_user,
            model: &[
                Marker("<|im_end|>"),
                Text("\n"),
                Marker("<|im_start|>"),
                Text("assistant\n"),
                Marker("<think>"),
                Text("\n\n"),
                Marker("</think>"),
                Text("\n\n"),
            ],
            end: chatml_end,
        },
        Chat {
            name: "chatml",
            user: chatml_user,
            model: &[
                Marker("<|im_end|>"),
                Text("\n"),
                Marker("<|im_start|>"),
                Text("assistant\n"),
            ],
            end: chatml_end,
        },
        Chat {
            name: "llama3",
            user: &[
                Marker("<|start_header_id|>"),
                Text("user"),
                Marker("<|end_header_id|>"),
                Text("\n\n"),
            ],
            model: &[
                Marker("<|eot_id|>"),
                Marker("<|start_header_id|>"),
                Text("assistant"),
                Marker("<|end_header_id|>"),
                Text("\n\n"),
            ],
            end: &[Marker("<|eot_id|>")],
        },
    ]
};

/// The special tokens of all families.
pub(crate) fn markers() -> impl Iterator<Item = &'static str> {
    let parts = CHATS
        .into_iter()
        .flat_map(|chat| [chat.user, chat.model, chat.end]);
    parts.flatten().filter_map(|part| match part {
        Part::Marker(marker) => Some(*marker),
        Part::Text(_) => None,
    })
}

impl Chat {
    /// The family of a chat template: the first whose special tokens are all in the template and
    /// in the vocabulary.
    pub(crate) fn of_template(template: &str, vocabulary: &Vocabulary) -> Option<Self> {
        CHATS.into_iter().find(|chat| {
            let mut parts = [chat.user, chat.model, chat.end].into_iter().flatten();
            parts.all(|part| match part {
                Part::Marker(marker) => {
                    template.contains(marker) && vocabulary.marker(marker).is_some()
                }
                Part::Text(_) => true,
            })
        })
    }
}

/// Tokens of a prompt, as it is written from left to right.
struct Stream<'a> {
    vocabulary: &'a Vocabulary,
    ids: Vec<u32>,
    text: String,
    /// Whether nothing or a special token is before the text.
    follows_marker: bool,
}

impl<'a> Stream<'a> {
    fn new(vocabulary: &'a Vocabulary) -> Self {
        Self {
            vocabulary,
            ids: Vec::new(),
            text: String::new(),
            follows_marker: true,
        }
    }

    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn starts(&self) -> bool {
        self.follows_marker && self.text.is_empty()
    }

    /// Ends a piece of text: what follows has tokens of its own.
    fn flush(&mut self) -> Result<(), String> {
        if !self.text.is_empty() {
            self.vocabulary
                .encode(&self.text, self.follows_marker, &mut self.ids)
                .map_err(|e| e.to_string())?;
            self.text.clear();
            self.follows_marker = false;
        }
        Ok(())
    }

    fn parts(&mut self, parts: &[Part]) -> Result<(), String> {
        for part in parts {
            match part {
                Part::Text(text) => self.text(text),
                Part::Marker(marker) => {
                    self.flush()?;
                    let id = self.vocabulary.marker(marker);
                    self.ids
                        .push(id.ok_or_else(|| format!("no token {marker}"))?);
                    self.follows_marker = true;
                }
            }
        }
        Ok(())
    }
}
