//! CloudWatch metrics without an agent: lines in the Embedded Metric Format, which
//! Lambda turns into metrics as it stores them. Off unless a namespace is set, since
//! CloudWatch charges for metrics.

use super::StageTimings;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing_appender::non_blocking::NonBlocking;

/// Where metric records go.
#[derive(Debug, Clone)]
pub enum EmfOutput {
    /// Standard output, before the response is sent. On Lambda, which always reads it and
    /// freezes the process with the response, so that a record written later would be late.
    Stdout,
    /// A thread that writes, so that no request waits for the reader of standard output.
    Thread(NonBlocking),
}

/// Writes metrics of a service.
#[derive(Debug, Clone)]
pub struct Emf {
    output: EmfOutput,
    namespace: String,
    function_name: String,
    service: String,
}

impl Emf {
    /// Metrics for this namespace.
    pub fn new(
        output: EmfOutput,
        namespace: String,
        function_name: String,
        service: String,
    ) -> Self {
        Self {
            output,
            namespace,
            function_name,
            service,
        }
    }

    /// Writes the times of a request.
    pub fn request(&self, posts: usize, stages: &StageTimings, took: Duration) {
        self.write(&self.record(now_ms(), posts, stages, took));
    }

    /// Counts a cold start, in a record of its own: it is no value of every request.
    pub fn cold_start(&self) {
        self.write(&self.cold_start_record(now_ms()));
    }

    fn write(&self, record: &Value) {
        let line = format!("{record}\n");
        // A record that cannot be written is no reason to fail a request.
        let _ = match &self.output {
            EmfOutput::Stdout => std::io::stdout().write_all(line.as_bytes()),
            EmfOutput::Thread(writer) => writer.clone().write_all(line.as_bytes()),
        };
    }

    fn cold_start_record(&self, now_ms: u64) -> Value {
        let metrics = json!([{ "Name": "ColdStart", "Unit": "Count" }]);
        let mut record = self.head(now_ms, &metrics);
        record["ColdStart"] = json!([1.0]);
        record
    }

    fn record(&self, now_ms: u64, posts: usize, stages: &StageTimings, took: Duration) -> Value {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let values = [
            ("Duration", "Milliseconds", ms(took)),
            ("Queue", "Milliseconds", ms(stages.queue)),
            ("Tokenize", "Milliseconds", ms(stages.tokenize)),
            ("Inference", "Milliseconds", ms(stages.inference)),
            ("Posts", "Count", posts as f64),
        ];
        let metrics = values.map(|(name, unit, _)| json!({ "Name": name, "Unit": unit }));
        let mut record = self.head(now_ms, &json!(metrics));
        for (name, _, value) in values {
            record[name] = json!([value]);
        }
        record
    }

    fn head(&self, now_ms: u64, metrics: &Value) -> Value {
        json!({
            "_aws": {
                "Timestamp": now_ms,
                "CloudWatchMetrics": [{
                    "Namespace": self.namespace,
                    "Dimensions": [["function_name", "service"]],
                    "Metrics": metrics,
                }],
            },
            "function_name": self.function_name,
            "service": self.service,
        })
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_cloudwatch_wants_them() {
        let emf = Emf::new(
            EmfOutput::Stdout,
            "shop".to_owned(),
            "posts".to_owned(),
            "coldread".to_owned(),
        );
        assert_eq!(
            emf.cold_start_record(1_700_000_000_000).to_string(),
            concat!(
                r#"{"_aws":{"Timestamp":1700000000000,"CloudWatchMetrics":[{"Namespace":"shop","#,
                r#""Dimensions":[["function_name","service"]],"#,
                r#""Metrics":[{"Name":"ColdStart","Unit":"Count"}]}]},"#,
                r#""function_name":"posts","service":"coldread","ColdStart":[1.0]}"#
            )
        );
        let stages = StageTimings {
            inference: Duration::from_micros(1500),
            ..StageTimings::default()
        };
        let record = emf.record(1, 3, &stages, Duration::from_millis(2));
        assert_eq!(record["Inference"], json!([1.5]));
        assert_eq!(record["Duration"], json!([2.0]));
        assert_eq!(record["Posts"], json!([3.0]));
        let declared = &record["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        for metric in declared.as_array().expect("a list") {
            let name = metric["Name"].as_str().expect("a name");
            assert!(record[name].is_array(), "{name}");
        }
    }
}
