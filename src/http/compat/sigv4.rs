//! Requests signed with AWS Signature Version 4, verified by signing them again.
//!
//! By hand, which is little: AWS's own signer, the crate `aws-sigv4`, brings a part of its
//! client runtime into every image. The tests sign with it.
//!
//! What a signature says is checked in two steps: first who signed and when, from the
//! headers alone, so that a stranger's body is not read; then the signature over the
//! method, the path and headers as they were sent, and the body.
//!
//! A signature holds for five minutes before and after its time, and there is no nonce in
//! it: the same request sent again within that time is accepted again, as at AWS.
//!
//! Source: AWS, "Create a signed AWS API request",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use crate::config::SigV4Keys;
use crate::platform::OriginalPath;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::{Duration, SystemTime};
use subtle::ConstantTimeEq;
use time::{Date, Month, PrimitiveDateTime, Time};

/// How far a signature's time may be from ours.
const MAX_SKEW: Duration = Duration::from_mins(5);

/// The service that is signed for.
const SERVICE: &str = "comprehend";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

const TERMINATOR: &str = "aws4_request";

/// `20260131`
const DATE_BYTES: usize = 8;

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Without these a signature would hold for other hosts, times or operations.
const ALWAYS_SIGNED: [&str; 3] = ["host", "x-amz-date", "x-amz-target"];

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("the request is not signed; sign it with one of the configured key pairs")]
    Missing,
    #[error("the request's Authorization header is not one of AWS Signature Version 4")]
    Incomplete,
    #[error("the security token included in the request is invalid")]
    UnknownKey,
    #[error("the signature's time is more than five minutes from the server's")]
    Skewed,
    #[error(
        "the request signature we calculated does not match the signature you provided; check the \
         secret access key, and that host and path reach the server as they were signed"
    )]
    Mismatch,
}

/// What a request says of its signature, by somebody whose secret we have.
pub(super) struct Claim<'a> {
    secret: &'a str,
    region: String,
    signed_headers: Vec<String>,
    signature: String,
    /// As it was sent: `20260131T235959Z`.
    time: String,
}

impl<'a> Claim<'a> {
    /// Reads the headers of a request that came at `now`.
    pub(super) fn read(
        headers: &HeaderMap,
        keys: &'a SigV4Keys,
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        let value = headers.get(AUTHORIZATION).ok_or(SignatureError::Missing)?;
        let value = value.to_str().map_err(|_| SignatureError::Incomplete)?;
        let rest = value.trim().strip_prefix(ALGORITHM);
        let fields = rest.ok_or(SignatureError::Missing)?;
        let field = |name: &str| {
            let mut fields = fields.split(',').map(str::trim);
            let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.ok_or(SignatureError::Incomplete)
        };
        let credential: Vec<&str> = field("Credential")?.split('/').collect();
        let [id, date, region, SERVICE, TERMINATOR] = credential[..] else {
            return Err(SignatureError::Incomplete);
        };
        let secret = keys.secret(id).ok_or(SignatureError::UnknownKey)?;
        let sent = headers.get(AMZ_DATE).and_then(|time| time.to_str().ok());
        let sent = sent.ok_or(SignatureError::Incomplete)?;
        let time = parse_time(sent).ok_or(SignatureError::Incomplete)?;
        if sent[..DATE_BYTES] != *date {
            return Err(SignatureError::Incomplete);
        }
        let skew = now.duration_since(time).unwrap_or_else(|e| e.duration());
        if skew > MAX_SKEW {
            return Err(SignatureError::Skewed);
        }
        let signed_headers = field("SignedHeaders")?.split(';').map(str::to_owned);
        let signed_headers: Vec<String> = signed_headers.collect();
        let is_signed = |name: &str| signed_headers.iter().any(|signed| signed == name);
        if !ALWAYS_SIGNED.into_iter().all(is_signed) {
            return Err(SignatureError::Incomplete);
        }
        Ok(Self {
            secret,
            region: region.to_owned(),
            signature: field("Signature")?.to_owned(),
            signed_headers,
            time: sent.to_owned(),
        })
    }

