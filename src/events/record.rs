//! A record of an event, and the post in it.
//!
//! Any producer of the queue or stream can write records, so they are untrusted: a record without
//! a post is an error of that record alone, and no message quotes the record.

use crate::config::{EventOptions, Pointer};
use crate::rows::{self, RowError};
use crate::telemetry;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// A record of an event.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The id that the platform gave it.
    pub(super) id: Option<String>,
    /// The id by which a partial batch response reports its failure.
    pub(super) failure_id: String,
    /// The ordered group of messages that it belongs to.
    pub(super) group: Option<String>,
    /// The resource that it comes from.
    pub(super) source: Option<String>,
    /// The post to score.
    pub(super) content: Content,
}

/// The post in a record.
#[derive(Debug)]
pub(super) struct Content {
    /// `None` if the record is a deletion, which has no post.
    pub(super) post: Option<Result<String, RowError>>,
    /// The post's own id.
    pub(super) post_id: Option<String>,
}

impl Default for Content {
    fn default() -> Self {
        RowError::MissingField("/text".to_owned()).into()
    }
}

impl From<RowError> for Content {
    fn from(error: RowError) -> Self {
        Self {
            post: Some(Err(error)),
            post_id: None,
        }
    }
}

/// Finds the post in a record.
#[derive(Debug, Default)]
pub(super) struct Finder {
    text: Option<Pointer>,
    id: Option<Pointer>,
}

/// The default path of the post in a JSON object.
const TEXT: &str = "/text";
/// The default path of the post's own id.
const ID: &str = "/id";

impl Finder {
    pub(super) fn new(options: &EventOptions) -> Self {
        Self {
            text: options.text.clone(),
            id: options.id.clone(),
        }
    }

    /// The post in Base64, which streams use for data.
    pub(super) fn in_base64(&self, data: &str) -> Content {
        let Ok(bytes) = BASE64_STANDARD.decode(data) else {
            return RowError::InvalidBase64.into();
        };
        match String::from_utf8(bytes) {
            Ok(body) => self.in_text(body),
            Err(_) => RowError::InvalidUtf8.into(),
        }
    }

    /// The post in a message's body, which is JSON or the post itself. A byte order mark, which
    /// producers on Windows write, is ignored.
    pub(super) fn in_text(&self, mut body: String) -> Content {
        if body.starts_with('\u{feff}') {
            body.drain(..'\u{feff}'.len_utf8());
        }
        if self.text.as_ref().is_some_and(|p| p.as_str().is_empty()) {
            return post(Ok(body));
        }
        match serde_json::from_str(&body) {
            Ok(Value::Object(fields)) => match envelope(fields) {
                Envelope::Notification(message) => self.in_notification(message),
                Envelope::Event(detail) => {
                    let written = rows::json_at(&body, "/detail").unwrap_or_default();
                    self.in_json(&detail, written)
                }
                Envelope::None(fields) => self.in_json(&Value::Object(fields), &body),
            },
            Ok(json @ Value::String(_)) => self.in_json(&json, &body),
            Ok(json) if self.text.is_some() => self.in_json(&json, &body),
            // A body that begins like an object was meant to be one, so it is not taken for a post.
            Err(_) if self.text.is_some() || body.trim_start().starts_with('{') => {
                RowError::InvalidJson("it is cut off or not JSON".to_owned()).into()
            }
            // A post, even if it is valid JSON, such as `42`.
            Ok(_) | Err(_) => post(Ok(body)),
        }
    }

    /// The post in a message that a topic sent to a queue. It has no further envelope.
    fn in_notification(&self, message: String) -> Content {
        match serde_json::from_str(&message) {
            Ok(json @ Value::Object(_)) => self.in_json(&json, &message),
            _ => self.in_text(message),
        }
    }

