//! The help texts, so that a change of them is seen. After a change that is meant:
//! `INSTA_UPDATE=always cargo test -p coldread-loadtest --test it texts`.

use insta::assert_snapshot;
use std::process::{Command, Stdio};

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
        .args(args)
        // No value of a variable, no width of a terminal.
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("the harness starts");
    let text = String::from_utf8(output.stdout).expect("the help is UTF-8");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let command = args.join(" ");
    format!("$ coldread-loadtest {command}\n{}\n\n", lines.join("\n"))
}

#[test]
fn help_texts() {
    let commands = [
        "cold-start",
        "warm",
        "trace",
        "simulate",
        "cost",
        "decide",
        "import-logs",
        "report",
        "compare",
        "invoke",
        "self-test",
        "schema",
    ];
    let mut texts = help(&["--help"]);
    for command in commands {
        texts += &help(&[command, "--help"]);
    }
    assert_snapshot!(texts);
}
