//! Key pairs that signed requests (AWS Signature Version 4) are verified against.

use super::ConfigError;
use std::fmt;

/// Shorter secrets could be guessed, and offline at that.
const MIN_SECRET_BYTES: usize = 16;

/// The key pairs that are valid.
#[derive(Clone, Default)]
pub struct SigV4Keys(Vec<(String, String)>);

impl SigV4Keys {
    /// Reads pairs, each as `ACCESS_KEY_ID:SECRET_ACCESS_KEY`.
    pub fn parse(pairs: &[String]) -> Result<Self, ConfigError> {
        let mut keys = Vec::new();
        for (i, pair) in pairs.iter().enumerate() {
            let reject =
                |what: &str| Err(ConfigError::ApiKeys(format!("SigV4 key {} {what}", i + 1)));
            let Some((id, secret)) = pair.split_once(':') else {
                return reject("has no colon; expected ACCESS_KEY_ID:SECRET_ACCESS_KEY");
            };
            let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if id.is_empty() || !id.bytes().all(is_id) {
                return reject("has an id with other characters than letters, digits and _");
            }
            if secret.len() < MIN_SECRET_BYTES {
                return reject(
                    "has a secret shorter than 16 characters, which could be guessed; use a longer one",
                );
            }
            if keys.iter().any(|(known, _)| known == id) {
                return reject("has the same id as another one");
            }
            keys.push((id.to_owned(), secret.to_owned()));
        }
        Ok(Self(keys))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret that belongs to an access key id. Ids are no secrets.
    pub fn secret(&self, id: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(known, _)| known == id);
        pair.map(|(_, secret)| secret.as_str())
    }
}

impl fmt::Debug for SigV4Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} key pairs]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[&str]) -> Result<SigV4Keys, String> {
        let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
        SigV4Keys::parse(&pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_belongs_to_its_id() {
        let keys = parse(&[
            "AKIDOLD:old/secret+0123456789",
            "AKIDNEW:new:secret-0123456789",
        ])
        .expect("well-formed");
        let secret = |id| keys.secret(id);
        assert_eq!(secret("AKIDOLD"), Some("old/secret+0123456789"));
        assert_eq!(secret("AKIDNEW"), Some("new:secret-0123456789"));
        assert_eq!(secret("AKID"), None);
        assert!(!format!("{keys:?}").contains("secret"), "{keys:?}");
    }

    #[test]
    fn pairs_that_protect_nothing_are_rejected_unseen() {
        for pairs in [
            &["secret-0123456789"][..],
            &[":secret-0123456789"],
            &["AK ID:secret-0123456789"],
            &["AKID:secret"],
            &["AKID:secret-0123456789", "AKID:secret-9876543210"],
        ] {
            let message = parse(pairs).expect_err("rejected");
            assert!(!message.contains("secret-"), "{message}");
        }
    }
}
