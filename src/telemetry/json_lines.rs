//! Log lines as JSON, with the keys that Powertools for AWS Lambda writes, so that
//! queries and dashboards made for those work here.
//!
//! `level`, `message`, `timestamp` and `service` are in every line; on Lambda, so are the
//! function's name, memory size and ARN. The ids of a request are in every line that is
//! written while it is served: they come from the fields of its span.

use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of the span whose fields go into every line written in it. Spans of
/// libraries have their own names for the same things, and are left out.
pub(crate) const REQUEST_TARGET: &str = "coldread::request";

/// Writes events as lines of JSON.
pub struct JsonLines {
    /// `,"service":...` and what else is the same in every line.
    constant: String,
}

impl JsonLines {
    /// Takes names from the environment, looked up through `env`.
    pub fn new(env: impl Fn(&str) -> Option<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("service".to_owned(), service_name(&env).into());
        if let Some(name) = env("AWS_LAMBDA_FUNCTION_NAME") {
            fields.insert("function_name".to_owned(), name.into());
        }
        let memory = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|mb| mb.parse::<u64>().ok());
        if let Some(mb) = memory {
            fields.insert("function_memory_size".to_owned(), mb.into());
        }
        Self {
            constant: Value::Object(fields).to_string(),
        }
    }
}

/// What this service is called in logs and metrics.
pub fn service_name(env: impl Fn(&str) -> Option<String>) -> String {
    ["POWERTOOLS_SERVICE_NAME", "OTEL_SERVICE_NAME"]
        .into_iter()
        .find_map(|name| env(name).filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "coldread".to_owned())
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level();
        let message = Value::String(fields.message);
        write!(
            writer,
            r#"{{"level":"{level}","message":{message},"timestamp":""#
        )?;
        SystemTime.format_time(&mut writer)?;
        writer.write_char('"')?;
        splice(&mut writer, &self.constant)?;
        for span in ctx.event_scope().into_iter().flatten() {
            if span.metadata().target() == REQUEST_TARGET
                && let Some(of_span) = span.extensions().get::<FormattedFields<JsonFields>>()
            {
                splice(&mut writer, &of_span.fields)?;
            }
        }
        splice(&mut writer, &Value::Object(fields.others).to_string())?;
        let target = event.metadata().target();
        writeln!(writer, r#","target":"{target}"}}"#)
    }
}

/// Writes an object's fields behind those of another.
fn splice(writer: &mut Writer<'_>, object: &str) -> fmt::Result {
    let fields = object
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    match fields {
        None | Some("") => Ok(()),
        Some(fields) => write!(writer, ",{fields}"),
    }
}

/// An event's fields by their types.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
        } else {
            self.set(field, value.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.set(field, value.into());
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn lines(env: &'static [(&str, &str)], write: impl FnOnce()) -> Vec<Map<String, Value>> {
        let buffer = Buffer::default();
        let env = |name: &str| {
            let set = env.iter().find(|(set, _)| *set == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines::new(env))
            .with_writer(buffer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, write);
        let text = String::from_utf8(buffer.0.lock().expect("whole").clone()).expect("UTF-8");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("every line is an object"))
            .collect()
    }

    #[test]
    fn keys_are_those_of_powertools() {
        let env = &[
            ("AWS_LAMBDA_FUNCTION_NAME", "posts"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("POWERTOOLS_SERVICE_NAME", "shop"),
        ];
        let lines = lines(env, || {
            let span = tracing::info_span!(
                target: REQUEST_TARGET,
                "request",
                function_request_id = "r-1",
                cold_start = true,
                xray_trace_id = tracing::field::Empty,
            );
            span.record("xray_trace_id", "1-5bef");
            let _request = span.enter();
            let library = tracing::info_span!(target: "library", "call", requestId = "other");
            let _library = library.enter();
            tracing::info!(status = 200, took_ms = 1.5, "a \"request\"");
        });
        let line = &lines[0];
        for (key, value) in [
            ("level", Value::from("INFO")),
            ("message", "a \"request\"".into()),
            ("service", "shop".into()),
            ("function_name", "posts".into()),
            ("function_memory_size", 512.into()),
            ("function_request_id", "r-1".into()),
            ("cold_start", true.into()),
            ("xray_trace_id", "1-5bef".into()),
            ("status", 200.into()),
            ("took_ms", 1.5.into()),
        ] {
            assert_eq!(line.get(key), Some(&value), "{key} in {line:?}");
        }
        let timestamp = line["timestamp"].as_str().expect("text");
        assert!(
            timestamp.starts_with("20") && timestamp.ends_with('Z'),
            "{timestamp}"
        );
        assert!(!line.contains_key("requestId"));
    }

    #[test]
    fn elsewhere_a_line_has_what_there_is() {
        let lines = lines(
            &[],
            || tracing::warn!(error = %"broken\n\u{1}pipe", "stopping"),
        );
        assert_eq!(lines[0]["service"], "coldread");
        assert_eq!(lines[0]["error"], "broken\n\u{1}pipe");
        assert!(!lines[0].contains_key("function_name"));
    }
}
