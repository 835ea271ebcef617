//! Access: API keys, key pairs for signatures, and allowed web origins.

use super::{ConfigError, SigV4Keys};
use std::fmt;
use std::path::{Path, PathBuf};
use subtle::{Choice, ConstantTimeEq};

/// Shorter keys could be guessed.
const MIN_KEY_BYTES: usize = 16;

/// Settings of access, from flags and variables.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// API keys, separated by commas or white space. All of them are valid, so keys can be
    /// rotated. Without any, everybody who reaches the server may use it. Prefer the variable:
    /// other users of a machine can see its command lines.
    #[arg(
        long,
        env = "COLDREAD_API_KEYS",
        hide_env_values = true,
        value_name = "KEYS"
    )]
    pub api_keys: Option<Secret>,

    /// File with API keys, one per line; blank lines and lines that begin with # are ignored.
    /// It is read once, at start.
    #[arg(long, env = "COLDREAD_API_KEYS_FILE", value_name = "PATH")]
    pub api_keys_file: Option<PathBuf>,

    /// Key pairs that Amazon Comprehend's clients sign with, as ID:SECRET, separated by commas
    /// or white space. With key pairs or API keys configured, a request without either is
    /// rejected; with neither, any signature is accepted. Prefer the variable.
    #[arg(
        long,
        env = "COLDREAD_SIGV4_KEYS",
        hide_env_values = true,
        value_name = "PAIRS"
    )]
    pub sigv4_keys: Option<Secret>,

    /// File with such pairs, one per line; blank lines and lines that begin with # are
    /// ignored. It is read once, at start.
    #[arg(long, env = "COLDREAD_SIGV4_KEYS_FILE", value_name = "PATH")]
    pub sigv4_keys_file: Option<PathBuf>,

    /// Serve /metrics without a key even if API keys are configured.
    #[arg(long, env = "COLDREAD_PUBLIC_METRICS")]
    pub public_metrics: bool,

    /// Require a key for the page at / and for the API's description too, if API keys are
    /// configured. They hold no secrets, but browsers send no key for a page.
    #[arg(long, env = "COLDREAD_PRIVATE_DOCS")]
    pub private_docs: bool,

    /// Origins whose pages may read responses in a browser (CORS), with scheme and host,
    /// separated by commas [default: only pages of this server].
    #[arg(
        long,
        env = "COLDREAD_CORS_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGINS"
    )]
    pub cors_origins: Vec<String>,
}

/// A value that is not shown.
#[derive(Clone)]
pub struct Secret(String);

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Access settings, read and checked.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The keys that are valid.
    pub keys: ApiKeys,
    /// The key pairs that a signature can be made with.
    pub sigv4_keys: SigV4Keys,
    /// Whether metrics are open to all although there are keys.
    pub public_metrics: bool,
    /// Whether page and description are closed when there are keys.
    pub private_docs: bool,
    /// Origins whose pages may read responses.
    pub cors_origins: Vec<String>,
}

impl Access {
    /// Whether no key of any kind is required.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty() && self.sigv4_keys.is_empty()
    }
}

impl AccessArgs {
    /// Reads the keys and checks everything.
    pub fn resolve(&self) -> Result<Access, ConfigError> {
        let origins = self.cors_origins.iter().map(|origin| origin.trim());
        let cors_origins: Vec<String> = origins
            .filter(|origin| !origin.is_empty())
            .map(str::to_owned)
            .collect();
        if let Some(wrong) = cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(ConfigError::Origin(wrong.clone()));
        }
        Ok(Access {
            keys: self.keys()?,
            sigv4_keys: self.sigv4_keys()?,
            public_metrics: self.public_metrics,
            private_docs: self.private_docs,
            cors_origins,
        })
    }

    fn keys(&self) -> Result<ApiKeys, ConfigError> {
        let file = self.api_keys_file.as_deref();
        let keys = listed(self.api_keys.as_ref(), "--api-keys-file", file)?;
        for (i, key) in keys.iter().enumerate() {
            let reject =
                |what: &str| Err(ConfigError::ApiKeys(format!("API key {} {what}", i + 1)));
            if key.len() < MIN_KEY_BYTES {
                return reject(
                    "is shorter than 16 characters and could be guessed; use a longer one",
                );
            }
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return reject(
                    "has characters that are not allowed in a header; use visible ASCII characters",
                );
            }
        }
        Ok(ApiKeys(keys))
    }

    fn sigv4_keys(&self) -> Result<SigV4Keys, ConfigError> {
        let file = self.sigv4_keys_file.as_deref();
        let pairs = listed(self.sigv4_keys.as_ref(), "--sigv4-keys-file", file)?;
        SigV4Keys::parse(&pairs)
    }
}

