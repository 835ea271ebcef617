//! One report of an invocation, in the forms in which Lambda logs it.
//!
//! | form | where |
//! |---|---|
//! | `REPORT RequestId: ...\tDuration: 6.25 ms\t...` | text logs; with spaces where a terminal or a table expanded the tabs |
//! | the same with `\t` spelled out | inside JSON, as `filter-log-events` prints it |
//! | `{"type":"platform.report","record":{...}}` | JSON logs; as a string inside other JSON, or with `""` for `"` inside CSV |

use serde_json::Value;

/// Fields of the text form. Those that end like another come before it.
const FIELDS: [&str; 7] = [
    "Billed Restore Duration",
    "Restore Duration",
    "Billed Duration",
    "Init Duration",
    "Duration",
    "Memory Size",
    "Max Memory Used",
];

/// One report. Times are in milliseconds, sizes in MB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReportLine {
    pub(super) duration: f64,
    pub(super) billed: Option<f64>,
    pub(super) memory: f64,
    pub(super) used: f64,
    pub(super) init: Option<f64>,
    pub(super) restore: Option<f64>,
    pub(super) billed_restore: Option<f64>,
    /// When it was logged, seconds since 1970; in the text form, if the line says it.
    pub(super) logged_at: Option<f64>,
}

/// Values in the order of [`FIELDS`].
type Values = [Option<f64>; FIELDS.len()];

/// The reports in a line; what is wrong with one that cannot be read.
pub(super) fn reports(line: &str) -> Result<Vec<ReportLine>, String> {
    let mut chunks = line.split("REPORT RequestId:");
    let before = chunks.next().unwrap_or_default();
    let texts: Vec<&str> = chunks.collect();
    if !texts.is_empty() {
        let mut before = before;
        let mut found = Vec::new();
        for text in texts {
            let mut report = report(fields(text)?)?;
            report.logged_at = time_before(before);
            found.push(report);
            before = text;
        }
        return Ok(found);
    }
    if !line.contains("platform.report") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let value = json(line).ok_or("a platform.report that is not JSON")?;
    collect(&value, &mut found)?;
    Ok(found)
}

/// The values of the text form, whatever stands between its fields.
fn fields(text: &str) -> Result<Values, String> {
    // The message ends with its JSON string or with its line.
    let end = text.find(['"', '\n']).unwrap_or(text.len());
    let mut rest = &text[..end];
    let mut values = Values::default();
    while !rest.is_empty() {
        let found = FIELDS.iter().enumerate().find_map(|(place, name)| {
            let value = rest.strip_prefix(name)?.strip_prefix(':')?;
            Some((place, *name, value))
        });
        match found {
            Some((place, name, value)) => {
                let value = value.trim_start();
                let word = value
                    .split(|c: char| c.is_whitespace() || c == '\\')
                    .next()
                    .unwrap_or_default();
                values[place] = Some(amount(name, word.parse().ok())?);
                rest = &value[word.len()..];
            }
            // On to the next word: a name begins only there.
            None => {
                let step = rest
                    .char_indices()
                    .skip_while(|(_, c)| !c.is_whitespace() && *c != '\\')
                    .nth(1);
                rest = match step {
                    Some((place, 't')) if rest[..place].ends_with('\\') => &rest[place + 1..],
                    Some((place, _)) => &rest[place..],
                    None => "",
                };
            }
        }
    }
    Ok(values)
}

fn amount(name: &str, value: Option<f64>) -> Result<f64, String> {
    value
        .filter(|value| (0.0..=1e9).contains(value))
        .ok_or_else(|| format!("`{name}` of the report is not a number"))
}

fn report(values: Values) -> Result<ReportLine, String> {
    let [
        billed_restore,
        restore,
        billed,
        init,
        duration,
        memory,
        used,
    ] = values;
    Ok(ReportLine {
        duration: duration.ok_or("the report has no duration")?,
        billed,
        memory: memory.ok_or("the report has no memory size")?,
        used: used.unwrap_or(0.0),
        init,
        restore,
        billed_restore,
        logged_at: None,
    })
}

/// The time of the log event: of `filter-log-events`, milliseconds since 1970 before the
/// message; else a date and time as the line's first word.
fn time_before(text: &str) -> Option<f64> {
    if let Some((_, after)) = text.rsplit_once("\"timestamp\"") {
        let digits = after.trim_start_matches([':', ' ']);
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        return digits[..end].parse::<f64>().ok().map(|ms| ms / 1e3);
    }
    time(text.split_whitespace().next()?.trim_matches([',', '"']))
}

/// Seconds since 1970 of a date and time.
fn time(text: &str) -> Option<f64> {
    text.contains('-')
        .then(|| crate::arrivals::trace::seconds(text))
        .flatten()
}

/// The JSON of a line: as a whole, behind a prefix, one member of a larger text, or with
/// the doubled quotes of CSV.
fn json(line: &str) -> Option<Value> {
    let line = line.trim().trim_end_matches(',');
    let behind = &line[line.find('{').unwrap_or(0)..];
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let undoubled = || {
        let text = behind.replace("\"\"", "\"");
        parse(text.trim_end_matches('"'))
    };
    parse(line)
        .or_else(|| parse(behind))
        .or_else(|| parse(&format!("{{{line}}}")))
        .or_else(undoubled)
}

