//! The binary as a person uses it: arguments, files and pipes in, lines and exit codes out.

use crate::languages::tiny_folder;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The default model's folder.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model/default");

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coldread"));
    command.args(args);
    // What the person who runs the tests has set must not count.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("COLDREAD_") || text.starts_with("AWS_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}

fn spawn(args: &[&str]) -> Child {
    command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Runs the binary on `input`; returns its exit code, standard output and error.
fn run(args: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = spawn(args);
    let mut stdin = child.stdin.take().unwrap();
    // A run that ends before it has read everything closes the pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    finished(child.wait_with_output().unwrap())
}

fn finished(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    let code = output.status.code().expect("no signal ended it");
    (code, text(output.stdout), text(output.stderr))
}

/// Standard output of a run that has to succeed without a word on standard error.
#[track_caller]
fn succeed(args: &[&str], input: &[u8]) -> String {
    let (code, stdout, stderr) = run(args, input);
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    stdout
}

/// Standard error of a run that has to fail with `code` and one line.
#[track_caller]
fn fail(code: i32, args: &[&str], parts: &[&str]) {
    let (found, stdout, stderr) = run(args, b"");
    assert_eq!(found, code, "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}");
    assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    for part in parts {
        assert!(
            stderr.contains(part),
            "{args:?} does not say {part:?}: {stderr}"
        );
    }
    if code == 1 {
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

/// The label of each JSON line, or the code of its error.
fn answers(stdout: &str) -> Vec<String> {
    let records = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| match record.get("error") {
            Some(error) => {
                assert!(error["message"].is_string(), "{record}");
                error["code"].as_str().unwrap().to_owned()
            }
            None => record["label"].as_str().unwrap().to_owned(),
        })
        .collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

const GOOD: &str = "I love this, what a great day!";
const BAD: &str = "I hate this, it is awful.";

#[test]
fn posts_in_the_arguments() {
    let stdout = succeed(
        &["score", GOOD, BAD, "", "two\nlines are great, I love it"],
        b"",
    );
    assert_eq!(
        answers(&stdout),
        ["positive", "negative", "empty_text", "positive"]
    );

    let record: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["row", "label", "score", "scores"]);
    let scores = record["scores"].as_object().unwrap();
    assert_eq!(
        scores.keys().collect::<Vec<_>>(),
        ["negative", "neutral", "positive"]
    );
    let sum: f64 = scores.values().map(|score| score.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{record}");
    assert_eq!(record["score"], scores["positive"]);
}

#[test]
fn text_lines_stay_aligned_with_their_results() {
    let mut input = b"\xef\xbb\xbf".to_vec();
    input.extend(format!("{GOOD}\r\n\r\n").bytes());
    input.extend(b"broken \xff\xfe bytes\r\n");
    input.extend(vec![b'x'; 70_000]);
    input.extend(format!("\r\n   \n{BAD}").bytes());
    let expected = [
        "positive",
        "empty_text",
        "invalid_utf8",
        "text_too_long",
        "empty_text",
        "negative",
    ];
    assert_eq!(answers(&succeed(&["score"], &input)), expected);
    let files = Files::new();
    let path = files.write("posts.txt", &input);
    assert_eq!(
        answers(&succeed(&["score", "--input", &path], b"")),
        expected
    );
}

/// The same lines without the rows' own ids.
fn without_ids(lines: &str) -> String {
    let lines = lines.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().shift_remove("id");
        row.to_string() + "\n"
    });
    lines.collect()
}

#[test]
fn every_format_gives_the_same_results() {
    let files = Files::new();
    let from_text = succeed(&["score"], format!("{GOOD}\n{BAD}\n").as_bytes());
    let jsonl = format!("{{\"text\":{GOOD:?}}}\n\n{BAD:?}\n");
    let csv = format!("id,text\n1,\"{GOOD}\"\n2,\"{BAD}\"\n");
    let tsv = format!("text\tid\n{GOOD}\t1\n{BAD}\t2\n");
    let labelled = format!("2\t{GOOD}\n0\t{BAD}\n");
    for (name, content, flags) in [
        ("posts.jsonl", jsonl.clone(), &[][..]),
        ("posts.csv", csv.clone(), &[]),
        ("posts.tsv", tsv, &[]),
        ("labelled.tsv", labelled.clone(), &["--no-header"]),
        ("numbered.tsv", labelled, &["--no-header", "--field", "2"]),
        (
            "body.csv",
            csv.replace("text", "body"),
            &["--field", "body"],
        ),
        ("second.csv", csv.clone(), &["--field", "2"]),
        (
            "jsonl.txt",
            jsonl.replace("text", "body"),
            &["--format", "jsonl", "--field", "body"],
        ),
    ] {
        let path = files.write(name, content);
        let args = [&["score", "--input", &path], flags].concat();
        assert_eq!(without_ids(&succeed(&args, b"")), from_text, "{name}");
    }
    let stdin = succeed(
        &["score", "--input", "-", "--format", "csv"],
        csv.as_bytes(),
    );
    assert_eq!(without_ids(&stdin), from_text);
}

#[test]
fn rows_without_a_post_are_errors_in_their_place() {
    let input =
        format!("{{\"text\":{GOOD:?}}}\n{{\"text\":1}}\nnot json\n{{\"text\":\"\"}}\n{BAD:?}\n");
    let stdout = succeed(&["score", "--format", "jsonl"], input.as_bytes());
    assert_eq!(
        answers(&stdout),
        [
            "positive",
            "missing_field",
            "invalid_json",
            "empty_text",
            "negative"
        ]
    );
    assert!(
        stdout.lines().nth(2).unwrap().contains("line 3: "),
        "{stdout}"
    );
}

#[test]
fn csv_output_has_a_column_per_label() {
    let stdout = succeed(&["score", "--output", "csv", GOOD, ""], b"");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[0],
        "row,id,label,score,negative,neutral,positive,truncated,windows,error"
    );
    let columns: Vec<&str> = lines[1].split(',').collect();
    assert_eq!((columns[2], columns.len()), ("positive", 10));
    assert_eq!(columns[3], columns[6]);
    assert_eq!(lines[2], "2,,,,,,,,,empty_text");
}

