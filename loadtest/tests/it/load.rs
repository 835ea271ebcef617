//! The client, the trace replay and the command line, end to end.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn complains(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn from_a_trace_to_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut counts = "timestamp,value\n".to_owned();
    for minute in 0..60 {
        let count = if minute == 30 { 400 } else { 5 };
        counts.push_str(&format!("2026-01-01T10:{minute:02}:00Z,{count}\n"));
    }
    std::fs::write(path("counts.csv"), counts).unwrap();
    let trace = format!("trace:{}", path("counts.csv"));
    let spoken = says(&[
        "cost",
        "--from-arrivals",
        "--arrivals",
        &trace,
        "--target",
        "lambda:arm:512",
        "--target",
        "ec2:c7g.medium",
        "--quiet",
        "--json",
        &path("cost.json"),
    ]);
    // A minute of 34 times the mean: hosts sized for it never pay off.
    assert!(spoken.contains("lambda:arm:512 and ec2:c7g.medium never cost the same"));
    assert!(
        spoken.contains("sized for 34.53 times the mean"),
        "{spoken}"
    );
    // 59 × 5 + 400 posts in an hour.
    assert!(spoken.contains("At 0.1931 posts/s"), "{spoken}");

    let spoken = says(&[
        "report",
        &path("cost.json"),
        "-o",
        &path("report.html"),
        "--csv",
        &path("report.csv"),
    ]);
    assert!(
        spoken.contains("the first is cheaper at every rate"),
        "{spoken}"
    );
    let page = std::fs::read_to_string(path("report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("counts.csv"));
    let both = says(&["compare", &path("cost.json"), &path("cost.json")]);
    assert!(both.contains("ec2:c7g.medium"), "{both}");
}

#[test]
fn a_replay_is_simulated_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("trace.json");
    let spoken = says(&[
        "trace",
        "--arrivals",
        "constant:20",
        "--duration",
        "1s",
        "--no-limits",
        "--quiet",
        "--json",
        &results.display().to_string(),
        "--",
        env!("CARGO_BIN_EXE_hello-function"),
    ]);
    assert!(spoken.contains("20 answered"), "{spoken}");
    let text = std::fs::read_to_string(results).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let run = &document["trace"];
    assert_eq!(run["replayed"]["requests"], 20);
    assert_eq!(run["simulated"]["requests"], 20);
    assert!(run["replayed"]["cold"].as_u64().unwrap() >= 1);
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.csv").display().to_string();
    std::fs::write(&path, "timestamp,value\n2026-01-01T00:00:00Z,many\n").unwrap();
    let trace = format!("trace:{path}");
    for (arguments, part) in [
        (&["simulate", "--arrivals", &trace][..], "bad.csv:2: `many`"),
        (&["simulate", "--arrivals", "poisson:-1"], "poisson:-1"),
        (
            &["cost", "--target", "lambda:arm:64"],
            "not between 128 and 10240",
        ),
        (&["cost", "--target", "ec2:z9.nano"], "ec2.z9.nano"),
        (&["cost", "--cold-fraction", "2"], "--cold-fraction"),
        (&["cost", "--speed", "lambda=0"], "not a number above 0"),
        (&["report", "/no/such.json"], "/no/such.json"),
        (&["import-logs", &path], "bad.csv contains no REPORT line"),
        (
            &[
                "warm",
                "--url",
                "http://127.0.0.1:1",
                "--quiet",
                "--url",
                "x",
            ],
            "--url",
        ),
    ] {
        let message = complains(arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
}
