//! An HTTP event as a request for the router.
//!
//! Events are read leniently, field by field: anybody who may invoke the function can send
//! anything, and emulators leave out what they like. What is missing or of a wrong type is
//! as if it had not been sent, what no URI or header can hold is escaped or left out, and a
//! body that cannot be decoded is one that fails when it is read, so that its client gets
//! the router's own 400. Host and forwarded protocol are not looked at: no route needs them.

use super::path::{original_path, route_path};
use crate::platform::OriginalPath;
use axum::body::{Body, HttpBody};
use axum::http::header::USER_AGENT;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Who sent a request, which decides the response's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gateway {
    /// API Gateway's REST API, or an HTTP API with payloads of format 1.0.
    RestApi,
    /// API Gateway's HTTP API, or a Function URL.
    HttpApi,
    /// An Application Load Balancer.
    LoadBalancer,
}

impl Gateway {
    /// `None` for what only has names in common with a request: WebSocket messages, VPC
    /// Lattice, questions to an authorizer, agents' actions.
    fn from_event(event: &Value) -> Option<Self> {
        let context = &event["requestContext"];
        // Emulators write every field that some event has, as null where it is not theirs.
        let is_for_authorizer = ["methodArn", "routeArn"]
            .iter()
            .any(|name| !event[name].is_null());
        if is_for_authorizer || !context["connectionId"].is_null() {
            None
        } else if context["http"]["method"].is_string() {
            Some(Self::HttpApi)
        } else if !event["httpMethod"].is_string() || !event["path"].is_string() {
            None
        } else if context["elb"].is_object() {
            Some(Self::LoadBalancer)
        } else {
            Some(Self::RestApi)
        }
    }
}

/// A request, and what is to become of its response.
pub(super) struct Received {
    pub(super) gateway: Gateway,
    /// Whether this gateway takes streamed responses, if it is set to.
    pub(super) can_stream: bool,
    pub(super) request: Request<Body>,
}

/// The request in an event; `None` if there is none.
pub(super) fn read(event: &str) -> Option<Received> {
    let mut event: Value = serde_json::from_str(event).ok()?;
    let gateway = Gateway::from_event(&event)?;
    let method = match gateway {
        Gateway::HttpApi => &event["requestContext"]["http"]["method"],
        Gateway::RestApi | Gateway::LoadBalancer => &event["httpMethod"],
    };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_str()?.as_bytes()).ok()?;
    *request.uri_mut() = uri(&route_path(gateway, &event), &query(gateway, &event))?;
    *request.headers_mut() = headers(&event);
    if gateway == Gateway::LoadBalancer && is_default_health_check(&request) {
        *request.uri_mut() = Uri::from_static("/healthz");
    }
    let path = OriginalPath(original_path(gateway, &event).to_owned());
    request.extensions_mut().insert(path);
    let is_base64 = event["isBase64Encoded"] == true;
    *request.body_mut() = body(event["body"].take(), is_base64);
    Some(Received {
        can_stream: can_stream(gateway, &event),
        gateway,
        request,
    })
}

/// Function URLs and REST APIs can be set to stream, HTTP APIs and load balancers cannot. An
/// HTTP API's event differs from a Function URL's by its domain alone.
fn can_stream(gateway: Gateway, event: &Value) -> bool {
    match gateway {
        Gateway::RestApi => true,
        Gateway::HttpApi => {
            let domain = event["requestContext"]["domainName"].as_str();
            domain.is_some_and(|domain| domain.contains(".lambda-url."))
        }
        Gateway::LoadBalancer => false,
    }
}

/// A load balancer whose target group names no path for its checks asks for `/`, and takes
/// nothing but 200 for health.
fn is_default_health_check(request: &Request<Body>) -> bool {
    let agent = request.headers().get(USER_AGENT);
    request.uri().path() == "/"
        && agent.is_some_and(|agent| agent.as_bytes().starts_with(b"ELB-HealthChecker/"))
}

fn body(body: Value, is_base64: bool) -> Body {
    match body {
        Value::Null => Body::empty(),
        Value::String(text) if is_base64 => {
            decode_base64(&text).map_or_else(|| Body::new(Malformed), Body::from)
        }
        Value::String(text) => text.into(),
        _ => Body::new(Malformed),
    }
}

/// A body that is not what its event says.
struct Malformed;

impl HttpBody for Malformed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into())))
    }
}

/// Base64 of either alphabet, padded or not, on one line or several: no two of them
/// decode to different bytes.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if let Ok(bytes) = LENIENT.decode(text) {
        return Some(bytes);
    }
    let bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let standard: Vec<u8> = bytes
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    LENIENT.decode(standard).ok()
}

/// The headers that are some. Where a name has several values, `multiValueHeaders` has
/// them all and `headers` the last or none.
fn headers(event: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in fields(&event["multiValueHeaders"]) {
        let values = values.as_array().map_or(&[][..], Vec::as_slice);
        for value in values {
            append(&mut headers, name, value);
        }
    }
    let several = headers.clone();
    for (name, value) in fields(&event["headers"]) {
        if !several.contains_key(name) {
            append(&mut headers, name, value);
        }
    }
    headers
}