/// What is listed in a setting and, one a line, in a file.
fn listed(
    list: Option<&Secret>,
    flag: &str,
    file: Option<&Path>,
) -> Result<Vec<String>, ConfigError> {
    let mut keys = Vec::new();
    if let Some(Secret(list)) = list {
        let separator = |c: char| c == ',' || c.is_whitespace();
        let parts = list.split(separator).filter(|key| !key.is_empty());
        keys.extend(parts.map(str::to_owned));
    }
    if let Some(path) = file {
        let reject =
            |reason: String| ConfigError::ApiKeys(format!("{flag} {}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| reject(e.to_string()))?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let before = keys.len();
        keys.extend(
            lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
        // The operator who names a file wants keys; without any the server would be open.
        if keys.len() == before {
            return Err(reject(
                "it contains no key; add one or leave the flag out".to_owned(),
            ));
        }
    }
    Ok(keys)
}

/// Whether a value is as browsers send it: scheme, host and port, and nothing behind.
fn is_origin(value: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme));
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    host.is_some_and(|host| !host.is_empty() && host.chars().all(is_host))
}

/// The keys that are valid; without any, none is required.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Whether no key is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is one of them. How long that takes tells nothing but lengths.
    pub fn accept(&self, key: &[u8]) -> bool {
        let equal = self.0.iter().map(|valid| valid.as_bytes().ct_eq(key));
        equal.fold(Choice::from(0), |any, one| any | one).into()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} secrets]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const OLD: &str = "old-key-0123456789";
    const NEW: &str = "new-key-0123456789";

    fn with_keys(keys: &str) -> AccessArgs {
        AccessArgs {
            api_keys: Some(keys.into()),
            ..AccessArgs::default()
        }
    }

    fn in_file(text: &str) -> (tempfile::NamedTempFile, AccessArgs) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let args = AccessArgs {
            api_keys_file: Some(file.path().to_owned()),
            ..AccessArgs::default()
        };
        (file, args)
    }

    #[test]
    fn every_key_is_valid_and_nothing_else() {
        let (_file, file) = in_file(&format!("\u{feff}# rotated in May\n\n {OLD} \r\n{NEW}\n"));
        for args in [
            with_keys(&format!("{OLD}, {NEW}")),
            with_keys(&format!("{OLD}\n{NEW}\n")),
            file,
        ] {
            let keys = args.keys().expect("well-formed keys");
            assert!(keys.accept(OLD.as_bytes()) && keys.accept(NEW.as_bytes()));
            for wrong in [
                "",
                "old-key-012345678",
                "old-key-0123456789x",
                "OLD-KEY-0123456789",
            ] {
                assert!(!keys.accept(wrong.as_bytes()), "{wrong}");
            }
        }
    }

    #[test]
    fn no_keys_open_the_service() {
        for args in [AccessArgs::default(), with_keys(""), with_keys(" , ")] {
            assert!(args.keys().expect("nothing to reject").is_empty());
        }
    }

    #[test]
    fn keys_that_protect_nothing_are_rejected_unseen() {
        let (_file, empty) = in_file("# none yet\n");
        let missing = AccessArgs {
            api_keys_file: Some("no/such/file".into()),
            ..AccessArgs::default()
        };
        for (args, expected) in [
            (
                with_keys(&format!("{OLD},hunter2")),
                "API key 2 is shorter than 16",
            ),
            (with_keys("pässword-0123456789"), "not allowed in a header"),
            (empty, "it contains no key"),
            (missing, "no/such/file"),
        ] {
            let message = args.keys().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("pässword"));
        }
    }

    #[test]
    fn origins_are_taken_as_browsers_send_them() {
        let resolve = |origin: &str| {
            let args = AccessArgs {
                cors_origins: vec![origin.to_owned()],
                ..AccessArgs::default()
            };
            args.resolve().map(|access| access.cors_origins)
        };
        for origin in [
            "https://example.org",
            "http://localhost:3000",
            "https://[::1]:8",
        ] {
            assert_eq!(resolve(&format!(" {origin} ")), Ok(vec![origin.to_owned()]));
        }
        assert_eq!(resolve(""), Ok(vec![]));
        for wrong in [
            "*",
            "example.org",
            "https://",
            "https://a.org/",
            "https://*.org",
            "null",
        ] {
            let message = resolve(wrong).expect_err(wrong).to_string();
            assert!(message.contains("https://example.org"), "{message}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let args = with_keys(OLD);
        let shown = format!("{args:?} {:?}", args.keys());
        assert!(!shown.contains(OLD), "{shown}");
    }
}
