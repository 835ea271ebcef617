//! The sub-commands, as a shell calls them.

use coldread_loadtest::results::Results;
use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

const HELLO: &str = env!("CARGO_BIN_EXE_hello-function");
const MISBEHAVING: &str = env!("CARGO_BIN_EXE_misbehaving-function");

fn harness(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
        .args(args)
        // Under cargo, what is measured would be built anew.
        .env_remove("CARGO")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the harness starts");
    let mut stdin = child.stdin.take().expect("piped");
    // One that refuses its arguments ends without reading.
    if let Err(error) = stdin.write_all(input.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn cold_starts_are_measured_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cold.json");
    let json = path.to_str().expect("a plain path");
    let crash = format!("broken={MISBEHAVING} crash-in-init");
    let output = harness(
        &[
            "cold-start",
            "--binary",
            HELLO,
            "--vs",
            &crash,
            "--runs",
            "2",
            "--no-limits",
            "--quiet",
            "--json",
            json,
        ],
        "",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{output:?}");
    assert!(
        text.contains("| broken ") && text.contains("crash in init"),
        "{text}"
    );
    let found = Results::read(&path)
        .expect("a document")
        .cold_start
        .expect("its section");
    // Three functions, with files in memory and evicted.
    assert_eq!(found.rows.len(), 6);
    for row in &found.rows {
        let broken = row.function == "broken";
        assert_eq!(row.samples.len(), if broken { 0 } else { 2 }, "{row:?}");
        assert_eq!(row.faults.total(), if broken { 3 } else { 0 }, "{row:?}");
        assert_eq!(row.first_answer_ms.is_some(), !broken);
        assert_eq!(row.first_after_deploy.is_some(), !broken);
    }
    let left = std::fs::read_dir(std::path::Path::new(HELLO).parent().expect("a folder"))
        .expect("it is there")
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(".cold-start-")
        })
        .count();
    assert_eq!(left, 0, "copies are left behind");
}

#[test]
fn nothing_measured_is_a_failure() {
    let broken = format!("{MISBEHAVING} crash-in-init");
    let args = [
        "cold-start",
        "--image",
        "x=y",
        "--engine",
        "/no/such/engine",
        "--runs",
        "1",
    ];
    for args in [
        &args[..],
        &["cold-start", "--binary", "/no/such/binary"],
        &["cold-start", "--vs", "no-equals-sign"],
        &["cold-start", "--binary", HELLO, "--vs", "hello=true"],
        &[
            "cold-start",
            "--binary",
            HELLO,
            "--vs",
            "x=/no/such/program",
        ],
        &["cold-start", "--binary", HELLO, "--posts", "/no/such/file"],
        &["invoke", "--", &broken],
    ] {
        let output = harness(args, "{}\n");
        assert!(!output.status.success(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn events_go_in_and_answers_come_out() {
    let output = harness(&["invoke", "--", MISBEHAVING, "well"], "{}\n\n[1]\n");
    let answers = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let served: Vec<bool> = answers
        .lines()
        .zip(1..)
        .map(|(line, n)| line.ends_with(&format!("\"served\":{n}}}")))
        .collect();
    assert_eq!(served, [true, true], "{answers}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(log.matches("REPORT RequestId: ").count(), 2, "{log}");
    assert_eq!(log.matches("Init Duration: ").count(), 1, "{log}");
}