/// Collects the reports of a document, also those that are JSON inside its strings.
fn collect(value: &Value, found: &mut Vec<ReportLine>) -> Result<(), String> {
    match value {
        Value::Object(members)
            if members
                .get("type")
                .is_some_and(|name| name == "platform.report") =>
        {
            found.push(platform_report(value)?);
        }
        Value::Object(members) => {
            for member in members.values() {
                collect(member, found)?;
            }
        }
        Value::Array(members) => {
            for member in members {
                collect(member, found)?;
            }
        }
        Value::String(text) if text.contains("platform.report") => {
            let inner = serde_json::from_str(text)
                .map_err(|_| "a platform.report that is not JSON".to_owned())?;
            collect(&inner, found)?;
        }
        _ => {}
    }
    Ok(())
}

/// A report of Lambda's JSON logs.
fn platform_report(value: &Value) -> Result<ReportLine, String> {
    let metrics = &value["record"]["metrics"];
    let metric = |key: &str| match &metrics[key] {
        Value::Null => Ok(None),
        other => amount(key, other.as_f64()).map(Some),
    };
    let mut report = report([
        metric("billedRestoreDurationMs")?,
        metric("restoreDurationMs")?,
        metric("billedDurationMs")?,
        metric("initDurationMs")?,
        metric("durationMs")?,
        metric("memorySizeMB")?,
        metric("maxMemoryUsedMB")?,
    ])?;
    report.logged_at = value["time"].as_str().and_then(time);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &ReportLine) {
        assert_eq!(
            reports(line).as_deref(),
            Ok(&[expected.clone()][..]),
            "{line}"
        );
    }

    fn cold() -> ReportLine {
        ReportLine {
            duration: 12.11,
            billed: Some(60.0),
            memory: 512.0,
            used: 58.0,
            init: Some(47.33),
            ..ReportLine::default()
        }
    }

    #[test]
    fn a_report_is_read_whatever_stands_between_its_fields() {
        let fields = [
            "REPORT RequestId: 2d7fd9b0",
            "Duration: 12.11 ms",
            "Billed Duration: 60 ms",
            "Memory Size: 512 MB",
            "Max Memory Used: 58 MB",
            "Init Duration: 47.33 ms",
        ];
        for between in ["\t", " ", "    ", "\\t", "\t "] {
            check(&fields.join(between), &cold());
            check(&format!("{}{between}\n", fields.join(between)), &cold());
        }
        // In JSON, another message follows.
        let message = fields.join("\\t");
        let two = format!("{{\"message\":\"{message}\"}},{{\"message\":\"{message}\"}}");
        assert_eq!(reports(&two).unwrap(), [cold(), cold()]);
    }

    #[test]
    fn a_report_in_json_is_read_wherever_it_stands() {
        let json = r#"{"time":"2026-11-28T10:00:00.000Z","type":"platform.report","record":{"requestId":"2d7fd9b0","metrics":{"durationMs":12.11,"billedDurationMs":60,"memorySizeMB":512,"maxMemoryUsedMB":58,"initDurationMs":47.33},"status":"success"}}"#;
        let expected = ReportLine {
            // date -d 2026-11-28T10:00:00Z +%s
            logged_at: Some(1_795_860_000.0),
            ..cold()
        };
        let quoted = serde_json::to_string(json).unwrap();
        for line in [
            json.to_owned(),
            format!("2026-11-28T10:00:01 2026/11/28/[live]ab {json}"),
            format!("{{\"events\":[{{\"message\":{quoted}}}]}}"),
            format!("            \"message\": {quoted},"),
            format!("1795860000000,\"{}\"", json.replace('"', "\"\"")),
        ] {
            check(&line, &expected);
        }
    }

    #[test]
    fn restores_are_no_inits() {
        let text = "REPORT RequestId: 1 Duration: 5 ms Billed Duration: 6 ms Memory Size: 512 MB Max Memory Used: 58 MB Restore Duration: 412.5 ms Billed Restore Duration: 9 ms";
        let expected = ReportLine {
            duration: 5.0,
            billed: Some(6.0),
            memory: 512.0,
            used: 58.0,
            restore: Some(412.5),
            billed_restore: Some(9.0),
            ..ReportLine::default()
        };
        check(text, &expected);
        let json = r#"{"type":"platform.report","record":{"metrics":{"durationMs":5,"billedDurationMs":6,"memorySizeMB":512,"maxMemoryUsedMB":58,"restoreDurationMs":412.5,"billedRestoreDurationMs":9}}}"#;
        check(json, &expected);
    }

    #[test]
    fn the_time_of_an_event_stands_before_it() {
        let report = "REPORT RequestId: 1\tDuration: 1 ms\tMemory Size: 1 MB";
        for (before, expected) in [
            ("2026-11-28T10:00:00Z ", Some(1_795_860_000.0)),
            (
                "{\"timestamp\": 1795860000500, \"message\": \"",
                Some(1_795_860_000.5),
            ),
            ("", None),
            ("12 ", None),
        ] {
            let found = reports(&format!("{before}{report}")).unwrap();
            assert_eq!(found[0].logged_at, expected, "{before}");
        }
    }

    #[test]
    fn what_is_broken_says_what() {
        for (line, reason) in [
            (
                "REPORT RequestId: 1 Duration: soon Memory Size: 1 MB",
                "`Duration`",
            ),
            (
                "REPORT RequestId: 1 Billed Duration: 3 ms Memory Size: 1 MB",
                "no duration",
            ),
            ("REPORT RequestId: 1 Duration: 3 ms", "no memory size"),
            ("{\"type\":\"platform.report\"}", "no duration"),
            (
                "{\"type\":\"platform.report\",\"record\":{\"metrics\":{\"durationMs\":\"x\"}}}",
                "`durationMs`",
            ),
            ("{\"type\":\"platform.report\",", "not JSON"),
        ] {
            let error = reports(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        assert_eq!(reports("START RequestId: 1").unwrap(), []);
    }
}
