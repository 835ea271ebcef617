//! The subcommands, as a shell calls them.

use coldread_loadtest::cold_start::Row;
use coldread_loadtest::results::Results;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
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
    // A wrong command line is refused before anything is read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn cold_starts_are_measured_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cold.json");
    let json = path.to_str().expect("a plain path");
    let page = folder.path().join("cold.html");
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
            "--report",
            page.to_str().expect("a plain path"),
        ],
        "",
    );
    let page = std::fs::read_to_string(&page).expect("a page");
    assert!(page.contains("Phases of a cold start"));
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
fn an_interrupted_run_says_so_and_writes_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let [json, page] = ["cold.json", "cold.html"].map(|name| folder.path().join(name));
    let mut child = Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
        .args(["cold-start", "--binary", HELLO, "--runs", "100000"])
        .args(["--no-limits", "--cache", "warm"])
        .args([OsStr::new("--json"), json.as_os_str()])
        .args([OsStr::new("--report"), page.as_os_str()])
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the harness starts");
    // It says what it runs on before the first run.
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("harness's own share") {
        line.clear();
        said.read_line(&mut line).expect("it goes on");
    }
    let pid = Pid::from_raw(child.id() as i32).expect("a process id");
    kill_process(pid, Signal::INT).expect("it is there");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(rest.contains("stopped early"), "{rest}");
    let found = Results::read(&json).expect("a document").cold_start;
    assert!(!found.expect("its section").complete);
    assert!(page.is_file());
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
fn a_closed_pipe_ends_no_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("cold.html");
    let page = page.to_str().expect("a plain path");
    let cold_start = [
        &["cold-start", "--binary", HELLO, "--runs", "1", "--quiet"][..],
        &["--no-limits", "--cache", "warm", "--report", page],
    ]
    .concat();
    for args in [&["schema"][..], &cold_start] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
            .args(args)
            .env_remove("CARGO")
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .expect("the harness starts");
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    assert!(std::fs::metadata(page).is_ok(), "the report is written");
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

/// A log whose lines have times is traffic and times at once; one without is not, and one
/// that has restores alone does not say what a cold start takes.
#[test]
fn a_restore_is_measured_beside_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cold.json");
    let page = folder.path().join("cold.html");
    let output = harness(
        &[
            "cold-start",
            "--snapstart",
            "--binary",
            HELLO,
            "--runs",
            "2",
            "--no-limits",
            "--quiet",
            "--json",
            path.to_str().expect("a plain path"),
            "--report",
            page.to_str().expect("a plain path"),
        ],
        "",
    );
    assert!(output.status.success(), "{output:?}");
    let found = Results::read(&path)
        .expect("a document")
        .cold_start
        .expect("its section");
    let restored = |row: &&Row| row.function == "coldread, restored";
    let rows: Vec<&Row> = found.rows.iter().filter(restored).collect();
    // What a paused process has mapped cannot be evicted, so there is one state of the cache.
    let [row] = rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.samples.len(), row.faults.total()), (2, 0), "{row:?}");
    for sample in &row.samples {
        assert!(sample.first_next_ms <= sample.first_answer_ms, "{sample:?}");
    }
}

#[test]
fn a_replay_restores_its_instances() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.json");
    let output = harness(
        &[
            "trace",
            "--snapstart",
            "--snapshot-load-ms",
            "60:60",
            "--arrivals",
            "poisson:20",
            "--duration",
            "500ms",
            "--no-limits",
            "--quiet",
            "--json",
            path.to_str().expect("a plain path"),
            "--",
            HELLO,
        ],
        "",
    );
    assert!(output.status.success(), "{output:?}");
    let trace = Results::read(&path)
        .expect("a document")
        .trace
        .expect("its section");
    let cold = trace.replayed.cold_latency_ms.expect("cold requests");
    assert!(cold.p50 >= 60.0, "{cold:?}");
    let verdict = trace.verdict.join(" ");
    for part in ["restored from snapshots", "an assumed 60 to 60 ms"] {
        assert!(verdict.contains(part), "{verdict}");
    }
}

#[test]
fn a_log_answers_whether_to_take_a_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, lines: Vec<String>| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).expect("written");
        path.to_str().expect("a plain path").to_owned()
    };
    let report =
        "Duration: 12.11 ms Billed Duration: 13 ms Memory Size: 1769 MB Max Memory Used: 58 MB";
    let init = "Init Duration: 47.33 ms";
    let restore = "Restore Duration: 420.5 ms Billed Restore Duration: 9 ms";
    let line = |second: usize, more: &str| {
        format!(
            "2026-11-28T10:{:02}:{:02}Z REPORT RequestId: {second} {report} {more}",
            second / 60,
            second % 60
        )
    };
    let times = |first: &str| {
        let mut lines: Vec<String> = (1..600).map(|second| line(second, "")).collect();
        lines.insert(0, line(0, first));
        lines
    };
    let decide = |log: &str, more: &[&str]| {
        let args = [
            &[
                "decide",
                "--logs",
                log,
                "--arch",
                "arm",
                "--machines",
                "c7g.medium",
            ],
            more,
        ];
        harness(&args.concat(), "")
    };
    let page = folder.path().join("decide.html");
    let page = page.to_str().expect("a plain path");
    let log = write("cold.log", times(init));
    let output = decide(&log, &["--report", page, "--p99-ms", "500"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{output:?}");
    assert!(text.contains("(log cold.log, "), "{text}");
    assert!(
        text.contains("a cold start takes 47.33 ms of init"),
        "{text}"
    );
    assert!(text.contains("not measured"), "{text}");
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("Snapshot or not?"));

    let restored = write("restored.log", times(restore));
    for (log, more, expected) in [
        (&restored, &[][..], "restores but no init phase"),
        (
            &write(
                "untimed.log",
                vec![format!("REPORT RequestId: 1 {report} {init}")],
            ),
            &[],
            "the reports have no times",
        ),
        (&log, &["--machines", "z9.nano"], "`ec2.z9.nano`"),
        (
            &log,
            &["--target", "lambda:arm:512:snapstart:pc=1"],
            "exclude each other",
        ),
    ] {
        let output = decide(log, more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{expected}");
        assert!(error.contains(expected), "{error}");
    }
    let output = decide(&restored, &["--init", "60ms"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    // What is left of 420.5 ms without the 9 that are the function's.
    assert!(text.contains("A restore takes 411.5 ms and 9 ms"), "{text}");
    assert!(text.contains("from the log of AWS"), "{text}");
}

#[test]
fn restores_show_in_what_is_logged() {
    let args = [
        "invoke",
        "--snapstart",
        "--snapshot-load-ms",
        "20:20",
        "--",
        MISBEHAVING,
    ];
    let output = harness(&[&args[..], &["restored"]].concat(), "{}\n{}\n");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(
        log.contains("loading takes an assumed 20 to 20 ms"),
        "{log}"
    );
    assert_eq!(log.matches("\tRestore Duration: 2").count(), 1, "{log}");
    assert_eq!(
        log.matches("\tBilled Restore Duration: ").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("Init Duration: ").count(), 0, "{log}");

    let output = harness(&[&args[..], &["well"]].concat(), "{}\n");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("publishing a version failed: no restore asked for"),
        "{log}"
    );
}
