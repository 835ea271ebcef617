//! The Hub's settings in the environment, read as Python's `huggingface_hub` reads them.

use super::HubError;
use crate::environment::is_true;
use std::path::{Path, PathBuf};
use ureq::http::HeaderValue;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the Hub and its cache are, and the token.
#[derive(Debug)]
pub(super) struct Environment {
    /// The Hub's address, without a slash at its end.
    pub(super) endpoint: String,
    /// The folder of all models.
    pub(super) cache: PathBuf,
    /// The value of `Authorization`.
    pub(super) token: Option<HeaderValue>,
}

impl Environment {
    pub(super) fn read() -> Result<Self, HubError> {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(var: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        // An empty variable counts as unset.
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let user = PathBuf::from(var("HOME").unwrap_or_else(|| "/tmp".into()));
        let path = |name: &str| Some(expand(&var(name)?, &user));
        let home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache"));
            caches.join("huggingface")
        });
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let file = |path: PathBuf| clean(&std::fs::read_to_string(path).ok()?);
        let is_disabled = var("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value));
        let token = (!is_disabled).then(|| {
            var("HF_TOKEN")
                .or_else(|| var("HUGGING_FACE_HUB_TOKEN"))
                .and_then(|token| clean(&token))
                .or_else(|| file(path("HF_TOKEN_PATH")?))
                .or_else(|| file(home.join("token")))
        });
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| home.join("hub")),
            token: token.flatten().map(bearer).transpose()?,
        })
    }
}

/// A path in which a `~` at the start is the user's home.
fn expand(path: &str, user: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => user.to_owned(),
        Some(rest) if rest.starts_with('/') => user.join(rest.trim_start_matches('/')),
        _ => path.into(),
    }
}

fn clean(token: &str) -> Option<String> {
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

fn bearer(token: String) -> Result<HeaderValue, HubError> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| HubError::InvalidToken)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Environment {
        let value = |name: &str| {
            vars.iter()
                .find(|var| var.0 == name)
                .map(|var| var.1.into())
        };
        Environment::of(value).expect("a sound token")
    }

    #[test]
    fn the_endpoint_has_a_default() {
        for (value, expected) in [
            ("", ENDPOINT),
            ("https://hub.example/", "https://hub.example"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ] {
            assert_eq!(read(&[("HF_ENDPOINT", value)]).endpoint, expected);
        }
        assert_eq!(read(&[]).endpoint, ENDPOINT);
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let check = |vars: &[(&str, &str)], expected: &str| {
            let vars = [&[("HOME", "/home/me")], vars].concat();
            assert_eq!(read(&vars).cache, Path::new(expected), "{vars:?}");
        };
        check(&[], "/home/me/.cache/huggingface/hub");
        check(&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub");
        check(&[("HF_HOME", "")], "/home/me/.cache/huggingface/hub");
        check(&[("HF_HOME", "~/hf")], "/home/me/hf/hub");
        check(&[("HF_HOME", "~")], "/home/me/hub");
        check(&[("HF_HOME", "~other/hf")], "~other/hf/hub");
        check(&[("HUGGINGFACE_HUB_CACHE", "/old")], "/old");
        let both = [("HF_HUB_CACHE", "~/new"), ("HUGGINGFACE_HUB_CACHE", "/old")];
        check(&both, "/home/me/new");
    }

    #[test]
    fn the_token_is_the_first_that_is_there() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), "of_home\n").expect("a file");
        std::fs::write(home.path().join("other"), "of_file").expect("a file");
        let home = ("HF_HOME", home.path().to_str().expect("UTF-8"));
        let other = format!("{}/other", home.1);
        let check = |vars: &[(&str, &str)], expected: Option<&str>| {
            let vars = [&[home], vars].concat();
            let expected = expected.map(|token| format!("Bearer {token}"));
            let token = read(&vars).token;
            let token = token.as_ref().map(|it| it.to_str().expect("ASCII"));
            assert_eq!(token, expected.as_deref(), "{vars:?}");
        };
        check(&[], Some("of_home"));
        check(&[("HF_TOKEN_PATH", &other)], Some("of_file"));
        let old = ("HUGGING_FACE_HUB_TOKEN", "old");
        check(&[old, ("HF_TOKEN_PATH", &other)], Some("old"));
        check(&[old, ("HF_TOKEN", " new\n")], Some("new"));
        check(&[old, ("HF_TOKEN", "")], Some("old"));
        check(&[("HF_TOKEN", " ")], Some("of_home"));
        let disable = "HF_HUB_DISABLE_IMPLICIT_TOKEN";
        for value in ["1", "on", "Yes", "TRUE"] {
            check(&[old, (disable, value)], None);
        }
        for value in ["", "0", "false", "no"] {
            check(&[old, (disable, value)], Some("old"));
        }
    }
}
