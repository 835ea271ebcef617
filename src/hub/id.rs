//! Ids of models of the Hub.

use super::HubError;
use std::fmt;

/// The default revision.
const MAIN: &str = "main";

/// Owners of models that were once known without one, by how their names begin.
const LEGACY_OWNERS: [(&str, &str); 6] = [
    ("albert-", "albert"),
    ("bert-", "google-bert"),
    ("camembert-", "almanach"),
    ("distilbert-", "distilbert"),
    ("roberta-", "FacebookAI"),
    ("xlm-roberta-", "FacebookAI"),
];

/// A model of the Hub at a revision: `OWNER/NAME` or `OWNER/NAME@REVISION`; `OWNER/NAME:FILE`
/// is one of several language models in GGUF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// A user or an organisation.
    pub owner: String,
    /// The model's name with its owner.
    pub name: String,
    /// The name of a GGUF file or its end, such as `Q4_K_M`.
    pub gguf: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl HubId {
    /// Parses an id; `revision` is one that was given separately.
    ///
    /// Owners, names and revisions become names of folders, so that only what the Hub
    /// itself allows in them is accepted. Addresses of pages, and names without an owner,
    /// which the Hub gave owners to in 2024, are rejected with the id that they stand for.
    pub fn parse(text: &str, revision: Option<&str>) -> Result<Self, HubError> {
        let invalid = |reason: &str| HubError::InvalidId {
            id: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (id, own) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        let revision = match (own, revision) {
            (Some(own), Some(other)) if own != other => {
                return Err(invalid("it names a different revision than --revision"));
            }
            (own, other) => own.or(other).unwrap_or(MAIN),
        };
        let (id, gguf) = match id.split_once(':') {
            Some((id, file)) if !is_address(text) => (id, Some(file)),
            _ => (id, None),
        };
        let (owner, name) = id
            .split_once('/')
            .filter(|(owner, name)| is_name(owner) && is_name(name))
            .ok_or_else(|| invalid(&form(text)))?;
        if !is_revision(revision) {
            return Err(invalid("its revision is not a valid branch, tag or commit"));
        }
        if gguf.is_some_and(|file| !is_file(file)) {
            return Err(invalid("what follows the colon is not the name of a file"));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            gguf: gguf.map(str::to_owned),
            revision: revision.to_owned(),
        })
    }

    /// Whether the revision is a commit, whose files never change.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if let Some(file) = &self.gguf {
            write!(f, ":{file}")?;
        }
        if self.revision == MAIN {
            return Ok(());
        }
        write!(f, "@{}", self.revision)
    }
}

/// The form of an id, with the one that was meant if that can be told.
fn form(text: &str) -> String {
    let form = "a model of the Hub is called OWNER/NAME";
    match meant(text) {
        Some(id) => format!("{form}; did you mean {id}?"),
        None => form.to_owned(),
    }
}

fn meant(text: &str) -> Option<String> {
    if is_address(text) {
        let address = text.split_once("://").map_or(text, |(_, rest)| rest);
        let path = address.split(['?', '#']).next()?.trim_end_matches('/');
        let mut parts = path.split('/').skip(1);
        let (owner, name) = (parts.next()?, parts.next()?);
        let revision = match parts.next() {
            Some("tree" | "blob" | "resolve" | "raw" | "commit") => parts.next(),
            _ => None,
        };
        let revision = revision.filter(|revision| *revision != MAIN);
        let revision = revision.map_or_else(String::new, |revision| format!("@{revision}"));
        let id = format!("{owner}/{name}{revision}");
        return HubId::parse(&id, None).is_ok().then_some(id);
    }
    let legacy = LEGACY_OWNERS
        .iter()
        .find(|(start, _)| text.starts_with(start));
    let id = format!("{}/{text}", legacy?.1);
    HubId::parse(&id, None).is_ok().then_some(id)
}

/// Whether the text is the address of a page.
fn is_address(text: &str) -> bool {
    let hosts = ["huggingface.co/", "hf.co/"];
    text.contains("://") || hosts.iter().any(|host| text.starts_with(host))
}