fn append(headers: &mut HeaderMap, name: &str, value: &Value) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = scalar(value).map(|value| HeaderValue::from_bytes(value.as_bytes()));
    if let (Ok(name), Some(Ok(value))) = (name, value) {
        // Fails where there are more names than any gateway sends.
        let _ = headers.try_append(name, value);
    }
}

/// A header's or parameter's value as text.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        _ => None,
    }
}

/// A map's entries; of anything else none.
fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// The query as it would stand in a URI.
fn query(gateway: Gateway, event: &Value) -> String {
    if let Value::String(raw) = &event["rawQueryString"]
        && gateway == Gateway::HttpApi
    {
        return escape(raw, is_query_byte);
    }
    // Load balancers hand on what the client sent, API Gateway has decoded it.
    let is_kept: fn(u8) -> bool = match gateway {
        Gateway::LoadBalancer => is_query_byte,
        Gateway::RestApi | Gateway::HttpApi => is_unreserved,
    };
    let mut query = String::new();
    let mut push = |name: &str, value: &Value| {
        if let Some(value) = scalar(value) {
            let separator = if query.is_empty() { "" } else { "&" };
            let (name, value) = (escape(name, is_kept), escape(&value, is_kept));
            let _ = write!(query, "{separator}{name}={value}");
        }
    };
    // Where there are both, this one has all values.
    let mut several = fields(&event["multiValueQueryStringParameters"]).peekable();
    if several.peek().is_some() {
        for (name, values) in several {
            let values = values.as_array().map_or(&[][..], Vec::as_slice);
            for value in values {
                push(name, value);
            }
        }
    } else {
        fields(&event["queryStringParameters"]).for_each(|(name, value)| push(name, value));
    }
    query
}

/// A path and a query as a URI; one that is too long for any has none.
fn uri(path: &str, query: &str) -> Option<Uri> {
    let mut path_and_query = String::new();
    if !path.starts_with('/') {
        path_and_query.push('/');
    }
    path_and_query += &escape(path, |byte| is_query_byte(byte) && byte != b'?');
    if !query.is_empty() {
        path_and_query.push('?');
        path_and_query += query;
    }
    PathAndQuery::try_from(path_and_query).ok().map(Uri::from)
}

/// What never has a meaning of its own in a URI.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand in a query. Escapes stay what they are.
fn is_query_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/?%".contains(&byte)
}

/// Text with everything else in percent escapes.
fn escape(text: &str, is_kept: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_kept(byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_is_read_as_it_is_written() {
        let bytes = b"a post: \xff\xfe\xfd?>";
        for text in [
            "YSBwb3N0OiD//v0/Pg==",
            "YSBwb3N0OiD//v0/Pg",
            "YSBwb3N0OiD__v0_Pg==",
            "YSBwb3N0OiD__v0_Pg",
            "YSBwb3N0\r\nOiD//v0/\r\nPg==\r\n",
        ] {
            assert_eq!(decode_base64(text).as_deref(), Some(&bytes[..]), "{text}");
        }
        for text in ["{\"text\":\"a\"}", "%%%", "Y", "YQ==YQ==", "YR=="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    #[test]
    fn uris_hold_what_was_sent() {
        let check = |gateway: Gateway, fields: Value, expected: &str| {
            let query = query(gateway, &fields);
            let uri = uri("/v1/sentiment", &query).expect("a URI");
            assert_eq!(uri.query().unwrap_or_default(), expected);
        };
        let (rest, http, alb) = (Gateway::RestApi, Gateway::HttpApi, Gateway::LoadBalancer);
        check(
            http,
            json!({ "rawQueryString": "a=%20&b=ü \"<#" }),
            "a=%20&b=%C3%BC%20%22%3C%23",
        );
        check(
            http,
            json!({ "queryStringParameters": { "a": "1" } }),
            "a=1",
        );
        check(
            rest,
            json!({ "queryStringParameters": { "a&b": "50% +" } }),
            "a%26b=50%25%20%2B",
        );
        check(
            alb,
            json!({ "queryStringParameters": { "a": "50%25+" } }),
            "a=50%25+",
        );
        let several = json!({
            "queryStringParameters": { "a": "2" },
            "multiValueQueryStringParameters": { "a": ["1", 2, null, {}] },
        });
        check(rest, several, "a=1&a=2");
        check(alb, json!({ "queryStringParameters": [7] }), "");

        assert_eq!(uri("", "").expect("a URI"), "/");
        assert_eq!(uri("a b?#\u{0}", "").expect("a URI"), "/a%20b%3F%23%00");
        assert!(uri(&"a".repeat(100_000), "").is_none());
    }

    #[test]
    fn headers_that_are_none_are_left_out() {
        let headers = headers(&json!({
            "headers": { "A": "last", "b": 7, "c d": "e", "f": "\n", "g": null, "h": "ü" },
            "multiValueHeaders": { "a": ["first", "last"], "i": "no list" },
        }));
        let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("a"), ["first", "last"]);
        assert_eq!(all("b"), ["7"]);
        assert_eq!(all("h"), ["ü".as_bytes()]);
        assert_eq!(headers.len(), 4);
    }
}