    /// The post in a JSON value. `written` is its text, from which its id is taken, because a parsed
    /// number has 64 bits only.
    pub(super) fn in_json(&self, json: &Value, written: &str) -> Content {
        let pointer = match &self.text {
            Some(pointer) => pointer.as_str(),
            None if json.is_string() => "",
            None => TEXT,
        };
        let text = match json.pointer(pointer) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(RowError::InvalidType(pointer.to_owned())),
            None => Err(RowError::MissingField(pointer.to_owned())),
        };
        let id_pointer = self.id.as_ref().map_or(ID, Pointer::as_str);
        let id = json.pointer(id_pointer);
        Content {
            post: Some(text),
            post_id: id.and_then(|id| match id {
                // Validated, because results can be logged.
                Value::String(id) => telemetry::id(id).map(str::to_owned),
                Value::Number(_) => rows::json_at(written, id_pointer).map(str::to_owned),
                _ => None,
            }),
        }
    }

    /// The post in a change that a table's stream reports.
    pub(super) fn in_change(&self, record: &mut Map<String, Value>) -> Content {
        if record.get("eventName").and_then(Value::as_str) == Some("REMOVE") {
            return Content {
                post: None,
                post_id: None,
            };
        }
        match record
            .get_mut("dynamodb")
            .and_then(|d| d.get_mut("NewImage"))
        {
            Some(Value::Object(image)) => {
                let id_pointer = self.id.as_ref().map_or(ID, Pointer::as_str);
                let number = table_number(image, id_pointer);
                let image = std::mem::take(image).into_iter();
                let image = image.map(|(name, value)| (name, plain(value))).collect();
                let content = self.in_json(&image, "");
                Content {
                    post_id: content.post_id.or(number),
                    ..content
                }
            }
            _ => RowError::MissingImage.into(),
        }
    }
}

fn post(post: Result<String, RowError>) -> Content {
    Content {
        post: Some(post),
        post_id: None,
    }
}

/// The envelope in which a service forwards a message to a queue.
enum Envelope {
    /// A topic's, with its message.
    Notification(String),
    /// A bus's, with the event's detail.
    Event(Value),
    None(Map<String, Value>),
}

fn envelope(mut fields: Map<String, Value>) -> Envelope {
    let is_notification = fields.get("Type").and_then(Value::as_str) == Some("Notification")
        && fields.contains_key("TopicArn");
    if is_notification && let Some(Value::String(message)) = fields.get_mut("Message") {
        return Envelope::Notification(std::mem::take(message));
    }
    if BUS_FIELDS.iter().all(|name| fields.contains_key(*name))
        && let Some(detail) = fields.get_mut("detail")
    {
        return Envelope::Event(detail.take());
    }
    Envelope::None(fields)
}

/// The fields that every `EventBridge` event has.
pub(super) const BUS_FIELDS: [&str; 3] = ["detail-type", "detail", "source"];

/// A table's value without its types: `{"M": {"text": {"S": "..."}}}` becomes `{"text": "..."}`.
/// The recursion is as deep as the event, whose depth the parser limits.
fn plain(value: Value) -> Value {
    let Value::Object(typed) = value else {
        return Value::Null;
    };
    match typed.into_iter().next() {
        Some((kind, Value::Object(fields))) if kind == "M" => {
            let fields = fields.into_iter();
            fields.map(|(name, value)| (name, plain(value))).collect()
        }
        Some((kind, Value::Array(items))) if kind == "L" => items.into_iter().map(plain).collect(),
        Some((kind, Value::String(number))) if kind == "N" => {
            serde_json::from_str::<serde_json::Number>(&number).map_or(Value::Null, Value::Number)
        }
        Some((kind, value)) if kind == "S" || kind == "BOOL" => value,
        _ => Value::Null,
    }
}

