//! The sender of an event, and its records.
//!
//! Both are read from the event itself: Lambda does not say which trigger invoked the function.

use super::InvocationError;
use super::record::{BUS_FIELDS, Content, Finder, Record};
use crate::json::replace_halves;
use crate::rows::RowError;
use crate::telemetry;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The kind of an event, recognized by the names of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A request through API Gateway, a Function URL or a load balancer.
    Http,
    /// A direct invocation with `{"text": ...}` or `{"texts": [...]}`.
    Direct,
    /// Anything else.
    Other,
}

impl EventKind {
    /// Looks at the names of an event's fields. An event that is not an object is `Other`.
    pub fn from_event(event: &str) -> Self {
        let mut deserializer = serde_json::Deserializer::from_str(event);
        deserializer
            .deserialize_any(KindVisitor)
            .unwrap_or(Self::Other)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Name {
    RequestContext,
    HttpMethod,
    Text,
    Texts,
    #[serde(other)]
    Other,
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = EventKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventKind, A::Error> {
        let mut kind = EventKind::Other;
        while let Some(name) = map.next_key()? {
            match name {
                Name::RequestContext | Name::HttpMethod => kind = EventKind::Http,
                Name::Text | Name::Texts if kind == EventKind::Other => kind = EventKind::Direct,
                _ => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(kind)
    }
}

/// The sender of an event, which decides the form of the response and the effect of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventSource {
    /// A standard queue.
    Sqs,
    /// A FIFO queue.
    SqsFifo,
    /// A data stream.
    Kinesis,
    /// A table's stream.
    DynamoDb,
    /// A topic.
    Sns,
    /// A bus.
    EventBridge,
    /// A pipe's enrichment step or a Distributed Map's batch: both the event and the response are
    /// lists.
    List,
    /// A schedule or a plugin that keeps the function warm.
    Ping,
}

impl EventSource {
    /// Its name in logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqs => "event:sqs",
            Self::SqsFifo => "event:sqs_fifo",
            Self::Kinesis => "event:kinesis",
            Self::DynamoDb => "event:dynamodb",
            Self::Sns => "event:sns",
            Self::EventBridge => "event:eventbridge",
            Self::List => "event:list",
            Self::Ping => "event:ping",
        }
    }
}

/// An event's records.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) source: EventSource,
    pub(super) records: Vec<Record>,
}

/// An event's fields, each parsed separately, so that a malformed one does not affect the others.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads an event that is not a request.
pub(super) fn read(event: &str, finder: &Finder) -> Result<Batch, InvocationError> {
    if let Some(items) = elements(event) {
        return Ok(list(&items, finder));
    }
    let fields: Fields = serde_json::from_str(event).map_err(|_| InvocationError::UnknownEvent)?;
    if is_ping(&fields) {
        return Ok(Batch {
            source: EventSource::Ping,
            records: Vec::new(),
        });
    }
    if BUS_FIELDS.iter().all(|name| fields.contains_key(*name)) {
        let field = |name: &str| fields.get(name).map(|raw| value(raw).0);
        let (detail, is_unchanged) = fields
            .get("detail")
            .map_or((Value::Null, true), |raw| value(raw));
        let record = Record {
            id: id(field("id").as_ref()),
            source: id(field("source").as_ref()),
            content: finder.in_json(&detail, fields.get("detail").map_or("", |raw| raw.get())),
            ..Record::default()
        };
        return Ok(Batch {
            source: EventSource::EventBridge,
            records: vec![checked(record, is_unchanged)],
        });
    }
    let list_in = |name: &str| elements(fields.get(name)?.get());
    match (list_in("Records"), list_in("Items")) {
        (Some(records), None) => of_records(&records, finder),
        (None, Some(items)) => Ok(list(&items, finder)),
        _ => Err(InvocationError::UnknownEvent),
    }
}

