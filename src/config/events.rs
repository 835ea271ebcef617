//! Events other than requests: where the post is in a record, and where results go.

use super::{ConfigError, filled};

/// Settings of events, from flags and variables.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Events")]
pub struct EventArgs {
    /// Where results of queues and streams go on Lambda, which discards the function's
    /// response to them: `sqs://` and a queue's URL, `eventbridge://` and a bus, or `log`, one
    /// line of JSON per post on standard output. Without it such events fail, and are sent
    /// again.
    #[arg(long, env = "COLDREAD_RESULTS", value_name = "SINK")]
    pub results: Option<String>,

    /// Where the post is in a record of an event, as a JSON pointer such as /message/text;
    /// `#` is the whole record, as it is [default: /text, or the whole record if it is not a
    /// JSON object].
    #[arg(long, env = "COLDREAD_EVENT_TEXT", value_name = "POINTER")]
    pub event_text: Option<String>,

    /// Where a record has its own id, which is copied to its result as `post_id`, as a JSON
    /// pointer [default: /id].
    #[arg(long, env = "COLDREAD_EVENT_ID", value_name = "POINTER")]
    pub event_id: Option<String>,
}

/// Settings of events, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// Where results of queues and streams go.
    pub results: Option<ResultDestination>,
    /// Where the post stands in a record.
    pub text: Option<Pointer>,
    /// Where a record has an id of its own.
    pub id: Option<Pointer>,
}

/// Where results of queues and streams go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultDestination {
    /// Lines on standard output.
    Log,
    /// A queue.
    Sqs {
        /// Its URL.
        url: String,
    },
    /// A bus.
    EventBridge {
        /// Its name or ARN.
        bus: String,
    },
}

/// A JSON pointer (RFC 6901), without the `#` that may stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// The pointer as `serde_json` takes it; empty if it is all of a record.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(name: &str, value: &str) -> Result<Self, ConfigError> {
        let pointer = value.strip_prefix('#').unwrap_or(value);
        let is_pointer = pointer.is_empty() || pointer.starts_with('/');
        is_pointer.then(|| Self(pointer.to_owned())).ok_or_else(|| {
            ConfigError::Events(format!(
                "{name} is `{value}`; expected a JSON pointer such as /message/text, or `#` for \
                 the whole record"
            ))
        })
    }
}

impl EventArgs {
    /// Reads and checks everything.
    pub fn resolve(&self) -> Result<EventOptions, ConfigError> {
        let pointer = |name, value: &Option<String>| {
            let value = filled(value.clone());
            value
                .map(|value| Pointer::parse(name, value.trim()))
                .transpose()
        };
        Ok(EventOptions {
            results: filled(self.results.clone())
                .map(|sink| parse_results(sink.trim()))
                .transpose()?,
            text: pointer("--event-text (COLDREAD_EVENT_TEXT)", &self.event_text)?,
            id: pointer("--event-id (COLDREAD_EVENT_ID)", &self.event_id)?,
        })
    }
}

fn parse_results(sink: &str) -> Result<ResultDestination, ConfigError> {
    let reject = |why: &str| {
        let message = format!("--results (COLDREAD_RESULTS) is `{sink}`{why}");
        Err(ConfigError::Events(message))
    };
    if sink == "log" {
        return Ok(ResultDestination::Log);
    }
    let results = match sink.split_once("://") {
        Some(("sqs" | "eventbridge", "")) => {
            return reject(
                ", without a queue or bus; expected sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE or \
                 eventbridge://BUS",
            );
        }
        Some(("sqs", url)) if url.contains("://") => ResultDestination::Sqs {
            url: url.to_owned(),
        },
        Some(("sqs", url)) => ResultDestination::Sqs {
            url: format!("https://{url}"),
        },
        Some(("eventbridge", bus)) => ResultDestination::EventBridge {
            bus: bus.to_owned(),
        },
        _ => {
            return reject(
                "; expected sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE, eventbridge://BUS or log",
            );
        }
    };
    if cfg!(not(feature = "aws")) {
        return reject(", but this build has no AWS clients; build one with `--features aws`");
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(results: &str, text: &str) -> Result<EventOptions, String> {
        let args = EventArgs {
            results: Some(results.to_owned()),
            event_text: Some(text.to_owned()),
            event_id: None,
        };
        args.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn blank_values_count_as_none() {
        assert_eq!(resolve("", " "), Ok(EventOptions::default()));
    }

    #[test]
    fn pointers_stand_with_and_without_a_hash() {
        let text = |pointer: &str| resolve("log", pointer).map(|o| o.text.map(|p| p.0));
        assert_eq!(text("/a/b"), Ok(Some("/a/b".to_owned())));
        assert_eq!(text("#/a~1b"), Ok(Some("/a~1b".to_owned())));
        assert_eq!(text("#"), Ok(Some(String::new())));
        let message = text("detail.text").expect_err("no pointer");
        assert!(message.contains("--event-text"), "{message}");
    }

    #[test]
    fn invalid_sinks_are_rejected() {
        for sink in [
            "sqs",
            "sqs://",
            "eventbridge://",
            "s3://bucket",
            "LOG",
            "file.txt",
        ] {
            let message = resolve(sink, "").expect_err(sink);
            assert!(message.contains(&format!("`{sink}`")), "{message}");
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn queues_and_buses_are_taken() {
        let results = |sink: &str| resolve(sink, "").map(|options| options.results);
        let sqs = |url: &str| {
            Ok(Some(ResultDestination::Sqs {
                url: url.to_owned(),
            }))
        };
        assert_eq!(
            results("sqs://sqs.eu-central-1.amazonaws.com/123456789012/results"),
            sqs("https://sqs.eu-central-1.amazonaws.com/123456789012/results")
        );
        assert_eq!(
            results("sqs://http://localhost:1/q"),
            sqs("http://localhost:1/q")
        );
        let bus = "arn:aws:events:eu-central-1:123456789012:event-bus/posts".to_owned();
        assert_eq!(
            results(&format!("eventbridge://{bus}")),
            Ok(Some(ResultDestination::EventBridge { bus }))
        );
    }

    #[cfg(not(feature = "aws"))]
    #[test]
    fn sinks_that_this_build_lacks_are_rejected_at_start() {
        for sink in [
            "sqs://sqs.eu-central-1.amazonaws.com/1/results",
            "eventbridge://bus",
        ] {
            let message = resolve(sink, "").expect_err("no client");
            assert!(message.contains("--features aws"), "{message}");
        }
    }
}