/// Forty hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// So many hexadecimal digits, in lower case.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The Hub's rule for owners and names. Two dashes stand for the slash in the cache.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |c: char| c == '-' || c == '.';
    (1..=96).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(edge)
        && !text.ends_with(edge)
        && !text.contains("--")
        && !text.contains("..")
}

fn is_file(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=200).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.')
}

fn is_revision(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    text.len() <= 200
        && text.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['.', '-']) && part.bytes().all(plain)
        })
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, revision: Option<&str>, expected: Result<&str, &str>) {
        match (HubId::parse(text, revision), expected) {
            (Ok(id), Ok(expected)) => assert_eq!(id.to_string(), expected),
            (Err(error), Err(part)) => {
                assert_eq!(error.code(), "hub_invalid_id");
                assert!(error.to_string().contains(part), "{error}");
            }
            (got, expected) => panic!("{text}: {got:?}, {expected:?}"),
        }
    }

    #[test]
    fn ids_and_revisions() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        check("acme/mood-v2.1", None, Ok("acme/mood-v2.1"));
        check("acme/mood@main", None, Ok("acme/mood"));
        check("acme/mood@v1", None, Ok("acme/mood@v1"));
        check("acme/mood", Some("refs/pr/3"), Ok("acme/mood@refs/pr/3"));
        check("acme/mood@v1", Some("v1"), Ok("acme/mood@v1"));
        check("acme/mood@v1", Some("v2"), Err("a different revision"));
        check("acme/mood:Q4_K_M@v1", None, Ok("acme/mood:Q4_K_M@v1"));
        for file in ["", "../x", "a/b", ".x", "a:b", "a b"] {
            check(&format!("acme/mood:{file}"), None, Err("name of a file"));
        }
        let pinned = HubId::parse("acme/mood", Some(commit)).unwrap();
        assert!(pinned.is_pinned());
        assert!(!HubId::parse("acme/mood", None).unwrap().is_pinned());
    }

    #[test]
    fn the_id_that_was_meant_is_named() {
        for (text, meant) in [
            (
                "https://huggingface.co/acme/mood",
                "did you mean acme/mood?",
            ),
            (
                "https://huggingface.co/acme/mood/tree/main",
                "did you mean acme/mood?",
            ),
            (
                "https://huggingface.co/acme/mood/blob/v2/config.json",
                "did you mean acme/mood@v2?",
            ),
            (
                "http://hub.example:8080/acme/mood/?a=b#c",
                "did you mean acme/mood?",
            ),
            ("huggingface.co/acme/mood/", "did you mean acme/mood?"),
            (
                "bert-base-uncased",
                "did you mean google-bert/bert-base-uncased?",
            ),
            (
                "distilbert-base-uncased-finetuned-sst-2-english",
                "did you mean distilbert/distilbert-",
            ),
            (
                "xlm-roberta-base@v1",
                "did you mean FacebookAI/xlm-roberta-base@v1?",
            ),
        ] {
            check(text, None, Err(meant));
        }
        for text in [
            "https://huggingface.co/",
            "https://huggingface.co/acme",
            "gpt2",
        ] {
            let error = HubId::parse(text, None).expect_err("no id").to_string();
            assert!(error.ends_with("is called OWNER/NAME"), "{error}");
        }
    }

    #[test]
    fn what_would_leave_the_cache_is_rejected() {
        for text in [
            "mood",
            "",
            "/",
            "acme/",
            "/mood",
            "a/b/c",
            "../mood",
            "acme/..",
            "acme/.mood",
            "a--b/c",
            "acme/mo od",
            "acme/mood\n",
            "acme/моод",
            "acme\\mood",
            "~/mood",
        ] {
            check(text, None, Err("OWNER/NAME"));
        }
        for revision in [
            "", "..", "a/../b", "/etc", "a//b", ".hidden", "-x", "a b", "a\0b", "a\\b",
        ] {
            check("acme/mood", Some(revision), Err("revision"));
        }
    }
}
