//! A record of an event, and the post in it.
//!
//! Any producer of the queue or stream can write records, so they are untrusted: a record
//! without a post is an error of that record alone, and no message quotes it.

use crate::config::{EventOptions, Pointer};
use crate::rows::RowError;
use crate::telemetry;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// One record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// What the platform calls it.
    pub(super) id: Option<String>,
    /// What a failure of it is listed by, where failures are listed.
    pub(super) failure_id: String,
    /// The ordered group of messages that it belongs to.
    pub(super) group: Option<String>,
    /// The resource that it comes from.
    pub(super) source: Option<String>,
    /// What there is to score.
    pub(super) content: Content,
}

/// What there is to score in a record.
#[derive(Debug)]
pub(super) struct Content {
    /// `None` where something was deleted, so that there is nothing.
    pub(super) post: Option<Result<String, RowError>>,
    /// The record's own id for it.
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

/// Where the post stands in a JSON object if nothing else is said.
const TEXT: &str = "/text";
/// The same for the record's own id.
const ID: &str = "/id";

impl Finder {
    pub(super) fn new(options: &EventOptions) -> Self {
        Self {
            text: options.text.clone(),
            id: options.id.clone(),
        }
    }

    /// Base64, as streams carry what was written to them.
    pub(super) fn in_base64(&self, data: &str) -> Content {
        let Ok(bytes) = BASE64_STANDARD.decode(data) else {
            return RowError::InvalidBase64.into();
        };
        match String::from_utf8(bytes) {
            Ok(body) => self.in_text(body),
            Err(_) => RowError::InvalidUtf8.into(),
        }
    }

    /// A message's body: JSON, or the post itself. What producers on Windows put before
    /// it, a byte order mark, is part of neither.
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
                Envelope::Event(detail) => self.in_json(&detail),
                Envelope::None(fields) => self.in_json(&Value::Object(fields)),
            },
            Ok(json @ Value::String(_)) => self.in_json(&json),
            Ok(json) if self.text.is_some() => self.in_json(&json),
            // What begins like an object was meant to be one; its half is no post.
            Err(_) if self.text.is_some() || body.trim_start().starts_with('{') => {
                RowError::InvalidJson("it is cut off or not JSON".to_owned()).into()
            }
            // JSON or not, a post such as `42`.
            Ok(_) | Err(_) => post(Ok(body)),
        }
    }

    /// What a topic sent to a queue. There is no further envelope in it.
    fn in_notification(&self, message: String) -> Content {
        match serde_json::from_str(&message) {
            Ok(json @ Value::Object(_)) => self.in_json(&json),
            _ => self.in_text(message),
        }
    }

    /// A document.
    pub(super) fn in_json(&self, json: &Value) -> Content {
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
        let id = json.pointer(self.id.as_ref().map_or(ID, Pointer::as_str));
        Content {
            post: Some(text),
            post_id: id.and_then(|id| match id {
                // Checked, for results are logged where that is asked for.
                Value::String(id) => telemetry::id(id).map(str::to_owned),
                Value::Number(id) => Some(id.to_string()),
                _ => None,
            }),
        }
    }

    /// What a table's stream says of a change.
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
                let image = std::mem::take(image).into_iter();
                self.in_json(&image.map(|(name, value)| (name, plain(value))).collect())
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

/// What services wrap round a message that they hand on to a queue.
enum Envelope {
    /// A topic's, with the message in it.
    Notification(String),
    /// A bus's, with the event's detail in it.
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

/// The fields of every event of `EventBridge`.
pub(super) const BUS_FIELDS: [&str; 3] = ["detail-type", "detail", "source"];

/// A table's value without its type: `{"M": {"text": {"S": "..."}}}` is `{"text": "..."}`.
/// As deep as the event was, which its parser bounds.
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
        // One in the other is nobody's.
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
            "id": { "N": "7" },
            "post": { "M": { "lines": { "L": [{ "NULL": true }, { "S": "good" }] } } },
        } } });
        let record = record.as_object_mut().expect("an object");
        let content = finder("/post/lines/1").in_change(record);
        assert_eq!(content.post_id.as_deref(), Some("7"));
        assert_eq!(found(content).as_deref(), Ok("good"));

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
        let post_id = |id: Value| Finder::default().in_json(&json!({ "id": id })).post_id;
        assert_eq!(post_id(json!("a-1")).as_deref(), Some("a-1"));
        assert_eq!(post_id(json!(17)).as_deref(), Some("17"));
        assert_eq!(post_id(json!("I love this phone")), None);
        assert_eq!(post_id(json!({})), None);
    }
}