fn elements(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

fn list(items: &[&RawValue], finder: &Finder) -> Batch {
    let records = items.iter().map(|item| {
        let (parsed, is_unchanged) = value(item);
        checked(element(parsed, item.get(), finder), is_unchanged)
    });
    Batch {
        source: EventSource::List,
        records: records.collect(),
    }
}

/// A value, and whether it was parsed unchanged. If it cannot be, because of half a surrogate pair
/// or its depth, as much as possible is parsed, because its ids are still needed.
fn value(raw: &RawValue) -> (Value, bool) {
    match serde_json::from_str(raw.get()) {
        Ok(value) => (value, true),
        Err(_) => {
            let value = serde_json::from_str(&replace_halves(raw.get()));
            (value.unwrap_or_default(), false)
        }
    }
}

/// The record, with an error as its content unless it was parsed unchanged.
fn checked(record: Record, is_unchanged: bool) -> Record {
    if is_unchanged {
        return record;
    }
    Record {
        content: RowError::InvalidJson("it cannot be parsed".to_owned()).into(),
        ..record
    }
}

/// Whether an event only keeps the function warm: a schedule without an input of its own, or an
/// event of a plugin or library for this purpose.
fn is_ping(fields: &Fields) -> bool {
    let text = |name: &str| {
        let raw = fields.get(name)?;
        serde_json::from_str::<String>(raw.get()).ok()
    };
    let is_scheduled = text("detail-type").is_some_and(|kind| kind == "Scheduled Event");
    let is_plugin = text("source").is_some_and(|source| {
        source.starts_with("serverless-plugin-") && source.contains("warmup")
    });
    let is_flagged = ["warmer", "warmup", "keepWarm", "ping"]
        .iter()
        .any(|name| fields.get(*name).is_some_and(|raw| raw.get() == "true"));
    is_scheduled || is_plugin || is_flagged
}

/// Records from a poller or a topic. All records of an event have the same source.
fn of_records(records: &[&RawValue], finder: &Finder) -> Result<Batch, InvocationError> {
    let mut source = None;
    let mut read = Vec::with_capacity(records.len());
    for record in records {
        let (Value::Object(mut fields), is_unchanged) = value(record) else {
            return Err(InvocationError::UnknownEvent);
        };
        let of = source_of(&fields).ok_or(InvocationError::UnknownEvent)?;
        if *source.get_or_insert(of) != of {
            return Err(InvocationError::MalformedEvent(
                "its records come from several sources",
            ));
        }
        let record = record_of(of, &mut fields, finder);
        // Without an id, a failure cannot be reported.
        if of != EventSource::Sns && record.failure_id.is_empty() {
            return Err(InvocationError::MalformedEvent(
                "a record has no id to report its failure by",
            ));
        }
        read.push(checked(record, is_unchanged));
    }
    Ok(Batch {
        // An event without records can be of any source.
        source: source.unwrap_or(EventSource::Sqs),
        records: read,
    })
}

fn source_of(record: &Map<String, Value>) -> Option<EventSource> {
    let name = record.get("eventSource").or(record.get("EventSource"))?;
    match name.as_str()? {
        "aws:sqs" => {
            let queue = text(record.get("eventSourceARN")).rsplit_once('.');
            let is_fifo = queue.is_some_and(|(_, suffix)| suffix == "fifo");
            Some(if is_fifo {
                EventSource::SqsFifo
            } else {
                EventSource::Sqs
            })
        }
        "aws:kinesis" => Some(EventSource::Kinesis),
        "aws:dynamodb" => Some(EventSource::DynamoDb),
        "aws:sns" => Some(EventSource::Sns),
        _ => None,
    }
}

fn record_of(source: EventSource, fields: &mut Map<String, Value>, finder: &Finder) -> Record {
    let origin = resource(fields.get("eventSourceARN"));
    match source {
        EventSource::Kinesis => {
            // A pipe flattens the inner fields into the record.
            let data = fields.get("kinesis").and_then(Value::as_object);
            let data = data.unwrap_or(fields);
            Record {
                id: id(fields.get("eventID")).or(id(data.get("sequenceNumber"))),
                failure_id: id(data.get("sequenceNumber")).unwrap_or_default(),
                group: id(data.get("partitionKey")),
                source: origin,
                content: finder.in_base64(text(data.get("data"))),
            }
        }
        EventSource::DynamoDb => {
            let change = fields.get("dynamodb");
            let sequence = id(change.and_then(|change| change.get("SequenceNumber")));
            Record {
                id: id(fields.get("eventID")).or(sequence.clone()),
                failure_id: sequence.unwrap_or_default(),
                group: None,
                source: origin,
                content: finder.in_change(fields),
            }
        }
        EventSource::Sns => {
            let mut message = fields.remove("Sns").unwrap_or_default();
            Record {
                id: id(message.get("MessageId")),
                source: resource(message.get("TopicArn")),
                content: body(message.get_mut("Message").map(Value::take), finder),
                ..Record::default()
            }
        }
        _ => {
            let message_id = id(fields.get("messageId"));
            let attributes = fields.get("attributes");
            Record {
                failure_id: message_id.clone().unwrap_or_default(),
                id: message_id,
                group: id(attributes.and_then(|all| all.get("MessageGroupId"))),
                source: origin,
                content: body(fields.remove("body"), finder),
            }
        }
    }
}

/// An element of a list: a record from a pipe, or any other JSON.
fn element(item: Value, written: &str, finder: &Finder) -> Record {
    match item {
        Value::Object(mut fields) if source_of(&fields).is_some() => {
            let source = source_of(&fields).unwrap_or(EventSource::Sqs);
            record_of(source, &mut fields, finder)
        }
        item => Record {
            content: finder.in_json(&item, written),
            ..Record::default()
        },
    }
}

fn body(body: Option<Value>, finder: &Finder) -> Content {
    match body {
        Some(Value::String(body)) => finder.in_text(body),
        _ => RowError::InvalidType("body".to_owned()).into(),
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// An id, validated so that it can be logged.
fn id(value: Option<&Value>) -> Option<String> {
    telemetry::id(value?.as_str()?).map(str::to_owned)
}

/// A resource's name, which can be longer than an id.
fn resource(value: Option<&Value>) -> Option<String> {
    let name = value?.as_str()?;
    let fits = (1..=1024).contains(&name.len());
    (fits && name.bytes().all(telemetry::is_id_byte)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_names_alone() {
        for (event, kind) in [
            (r#"{"text":"a","requestContext":{}}"#, EventKind::Http),
            (r#"{"httpMethod":"GET","path":"/"}"#, EventKind::Http),
            (r#"{"text":null}"#, EventKind::Direct),
            (
                r#"{"te\u0078ts":[],"more":{"httpMethod":1}}"#,
                EventKind::Direct,
            ),
            (r#"{"Records":[{"text":1}]}"#, EventKind::Other),
            ("[]", EventKind::Other),
            ("\"text\"", EventKind::Other),
        ] {
            assert_eq!(EventKind::from_event(event), kind, "{event}");
        }
    }

    fn refused(event: &str) -> String {
        let refused = read(event, &Finder::default()).map(|batch| batch.records.len());
        refused.expect_err("refused").code().to_owned()
    }

    #[test]
    fn what_is_nobodys_is_refused() {
        for event in [
            "{}",
            "null",
            "\"a post\"",
            r#"{"Records":{}}"#,
            r#"{"Records":[1]}"#,
            r#"{"Records":[{}]}"#,
            r#"{"Records":[{"eventSource":"aws:s3"}]}"#,
            r#"{"Records":[],"Items":[]}"#,
            r#"{"detail-type":"a","source":"b"}"#,
        ] {
            assert_eq!(refused(event), "unknown_event", "{event}");
        }
    }

    #[test]
    fn what_could_not_be_reported_is_refused() {
        for event in [
            r#"{"Records":[{"eventSource":"aws:sqs","body":"a"}]}"#,
            r#"{"Records":[{"eventSource":"aws:sqs","body":"a","messageId":""}]}"#,
            r#"{"Records":[{"eventSource":"aws:sqs","body":"a","messageId":"two words"}]}"#,
            r#"{"Records":[{"eventSource":"aws:kinesis","kinesis":{"data":"YQ=="}}]}"#,
            r#"{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":7}}]}"#,
            r#"{"Records":[
                {"eventSource":"aws:sqs","body":"a","messageId":"1"},
                {"eventSource":"aws:sns","Sns":{"Message":"a"}}
            ]}"#,
        ] {
            assert_eq!(refused(event), "malformed_event", "{event}");
        }
    }
}