/// The number at a pointer in a table's values, as written: `{"id": {"N": "7"}}` has 7 at `/id`.
fn table_number(image: &Map<String, Value>, pointer: &str) -> Option<String> {
    let tokens = rows::tokens(pointer);
    let (first, others) = tokens.split_first()?;
    let value = others.iter().try_fold(image.get(first)?, |value, token| {
        let member = value.get("M").and_then(|fields| fields.get(token));
        member.or_else(|| value.get("L")?.get(token.parse::<usize>().ok()?))
    })?;
    let number = value.get("N")?.as_str()?;
    let is_number = serde_json::from_str::<serde_json::Number>(number).is_ok();
    is_number.then(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EventArgs;
    use serde_json::json;

    fn finder(text: &str) -> Finder {
        let args = EventArgs {
            event_text: Some(text.to_owned()),
            ..EventArgs::default()
        };
        Finder::new(&args.resolve().expect("a pointer"))
    }

    fn found(content: Content) -> Result<String, &'static str> {
        let post = content.post.expect("something to score");
        post.map_err(|error| error.code())
    }

    fn check(pointer: &str, body: &str, expected: Result<&str, &'static str>) {
        let found = found(finder(pointer).in_text(body.to_owned()));
        assert_eq!(
            found.as_deref().map_err(|e| *e),
            expected,
            "{pointer} {body}"
        );
    }

    #[test]
    fn a_body_is_json_or_the_post_itself() {
        check("", r#"{"id":7,"text":"good"}"#, Ok("good"));
        check("", "good", Ok("good"));
        check("", "\"good\\n\"", Ok("good\n"));
        for post in [
            "42",
            "null",
            "[1]",
            "[sic] good",
            "",
            "\"so good\" she said",
        ] {
            check("", post, Ok(post));
        }
        check("", "\u{feff}{\"text\":\"good\"}", Ok("good"));
        check("#", "\u{feff}good", Ok("good"));
        check("", r#"{"body":"good"}"#, Err("missing_field"));
        check("", r#"{"text":["good"]}"#, Err("invalid_type"));
        check("", r#"{"text":"go"#, Err("invalid_json"));
    }

    #[test]
    fn a_pointer_is_held_to() {
        check("/post/body", r#"{"post":{"body":"good"}}"#, Ok("good"));
        check("/0", r#"["good"]"#, Ok("good"));
        check("/a~1b", r#"{"a/b":"good"}"#, Ok("good"));
        check("/post", r#"{"text":"good"}"#, Err("missing_field"));
        check("/post", "good", Err("invalid_json"));
        check("/post", "\"good\"", Err("missing_field"));
        check("#", r#"{"text":"good"}"#, Ok(r#"{"text":"good"}"#));
    }

    #[test]
    fn envelopes_are_taken_off() {
        let notification = |message: &str| {
            let topic = "arn:aws:sns:eu-central-1:123456789012:posts";
            json!({ "Type": "Notification", "TopicArn": topic, "Message": message }).to_string()
        };
        check("", &notification("good"), Ok("good"));
        check("", &notification(r#"{"text":"good"}"#), Ok("good"));
        check("/a", &notification(r#"{"a":"good"}"#), Ok("good"));
        // No service puts one into the other.
        check(
            "",
            &notification(&notification("good")),
            Err("missing_field"),
        );
        let event = json!({
            "version": "0", "source": "shop", "detail-type": "post", "detail": { "text": "good" },
        });
        check("", &event.to_string(), Ok("good"));
    }

    #[test]
    fn base64_holds_text() {
        let found = |data: &str| found(Finder::default().in_base64(data));
        assert_eq!(found("Z29vZA==").as_deref(), Ok("good"));
        assert_eq!(found("eyJ0ZXh0IjoiZ29vZCJ9").as_deref(), Ok("good"));
        assert_eq!(found("%%"), Err("invalid_base64"));
        assert_eq!(found("/////w=="), Err("invalid_utf8"));
    }

    #[test]
    fn changes_of_a_table_lose_their_types() {
        let mut record = json!({ "eventName": "MODIFY", "dynamodb": { "NewImage": {
            "id": { "N": "18446744073709551616" },
            "post": { "M": { "lines": { "L": [{ "NULL": true }, { "S": "good" }] } } },
        } } });
        let record = record.as_object_mut().expect("an object");
        let content = finder("/post/lines/1").in_change(record);
        assert_eq!(content.post_id.as_deref(), Some("18446744073709551616"));
        assert_eq!(found(content).as_deref(), Ok("good"));

        let image =
            json!({ "ids": { "L": [{ "NULL": true }, { "M": { "post": { "N": "7" } } }] } });
        let number = |pointer| table_number(image.as_object().expect("an object"), pointer);
        assert_eq!(number("/ids/1/post").as_deref(), Some("7"));
        for other in ["/ids/0", "/ids/2", "/ids/x", "/ids", "/other", ""] {
            assert_eq!(number(other), None, "{other}");
        }

        let change = |mut record: Value| {
            Finder::default().in_change(record.as_object_mut().expect("an object"))
        };
        assert!(change(json!({ "eventName": "REMOVE" })).post.is_none());
        let keys_only = json!({ "eventName": "INSERT", "dynamodb": { "Keys": {} } });
        assert_eq!(found(change(keys_only)), Err("missing_field"));
        let nothing = json!({ "dynamodb": { "NewImage": { "text": "good" } } });
        assert_eq!(found(change(nothing)), Err("invalid_type"));
    }

    #[test]
    fn ids_are_ids_or_left_out() {
        let post_id = |id: &str| {
            let body = format!("{{\"text\":\"good\",\"id\":{id}}}");
            Finder::default().in_text(body).post_id
        };
        assert_eq!(post_id("\"a-1\"").as_deref(), Some("a-1"));
        assert_eq!(post_id("17").as_deref(), Some("17"));
        for exact in ["18446744073709551616", "1234567890.12345678901"] {
            assert_eq!(post_id(exact).as_deref(), Some(exact));
        }
        assert_eq!(post_id("\"I love this phone\""), None);
        assert_eq!(post_id("{}"), None);
    }
}
