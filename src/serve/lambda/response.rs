//! A response of the router in the form that its gateway expects: whole, or streamed.

use super::request::Gateway;
use crate::http::response_too_large;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, HeaderValue, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use lambda_runtime::{MetadataPrelude, StreamResponse};
use serde::Serialize;
use serde_json::{Map, Value};

/// Lambda carries 6 MB of JSON; what is left is for headers.
pub(super) const MAX_RESPONSE_BYTES: usize = 6_000_000;

/// Load balancers take 1 MB.
const MAX_ALB_RESPONSE_BYTES: usize = 950_000;

/// A response as API Gateway, a Function URL or a load balancer takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpResponse {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<Map<String, Value>>,
    /// None are set, but emulators of HTTP APIs want to read that.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<[String; 0]>,
    body: String,
    is_base64_encoded: bool,
}

/// Reads the body, and replaces a response that is too long by the error that says so.
pub(super) async fn write(
    gateway: Gateway,
    response: Response<Body>,
) -> Result<HttpResponse, axum::Error> {
    let max_bytes = match gateway {
        Gateway::LoadBalancer => MAX_ALB_RESPONSE_BYTES,
        Gateway::RestApi | Gateway::HttpApi => MAX_RESPONSE_BYTES,
    };
    let (mut parts, body) = response.into_parts();
    let body = match collect(body, max_bytes).await? {
        Some(body) => body,
        None => {
            let body;
            (parts, body) = response_too_large(max_bytes).into_parts();
            body.collect().await?.to_bytes()
        }
    };
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(error) => (BASE64_STANDARD.encode(error.as_bytes()), true),
    };
    // REST APIs merge both maps. A load balancer reads the one that it is set to.
    let has_one = gateway != Gateway::RestApi;
    let has_many = gateway != Gateway::HttpApi;
    Ok(HttpResponse {
        status_code: parts.status.as_u16(),
        status_description: (gateway == Gateway::LoadBalancer).then(|| parts.status.to_string()),
        headers: has_one.then(|| header_map(&parts.headers, |values| values.join(", ").into())),
        multi_value_headers: has_many.then(|| header_map(&parts.headers, Value::from)),
        cookies: (gateway == Gateway::HttpApi).then_some([]),
        body,
        is_base64_encoded,
    })
}

/// The response as it is written, of any length. Status and headers go ahead of the body.
pub(super) fn stream(response: Response<Body>) -> StreamResponse<BodyDataStream> {
    let (parts, body) = response.into_parts();
    let mut metadata_prelude = MetadataPrelude {
        status_code: parts.status,
        ..MetadataPrelude::default()
    };
    for name in parts.headers.keys() {
        // One string a header is all that gateways read.
        let values = parts.headers.get_all(name).iter();
        let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            metadata_prelude.headers.insert(name, value);
        }
    }
    StreamResponse {
        metadata_prelude,
        stream: body.into_data_stream(),
    }
}

fn header_map(headers: &HeaderMap, value: impl Fn(Vec<String>) -> Value) -> Map<String, Value> {
    let entry = |name: &axum::http::HeaderName| {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (name.to_string(), value(values.collect()))
    };
    headers.keys().map(entry).collect()
}

/// A body, read whole; `None` once it is more than `max_bytes` as a string of JSON.
async fn collect(mut body: Body, max_bytes: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += json_string_bytes(&data);
        if length > max_bytes {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

/// How long a body is as a string of JSON.
fn json_string_bytes(body: &[u8]) -> usize {
    let escapes = body.iter().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escapes.sum()
}
