//! A streamed HTTP response as the one that a client gets: status and headers as JSON, eight
//! zero bytes, then the body.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming>

use serde_json::{Map, Value};

/// Between status and headers, and the body.
const DELIMITER: [u8; 8] = [0; 8];

/// The response in the form that it would have in one piece; else what is wrong with it.
pub(crate) fn response(streamed: &[u8]) -> Result<Value, &'static str> {
    let end = streamed
        .windows(DELIMITER.len())
        .position(|bytes| bytes == DELIMITER)
        .ok_or("a stream without eight zero bytes behind its headers")?;
    let (head, body) = (&streamed[..end], &streamed[end + DELIMITER.len()..]);
    let head: Option<Map<String, Value>> = serde_json::from_slice(head).ok();
    let mut response = head.ok_or("a stream whose headers are no object of JSON")?;
    if !response.get("statusCode").is_some_and(Value::is_u64) {
        return Err("a stream without a status");
    }
    let headers = response.get("headers").and_then(Value::as_object);
    if headers.is_some_and(|headers| !headers.values().all(Value::is_string)) {
        return Err("a stream with a header that is no string");
    }
    // Bytes that are no text would be in base64, which nobody here looks at.
    let body = String::from_utf8_lossy(body).into_owned();
    response.insert("body".to_owned(), body.into());
    response.insert("isBase64Encoded".to_owned(), false.into());
    Ok(response.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_headers_and_body_are_put_together() {
        let streamed = b"{\"statusCode\":200,\"headers\":{\"a\":\"b\"}}\0\0\0\0\0\0\0\0x\0\ny";
        let expected = json!({
            "statusCode": 200, "headers": { "a": "b" }, "body": "x\0\ny", "isBase64Encoded": false,
        });
        assert_eq!(response(streamed), Ok(expected));
    }

    #[test]
    fn what_is_no_response_is_told() {
        for (streamed, expected) in [
            (
                &b"{\"statusCode\":200}\0\0\0\0\0\0\0x"[..],
                "eight zero bytes",
            ),
            (b"", "eight zero bytes"),
            (b"[]\0\0\0\0\0\0\0\0", "no object"),
            (b"{}\0\0\0\0\0\0\0\0", "without a status"),
            (
                b"{\"statusCode\":200,\"headers\":{\"a\":[\"b\"]}}\0\0\0\0\0\0\0\0",
                "no string",
            ),
        ] {
            let said = response(streamed).expect_err("it is none");
            assert!(said.contains(expected), "{said}");
        }
    }
}
