//! Which request and which trace a log line belongs to.
//!
//! Clients send all kinds of values in these headers, such as bare UUIDs where AWS puts
//! `Root=1-...`. A value that looks like an id is used, and any other is ignored: a request is
//! never rejected because of its trace id.

/// Ids are copied into log lines and replies, so they are kept short.
const MAX_ID_BYTES: usize = 128;

/// The trace that a request is a part of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceIds {
    /// The root of `X-Amzn-Trace-Id`, without `Root=`.
    pub xray: Option<String>,
    /// The trace id of the W3C's `traceparent`: 32 hexadecimal digits.
    pub w3c: Option<String>,
}

impl TraceIds {
    /// Reads the values of the headers `X-Amzn-Trace-Id` and `traceparent`.
    pub fn parse(xray: Option<&[u8]>, traceparent: Option<&[u8]>) -> Self {
        Self {
            xray: xray.and_then(xray_root).map(str::to_owned),
            w3c: traceparent.and_then(w3c_trace_id).map(str::to_owned),
        }
    }
}

/// `Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=...;Sampled=1`, or a bare id.
fn xray_root(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let mut fields = value.split(';').map(str::trim);
    let root = fields.clone().find_map(|field| {
        let (name, id) = field.split_once('=')?;
        name.trim().eq_ignore_ascii_case("root").then(|| id.trim())
    });
    id(root.or_else(|| fields.next().filter(|first| !first.contains('=')))?)
}

/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`
fn w3c_trace_id(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?.trim();
    let mut fields = value.split('-');
    let (version, trace_id) = (fields.next()?, fields.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_valid = version.len() == 2
        && trace_id.len() == 32
        && is_hex(version)
        && is_hex(trace_id)
        && trace_id.bytes().any(|byte| byte != b'0');
    is_valid.then_some(trace_id)
}

/// What can stand in a header and in a log line and is nobody's prose.
pub(crate) fn id(text: &str) -> Option<&str> {
    let fits = (1..=MAX_ID_BYTES).contains(&text.len());
    (fits && text.bytes().all(is_id_byte)).then_some(text)
}

/// Letters, digits and what stands between them in ids and in Amazon's resource names.
pub(crate) fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte)
}

/// The id of a request: the client's own if it sent one that can be used, else a new one.
pub fn request_id(sent: Option<&[u8]>) -> String {
    sent.and_then(|sent| std::str::from_utf8(sent).ok())
        .and_then(|sent| id(sent.trim()))
        .map_or_else(new_request_id, str::to_owned)
}

/// 32 random hexadecimal digits. All of them come from the system each time: a generator in
/// this process would go on alike in every copy that is restored from a snapshot of it.
fn new_request_id() -> String {
    let mut bytes = [0; 16];
    // The standard library depends on it as well.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_xray(value: &[u8], expected: Option<&str>) {
        let ids = TraceIds::parse(Some(value), None);
        assert_eq!(ids.xray.as_deref(), expected);
    }

    #[test]
    fn the_root_is_found_however_it_is_written() {
        let root = Some("1-5bef4de7-ad49b0e87f6ef6c87fc2e700");
        check_xray(b"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0", root);
        check_xray(
            b"Self=1-a;  root = 1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
            root,
        );
        check_xray(b"1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1", root);
        let uuid = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
        check_xray(uuid.as_bytes(), Some(uuid));
    }

    #[test]
    fn what_is_no_id_is_left_out() {
        check_xray(b"", None);
        check_xray(b"Sampled=1", None);
        check_xray(b"Root=", None);
        check_xray(b"Root=a b", None);
        check_xray(b"I love this phone", None);
        check_xray(b"Root=\xff\xfe", None);
        check_xray(&[b'a'; 129], None);
    }

    #[test]
    fn w3c_trace_ids() {
        let check = |value: &str, expected: Option<&str>| {
            let ids = TraceIds::parse(None, Some(value.as_bytes()));
            assert_eq!(ids.w3c.as_deref(), expected, "{value}");
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        check(&format!("00-{id}-00f067aa0ba902b7-01"), Some(id));
        check(&format!(" cc-{id}-00f067aa0ba902b7-01-more "), Some(id));
        check(&format!("00-{id}"), Some(id));
        check(
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            None,
        );
        check("00-4bf92f3577b34da6-00f067aa0ba902b7-01", None);
        check("4bf92f3577b34da6a3ce929d0e0e4736", None);
        check("a post", None);
    }

    #[test]
    fn a_callers_id_is_kept_and_others_are_made() {
        assert_eq!(request_id(Some(b" my-id_1 ")), "my-id_1");
        let made: Vec<String> = [None, Some(&b"a post"[..]), Some(b""), Some(&[b'x'; 500])]
            .into_iter()
            .map(request_id)
            .collect();
        for (i, id) in made.iter().enumerate() {
            assert!(
                id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
                "{id}"
            );
            assert!(!made[..i].contains(id), "{id} is there twice");
        }
    }
}