#[test]
fn table_output_shows_label_score_and_post() {
    let stdout = succeed(&["score", "--output", "table", GOOD], b"");
    assert!(stdout.starts_with("positive  "), "{stdout}");
    assert!(stdout.trim_end().ends_with(GOOD), "{stdout}");
}

#[test]
fn a_long_post_says_that_it_was_cut() {
    let stdout = succeed(&["score", &"great ".repeat(2000)], b"");
    let record: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(record["truncated"], true);
}

#[test]
fn a_long_post_is_read_in_windows_or_rejected() {
    let long = "great ".repeat(2000);
    let record = succeed(&["score", "--long-text", "window", &long], b"");
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(record["windows"].as_u64().unwrap() > 1, "{record}");
    let rows = succeed(&["score", "--long-text", "error", &long, GOOD], b"");
    assert_eq!(answers(&rows), ["text_too_long", "positive"]);
}

#[test]
fn what_people_send_is_read_or_rejected_by_name() {
    let files = Files::new();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder
            .write_all(format!("id;text\n1;{GOOD}\n").as_bytes())
            .unwrap();
        encoder.finish().unwrap()
    };
    let utf16 = format!("\u{feff}{GOOD}\r\n{BAD}\r\n");
    let utf16: Vec<u8> = utf16.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cut = format!("id,text\n1,Great phone, but it broke\n2,{BAD:?}\n");
    let archive =
        format!("window.YTD.tweets.part0 = [\n{{\"tweet\": {{\"full_text\": {GOOD:?}}}}}\n]");
    for (name, content, flags, expected) in [
        ("posts.csv.gz", gzip.clone(), &[][..], &["positive"][..]),
        (
            "posts.csv.zst",
            zstd::encode_all(cut.as_bytes(), 1).unwrap(),
            &[],
            &["column_count", "negative"],
        ),
        ("utf16.txt", utf16, &[], &["positive", "negative"]),
        (
            "cr.txt",
            format!("{GOOD}\r{BAD}\r").into_bytes(),
            &[],
            &["positive", "negative"],
        ),
        ("tweets.js", archive.into_bytes(), &[], &["positive"]),
        (
            "array.json",
            format!("[{{\"a\":{{\"b\":{BAD:?}}}}},\n null]").into_bytes(),
            &["--field", "/a/b"],
            &["negative", "missing_field"],
        ),
        (
            "named.csv",
            format!("a/b\n1/{BAD}\n").into_bytes(),
            &["--delimiter", "/", "--field", "b"],
            &["negative"],
        ),
    ] {
        let path = files.write(name, content);
        let args = [&["score", "--input", &path], flags].concat();
        assert_eq!(answers(&succeed(&args, b"")), expected, "{name}");
    }
    let xlsx = files.write("posts.xlsx", b"PK\x03\x04\x14\0\x06\0[Content_Types].xml");
    fail(
        1,
        &["score", "--input", &xlsx],
        &["posts.xlsx", "Excel", "libreoffice"],
    );
    let unclear = files.write("head.csv", format!("1;{GOOD}\n"));
    fail(
        1,
        &["score", "--no-header", "--input", &unclear],
        &["`;`", "--delimiter"],
    );
    let text = files.write("posts.txt", GOOD);
    fail(
        2,
        &["score", "--input", &text, "--delimiter", ";"],
        &["--delimiter"],
    );
    fail(
        2,
        &["score", "--input", &xlsx, "--delimiter", "ab"],
        &["--delimiter"],
    );
}