    /// Whether it is true of the whole request.
    pub(super) fn verify(&self, parts: &Parts, body: &[u8]) -> Result<(), SignatureError> {
        let signature = self.sign(parts, body).ok_or(SignatureError::Mismatch)?;
        let is_equal = signature.as_bytes().ct_eq(self.signature.as_bytes());
        if is_equal.into() {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    /// The signature as it should be; none if a header that was signed has gone.
    fn sign(&self, parts: &Parts, body: &[u8]) -> Option<String> {
        let request = hex(&Sha256::digest(self.canonical_request(parts, body)?));
        let (time, region) = (self.time.as_str(), self.region.as_str());
        let date = &time[..DATE_BYTES];
        let scope = format!("{date}/{region}/{SERVICE}/{TERMINATOR}");
        let message = format!("{ALGORITHM}\n{time}\n{scope}\n{request}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [date, region, SERVICE, TERMINATOR, &message] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        Some(hex(&key))
    }

    /// The request as text, in the one way that both sides write it.
    fn canonical_request(&self, parts: &Parts, body: &[u8]) -> Option<String> {
        let original: Option<&OriginalPath> = parts.extensions.get();
        let path = original.map_or(parts.uri.path(), |OriginalPath(path)| path);
        let mut text = format!("{}\n{}\n", parts.method, encoded(path));
        let mut pairs: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
        pairs.sort_unstable();
        text += &pairs.join("&");
        text.push('\n');
        for name in &self.signed_headers {
            let mut values = Vec::new();
            for value in parts.headers.get_all(name) {
                let words: Vec<&str> = value.to_str().ok()?.split_whitespace().collect();
                values.push(words.join(" "));
            }
            if values.is_empty() {
                return None;
            }
            text += &format!("{name}:{}\n", values.join(","));
        }
        let signed = self.signed_headers.join(";");
        text += &format!("\n{signed}\n{}", hex(&Sha256::digest(body)));
        Some(text)
    }
}

/// A path as it came, encoded once more, as all services but S3 have it.
fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `20260131T235959Z`
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if date.len() != 8 || time.len() != 6 || !is_digits(date) || !is_digits(time) {
        return None;
    }
    let number = |digits: &str| digits.parse::<u8>().ok();
    let month = Month::try_from(number(&date[4..6])?).ok()?;
    let date = Date::from_calendar_date(date[..4].parse().ok()?, month, number(&date[6..])?);
    let (hour, minute) = (number(&time[..2])?, number(&time[2..4])?);
    let time = Time::from_hms(hour, minute, number(&time[4..])?);
    Some(
        PrimitiveDateTime::new(date.ok()?, time.ok()?)
            .assume_utc()
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    /// What boto3 1.44.5 sent.
    const BODY: &[u8] = "{\"Text\": \"what a day 😀\", \"LanguageCode\": \"en\"}".as_bytes();
    const SIGNATURE: &str = "a73ece21e00b0503480bbe146630ee58317b42877948beb994dcd3e11e74cb9e";

    fn keys() -> SigV4Keys {
        let pair = "AKIDEXAMPLE:secret/with+16=characters".to_owned();
        SigV4Keys::parse(&[pair]).expect("well-formed")
    }

    /// That request, with some headers otherwise.
    fn request(changes: &[(&'static str, &str)]) -> Parts {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/comprehend/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={SIGNATURE}"
        );
        let request = Request::post("/comprehend")
            .header("host", "127.0.0.1:8080")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "Comprehend_20171127.DetectSentiment")
            .header("x-amz-date", "20261122T084934Z")
            .header("authorization", authorization);
        let (mut parts, ()) = request.body(()).expect("well-formed").into_parts();
        for (name, value) in changes {
            parts.headers.insert(*name, value.parse().expect("a value"));
        }
        parts
    }

    fn check(parts: &Parts, body: &[u8], seconds_late: i64) -> Result<(), SignatureError> {
        let sent = parse_time("20261122T084934Z").expect("a time");
        let late = Duration::from_secs(seconds_late.unsigned_abs());
        let now = if seconds_late < 0 {
            sent - late
        } else {
            sent + late
        };
        Claim::read(&parts.headers, &keys(), now)?.verify(parts, body)
    }

    #[test]
    fn boto3_is_believed_for_five_minutes() {
        for late in [0, -300, 300] {
            assert_eq!(check(&request(&[]), BODY, late), Ok(()), "{late}");
        }
        for late in [-301, 301, 1_000_000] {
            let checked = check(&request(&[]), BODY, late);
            assert_eq!(checked, Err(SignatureError::Skewed), "{late}");
        }
    }

    #[test]
    fn the_path_is_the_one_that_was_signed() {
        let mut parts = request(&[]);
        parts.uri = "/elsewhere".parse().expect("a path");
        assert_eq!(check(&parts, BODY, 0), Err(SignatureError::Mismatch));
        parts
            .extensions
            .insert(OriginalPath("/comprehend".to_owned()));
        assert_eq!(check(&parts, BODY, 0), Ok(()));
    }

    #[test]
    fn whatever_was_signed_may_not_change() {
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(check(&request(&[]), &BODY[1..], 0), mismatch);
        for change in [
            ("host", "example.org"),
            ("x-amz-target", "Comprehend_20171127.BatchDetectSentiment"),
            ("content-type", "application/json"),
            ("x-amz-date", "20261122T084935Z"),
        ] {
            assert_eq!(check(&request(&[change]), BODY, 0), mismatch, "{change:?}");
        }
        let mut parts = request(&[]);
        parts.uri = "/comprehend?a=b".parse().expect("a path");
        assert_eq!(check(&parts, BODY, 0), mismatch);
        parts = request(&[]);
        parts.headers.remove("content-type");
        assert_eq!(check(&parts, BODY, 0), mismatch);
        // White space and other headers are not part of it.
        let same = request(&[
            ("user-agent", "x"),
            ("content-type", " application/x-amz-json-1.1 "),
        ]);
        assert_eq!(check(&same, BODY, 0), Ok(()));
    }

    #[test]
    fn claims_that_are_none_are_named() {
        let credential = "Credential=AKIDEXAMPLE/20261122/us-east-1/comprehend/aws4_request";
        let signed = "SignedHeaders=host;x-amz-date;x-amz-target";
        let whole = format!("AWS4-HMAC-SHA256 {credential}, {signed}, Signature=ab");
        for (value, expected) in [
            (whole.clone(), SignatureError::Mismatch),
            ("Bearer token".to_owned(), SignatureError::Missing),
            (String::new(), SignatureError::Missing),
            (
                whole.replace("AKIDEXAMPLE", "AKIDNOBODY"),
                SignatureError::UnknownKey,
            ),
            (
                whole.replace("/comprehend/", "/s3/"),
                SignatureError::Incomplete,
            ),
            (
                whole.replace("20261122", "20261121"),
                SignatureError::Incomplete,
            ),
            (whole.replace("host;", ""), SignatureError::Incomplete),
            (
                whole.replace(";x-amz-target", ""),
                SignatureError::Incomplete,
            ),
            (
                whole.replace("Signature", "Seal"),
                SignatureError::Incomplete,
            ),
            ("AWS4-HMAC-SHA256".to_owned(), SignatureError::Incomplete),
            (
                "AWS4-HMAC-SHA256 Credential=////".to_owned(),
                SignatureError::Incomplete,
            ),
        ] {
            let parts = request(&[("authorization", &value)]);
            assert_eq!(check(&parts, BODY, 0), Err(expected), "{value}");
        }
        for time in [
            "",
            "20261122",
            "20261322T084934Z",
            "20261122T256000Z",
            "2026112éT084934Z",
        ] {
            let mut parts = request(&[]);
            let value = axum::http::HeaderValue::from_bytes(time.as_bytes()).expect("a value");
            parts.headers.insert("x-amz-date", value);
            assert_eq!(
                check(&parts, BODY, 0),
                Err(SignatureError::Incomplete),
                "{time}"
            );
        }
        let mut parts = request(&[]);
        parts.headers.remove("authorization");
        assert_eq!(check(&parts, BODY, 0), Err(SignatureError::Missing));
    }
}
