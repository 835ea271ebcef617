//! The event that a Function URL makes of an HTTP request (payload format 2.0), and
//! what its response means.

use crate::clock::unix_ms;
use bytes::Bytes;
use serde_json::{Value, json};

const DOMAIN: &str = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws";

/// A post of about 24 tokens, the length most are.
pub const POST: &str = "finally got the update and wow, two full days of battery and the camera \
                        is so much better, well done everyone";

/// A `POST` of JSON to `path`, as a Function URL passes it on.
///
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>
pub fn function_url(path: &str, body: &Value) -> Bytes {
    let now = unix_ms();
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "content-type": "application/json",
            "host": DOMAIN,
            "user-agent": "coldread-loadtest",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefghijklmnopqrstuvwxyz012345",
            "domainName": DOMAIN,
            "domainPrefix": "abcdefghijklmnopqrstuvwxyz012345",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "coldread-loadtest",
            },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": now,
        },
        "body": body.to_string(),
        "isBase64Encoded": false,
    });
    event.to_string().into()
}

/// Whether a response is an HTTP reply of status 200 with a body; else what it is.
pub fn check_reply(answer: &[u8]) -> Result<(), String> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|_| "a response that is not JSON".to_owned())?;
    match answer.get("statusCode").and_then(Value::as_u64) {
        Some(200) if answer.get("body").is_some_and(Value::is_string) => Ok(()),
        Some(200) => Err("an HTTP reply without a body".to_owned()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err("a response that is not an HTTP response".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_holds_the_request() {
        let event = function_url("/v1/sentiment", &json!({ "text": POST }));
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["rawPath"], "/v1/sentiment");
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["text"], POST);
    }

    #[test]
    fn only_a_reply_with_a_body_is_one() {
        assert_eq!(check_reply(br#"{"statusCode":200,"body":"{}"}"#), Ok(()));
        for (answer, expected) in [
            (&b"nonsense"[..], "not JSON"),
            (b"[]", "not an HTTP response"),
            (br#"{"statusCode":500,"body":""}"#, "status 500"),
            (br#"{"statusCode":200}"#, "without a body"),
        ] {
            let said = check_reply(answer).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