#[test]
fn nothing_in_is_nothing_out() {
    assert_eq!(succeed(&["score"], b""), "");
    assert_eq!(succeed(&["score", "--format", "csv"], b""), "");
}

#[test]
fn only_bad_posts_are_a_failure() {
    let (code, stdout, stderr) = run(&["score", "--format", "jsonl"], b"{\"body\":\"x\"}\n");
    assert_eq!(code, 1);
    assert_eq!(answers(&stdout), ["missing_field"]);
    assert!(stderr.contains("no string at `text`"), "{stderr}");
}

#[test]
fn wrong_files_and_fields_are_named() {
    let files = Files::new();
    let csv = files.write("posts.csv", "id,body\n1,x\n");
    let tsv = files.write("labelled.tsv", format!("2\t{GOOD}\n"));
    let text = files.write("posts.txt", "x\n");
    let folder = files.0.path().to_str().unwrap();
    fail(
        1,
        &["score", "--input", "no/such.txt"],
        &["no/such.txt", "No such file"],
    );
    fail(1, &["score", "--input", folder], &[folder, "directory"]);
    fail(
        1,
        &["score", "--input", &csv],
        &["posts.csv", "no column \"text\"", "\"body\""],
    );
    fail(
        1,
        &["score", "--input", &csv, "--field", "9"],
        &["no column \"9\""],
    );
    fail(
        1,
        &["score", "--input", &tsv],
        &["labelled.tsv", "--no-header"],
    );
    fail(
        2,
        &["score", "--input", &text, "--field", "x"],
        &["--field"],
    );
    fail(
        2,
        &["score", "--input", &text, "--no-header"],
        &["--no-header"],
    );
    fail(
        2,
        &["score", "--input", &tsv, "--no-header", "--field", "x"],
        &["number"],
    );
    fail(2, &["score", "--input", &text, "post"], &["--input"]);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    fail(2, &["--bogus"], &["--bogus"]);
    fail(2, &["score", "--bogus"], &["--bogus"]);
    fail(2, &["scoer"], &["scoer", "score"]);
    fail(2, &["eval"], &["FILE"]);
    fail(2, &["score", "--format", "xml"], &["xml", "jsonl"]);
    fail(2, &["info", "--engine", "fast"], &["fast"]);
    fail(2, &["info", "--threads", "0"], &["threads"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = succeed(&["--version"], b"");
    assert_eq!(version, format!("coldread {}\n", env!("CARGO_PKG_VERSION")));
    let help = succeed(&["--help"], b"");
    for command in ["serve", "score", "eval", "info", "pack", "bench"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        assert!(
            succeed(&[command, "--help"], b"").contains("--model"),
            "{command}"
        );
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let files = Files::new();
    let path = files.write("posts.txt", format!("{GOOD}\n").repeat(20_000));
    let mut child = spawn(&["score", "--input", &path]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(answers(&line), ["positive"]);
    // The pipe is closed by now, and most of the file is not scored yet.
    let (code, _, stderr) = finished(child.wait_with_output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
#[cfg(unix)]
fn a_line_is_answered_at_once_and_ctrl_c_ends_it() {
    let mut child = spawn(&["score"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for (post, label) in [(GOOD, "positive"), (BAD, "negative")] {
        // The pipe stays open: the answer cannot wait for its end.
        writeln!(stdin, "{post}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(answers(&line), [label]);
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let (code, _, stderr) = finished(child.wait_with_output().unwrap());
    assert_eq!((code, stderr.as_str()), (130, ""));
}

#[test]
fn eval_reports_what_it_counted() {
    let files = Files::new();
    let path = files.write(
        "val.tsv",
        format!("2\t{GOOD}\nNEGATIVE\t{BAD}\n0\t{GOOD}\r\n"),
    );
    let report: Value = serde_json::from_str(&succeed(&["eval", &path, "--json"], b"")).unwrap();
    assert_eq!(report["posts"], 3);
    assert_eq!(
        report["confusion"],
        serde_json::json!([[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    );
    let close = |key: &str, expected: f64| {
        let found = report[key].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "{key} is {found}");
    };
    close("accuracy", 2.0 / 3.0);
    close("macro_recall", 0.75);
    close("macro_f1", 2.0 / 3.0);
    let mut keys: Vec<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "accuracy",
            "accuracy_interval",
            "confusion",
            "ece",
            "ece_before",
            "engine",
            "macro_f1",
            "macro_f1_interval",
            "macro_recall",
            "macro_recall_interval",
            "model",
            "per_class",
            "posts",
            "posts_per_second",
            "temperature",
        ]
    );
    assert_eq!(report["per_class"]["negative"]["support"], 2);
    assert!(report["posts_per_second"].as_f64().unwrap() > 0.0);
    assert!((0.0..=1.0).contains(&report["ece"].as_f64().unwrap()));

    let text = succeed(&["eval", &path], b"");
    assert!(text.contains("macro recall       0.7500 (95%: "), "{text}");
}

#[test]
fn eval_counts_failed_checks() {
    let files = Files::new();
    let lines = [
        format!("plain\tpositive\t{GOOD}"),
        format!("plain\tpositive\t{BAD}"),
        format!("change\tsame\t{GOOD}\t{GOOD}"),
        format!("plain\tnot positive\t{BAD}"),
        format!("change\tsame\t{GOOD}\t{BAD}"),
    ];
    let path = files.write("checks.tsv", lines.join("\n"));
    let report = succeed(&["eval", "--checks", &path, "--json"], b"");
    let report: Value = serde_json::from_str(&report).unwrap();
    let checks = &report["checks"];
    let figures = |name: &str| {
        let of = &checks[name];
        (
            of["checks"].clone(),
            of["failed"].clone(),
            of["failed_lines"].clone(),
        )
    };
    assert_eq!(
        figures("plain"),
        (3.into(), 1.into(), serde_json::json!([2]))
    );
    assert_eq!(
        figures("change"),
        (2.into(), 1.into(), serde_json::json!([5]))
    );
    let text = succeed(&["eval", "--checks", &path], b"");
    assert!(text.contains("change       2       1  50.0%"), "{text}");
    fail(
        1,
        &["eval", "--checks", &files.write("bad.tsv", "a\tangry\tb")],
        &["bad.tsv:1: unknown expectation"],
    );
}

#[test]
fn eval_refuses_bad_lines_by_number() {
    let files = Files::new();
    for (name, second, parts) in [
        (
            "label.tsv",
            "3\tx".as_bytes(),
            &["label.tsv:2: ", "expected 0 to 2"][..],
        ),
        (
            "word.tsv",
            b"great\tx",
            &["word.tsv:2: ", "negative, neutral, positive"],
        ),
        ("tab.tsv", b"no tab", &["tab.tsv:2: ", "label<TAB>post"]),
        ("blank.tsv", b"", &["blank.tsv:2: "]),
        ("empty.tsv", b"2\t ", &["empty.tsv:2: ", "empty"]),
        ("bytes.tsv", b"2\t\xff", &["bytes.tsv:2: ", "UTF-8"]),
    ] {
        let content = [b"2\tfine\n", second, b"\n1\tfine\n"].concat();
        fail(1, &["eval", &files.write(name, content)], parts);
    }
    fail(
        1,
        &["eval", &files.write("nothing.tsv", "")],
        &["nothing.tsv", "no posts"],
    );
    fail(1, &["eval", "no/such.tsv"], &["no/such.tsv"]);
}

#[test]
fn info_tells_what_would_run() {
    let info: Value = serde_json::from_str(&succeed(&["info", "--json"], b"")).unwrap();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        info["labels"],
        serde_json::json!(["negative", "neutral", "positive"])
    );
    assert!(
        info["available_isas"]
            .as_array()
            .unwrap()
            .contains(&"scalar".into())
    );
    assert_eq!(info["limits"]["max_post_bytes"], 65536);
    let limited = succeed(&["info", "--json", "--max-post-bytes", "99"], b"");
    assert_eq!(
        serde_json::from_str::<Value>(&limited).unwrap()["limits"]["max_post_bytes"],
        99
    );
    assert_eq!(info["languages"], serde_json::json!(["en"]));
    let text = succeed(&["info"], b"");
    assert!(text.contains("negative, neutral, positive"), "{text}");
    assert!(text.contains("languages       en\n"), "{text}");
}

#[test]
fn languages_are_detected_rejected_and_scored_by_another_model() {
    const GERMAN: &str = "Ich hasse das, nie wieder!";
    let rows = |args: &[&str]| -> Vec<Value> {
        let output = succeed(&[&["score"], args, &[GOOD, GERMAN]].concat(), b"");
        let rows = output.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    };
    let plain = rows(&[]);
    assert!(plain.iter().all(|row| row.get("language").is_none()));
    let detected = rows(&["--detect-language"]);
    assert_eq!(detected[0]["language"], "en");
    assert_eq!(detected[1]["language"], "de");
    assert_eq!(detected[1]["warnings"][0], "unsupported_language");
    assert_eq!(detected[1]["scores"], plain[1]["scores"]);
    let rejected = rows(&["--other-languages", "reject"]);
    assert_eq!(rejected[0], plain[0]);
    assert_eq!(rejected[1]["error"]["code"], "unsupported_language");

    let (_parent, german) = tiny_folder("bert", &["de"]);
    let german = german.to_str().unwrap();
    let of_two = rows(&["--also-model", german]);
    assert_eq!(of_two[0], plain[0]);
    assert_eq!(of_two[1]["model"], "bert");
    let alone = rows(&["--model", german]);
    assert_eq!(of_two[1]["scores"], alone[1]["scores"]);
    let csv = |args: &[&str]| {
        let args = [&["score", "--output", "csv"], args, &[GOOD, GERMAN, " "]].concat();
        let output = succeed(&args, b"");
        let mut reader = csv::Reader::from_reader(output.as_bytes());
        let rows = reader.deserialize::<HashMap<String, String>>();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let of_two = csv(&["--also-model", german]);
    let models: Vec<&str> = of_two.iter().map(|row| row["model"].as_str()).collect();
    assert_eq!(models, ["default", "bert", ""]);
    assert_eq!(of_two[2]["error"], "empty_text");
    assert!(csv(&[]).iter().all(|row| !row.contains_key("model")));

    let files = Files::new();
    let labelled = files.write("labelled.tsv", format!("positive\t{GOOD}\n0\t{GERMAN}\n"));
    let report = succeed(&["eval", &labelled, "--also-model", german, "--json"], b"");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["model"], "default + bert");
    let neutral = usize::from(of_two[1]["label"] == "neutral");
    assert_eq!(report["confusion"][0][1], neutral);

    let (_parent, unknown) = tiny_folder("bert", &[]);
    let unknown = unknown.to_str().unwrap();
    for args in [
        ["--model", unknown, "--other-languages", "reject"],
        ["--model", german, "--also-model", unknown],
    ] {
        let args = [&["score", GOOD], &args[..]].concat();
        fail(2, &args, &["the languages of the model bert"]);
    }
    fail(
        1,
        &["score", GOOD, "--also-model", "./no/such"],
        &["no/such"],
    );
}

#[test]
fn the_model_is_chosen_before_or_after_the_command_or_by_variable() {
    let expected = succeed(&["score", "--model", MODEL, GOOD], b"");
    assert_eq!(succeed(&["--model", MODEL, "score", GOOD], b""), expected);
    let output = command(&["score", GOOD])
        .env("COLDREAD_MODEL", MODEL)
        .output()
        .unwrap();
    assert_eq!(finished(output).1, expected);
    let output = command(&["score", GOOD])
        .env("COLDREAD_MODEL", "no/such/model")
        .output()
        .unwrap();
    let (code, _, stderr) = finished(output);
    assert_eq!(code, 1);
    assert!(stderr.contains("no/such/model"), "{stderr}");
}

/// A copy of the default model's folder with one file changed, or left out.
fn broken_model(files: &Files, name: &str, change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> String {
    let folder = files.0.path().join(format!("without-{name}"));
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(MODEL).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let file = Path::new(path.file_name().unwrap());
        let bytes = if file == Path::new(name) {
            change(fs::read(&path).unwrap())
        } else if path.is_file() {
            fs::read(&path).ok()
        } else {
            None
        };
        if let Some(bytes) = bytes {
            fs::write(folder.join(file), bytes).unwrap();
        }
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn broken_models_are_refused_with_file_and_reason() {
    let files = Files::new();
    fail(
        1,
        &["score", "--model", "no/such/model", "x"],
        &["no/such/model"],
    );
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let missing = broken_model(&files, name, |_| None);
        fail(1, &["score", "--model", &missing, "x"], &[name]);
        fs::remove_dir_all(&missing).unwrap();
        let truncated = broken_model(&files, name, |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            Some(bytes)
        });
        fail(1, &["score", "--model", &truncated, "x"], &[name]);
        fs::remove_dir_all(&truncated).unwrap();
    }
    // A configuration that does not fit the weights.
    let inconsistent = broken_model(&files, "config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(&bytes).unwrap();
        config["intermediate_size"] = 1024.into();
        Some(config.to_string().into_bytes())
    });
    fail(
        1,
        &["score", "--model", &inconsistent, "x"],
        &["model.safetensors"],
    );
    let packed = files.write("model.coldread", "not a packed model");
    fail(1, &["score", "--model", &packed, "x"], &["model.coldread"]);
}

#[test]
fn pack_writes_a_model_that_scores_the_same() {
    let files = Files::new();
    let packed = files.0.path().join("model.coldread");
    let packed = packed.to_str().unwrap();
    let posts = files.write("posts.txt", format!("{GOOD}\n{BAD}\n\nhm\n"));
    let stdout = succeed(&["pack", MODEL, "-o", packed, "--check", &posts], b"");
    assert!(stdout.contains("model.coldread: "), "{stdout}");
    assert!(stdout.contains(" of 3 posts"), "{stdout}");
    // The model inside the program was packed by the same rule when the program was built.
    let expected = succeed(&["score", GOOD, BAD], b"");
    assert_eq!(
        succeed(&["score", "--model", packed, GOOD, BAD], b""),
        expected
    );
    // A folder keeps the full range.
    succeed(&["pack", MODEL, "-o", packed, "--exact"], b"");
    let expected = succeed(&["score", "--model", MODEL, GOOD, BAD], b"");
    assert_eq!(
        succeed(&["score", "--model", packed, GOOD, BAD], b""),
        expected
    );
    fail(
        1,
        &["pack", "no/such/folder", "-o", packed],
        &["no/such/folder"],
    );
    fail(
        1,
        &["pack", MODEL, "-o", "no/folder/model"],
        &["no/folder/model"],
    );
}

/// What could not be loaded is not written, and scoring the folder says why as well.
#[test]
fn pack_refuses_what_it_could_not_load() {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny/xlm-roberta");
    let files = Files::new();
    for name in ["config.json", "model.safetensors"] {
        files.write(name, fs::read(tiny.join(name)).unwrap());
    }
    let folder = files.0.path().to_str().unwrap();
    let packed = files.0.path().join("packed");
    let original = fs::read_to_string(tiny.join("tokenizer.json")).unwrap();
    let cases: [(&str, Value, &str); 4] = [
        (
            "/post_processor/special_tokens/<~1s>/ids/0",
            99_999.into(),
            "special token 99999",
        ),
        (
            "/post_processor/special_tokens/<~1s>",
            json!({"id": "</s>", "ids": vec![2; 60], "tokens": vec!["</s>"; 60]}),
            "61 special tokens leave no room in 46 tokens",
        ),
        (
            "/normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
            "panics",
        ),
        ("/model/type", "Guess".into(), ""),
    ];
    for (pointer, value, reason) in cases {
        let mut tokenizer: Value = serde_json::from_str(&original).unwrap();
        *tokenizer.pointer_mut(pointer).expect(pointer) = value;
        files.write("tokenizer.json", tokenizer.to_string());
        for args in [
            &["pack", folder, "-o", packed.to_str().unwrap()][..],
            &["score", "--model", folder, "good"],
        ] {
            let (code, _, stderr) = run(args, b"");
            assert_eq!(code, 1, "{stderr}");
            let error = stderr.lines().last().unwrap_or_default();
            assert!(
                error.starts_with("error: ")
                    && error.contains("tokenizer.json")
                    && error.contains(reason),
                "{stderr}"
            );
        }
        assert!(!packed.exists(), "{pointer}");
    }
    files.write("tokenizer.json", original);
    succeed(&["pack", folder, "-o", packed.to_str().unwrap()], b"");
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let output = command(&["score", "x"])
        .env("COLDREAD_LOG", "a=b=c")
        .output()
        .unwrap();
    let (code, _, stderr) = finished(output);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("error: COLDREAD_LOG is `a=b=c`"),
        "{stderr}"
    );
}

#[test]
fn a_package_gets_completions_and_man_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell], b"");
        assert_eq!(code, 0, "{shell}");
        assert!(
            script.contains("eval") && script.contains("input"),
            "{shell}"
        );
    }
    let path = folder.path().to_str().expect("UTF-8");
    assert_eq!(run(&["man", path], b"").0, 0);
    for page in ["coldread.1", "coldread-score.1", "coldread-serve.1"] {
        let page = fs::read_to_string(folder.path().join(page)).expect("a page");
        assert!(page.contains(".SH OPTIONS"), "{page}");
    }
    let (code, _, error) = run(&["man", "no/such/folder"], b"");
    assert_eq!((code, error.lines().count()), (1, 1), "{error}");
}
