//! What people read, so that a change of it is seen: help texts and error messages. After a
//! change that is meant: `INSTA_UPDATE=always cargo test --test it texts`.
//!
//! The errors of HTTP requests are in `http_errors.rs`, with their statuses.

use coldread::config::{CompatArgs, ConfigError, EventArgs};
use coldread::error::PostRejection;
use coldread::events::InvocationError;
use coldread::hub::HubError;
use coldread::rows::{InputError, RowError};
use coldread::scorer::ScorerError;
use coldread_engine::{EngineError, PostError};
use insta::assert_snapshot;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_coldread"))
        .args(args)
        // No value of a variable, no width of a terminal.
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8(output.stdout).expect("the help is UTF-8");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("$ coldread {}\n{}\n\n", args.join(" "), lines.join("\n"))
}

#[test]
fn help_texts() {
    let commands = [
        "serve",
        "score",
        "eval",
        "info",
        "pack",
        "bench",
        "completions",
        "man",
    ];
    let mut texts = help(&["-h"]) + &help(&["serve", "-h"]);
    for command in commands {
        texts += &help(&[command, "--help"]);
    }
    assert_snapshot!(texts);
}

#[test]
fn error_messages() {
    let mut table = String::new();
    let mut add = |code: &str, message: String| {
        writeln!(table, "{code}: {message}").expect("writing to a String cannot fail");
    };
    for error in row_errors() {
        add(error.code(), error.to_string());
    }
    for error in [
        InputError::UnknownCharset,
        InputError::MissingColumn {
            wanted: "text".to_owned(),
            found: vec!["id".to_owned(), "body".to_owned()],
        },
        InputError::UnknownDelimiter("`,` and `;`".to_owned()),
        InputError::Header { max_bytes: 65_536 },
    ] {
        add(error.code(), error.to_string());
    }
    for error in [
        InvocationError::UnknownEvent,
        InvocationError::MalformedEvent("its records come from several sources"),
        InvocationError::NoSink,
        InvocationError::AllFailed {
            records: 10,
            first: "overloaded",
        },
    ] {
        add(error.code(), error.to_string());
    }
    let id = || "acme/mood".to_owned();
    for error in [
        HubError::InvalidId {
            id: "mood".to_owned(),
            reason: "no such file or folder".to_owned(),
        },
        HubError::NotFound("model acme/mood".to_owned()),
        HubError::Unauthorized {
            id: id(),
            with_token: false,
        },
        HubError::Unauthorized {
            id: id(),
            with_token: true,
        },
        HubError::Forbidden(id()),
        HubError::RateLimited(Some(Duration::from_secs(90))),
        HubError::Unreachable {
            endpoint: "https://huggingface.co".to_owned(),
            reason: "timeout".to_owned(),
        },
        HubError::BadAnswer("it names no commit".to_owned()),
        HubError::Mismatch("model.safetensors".to_owned()),
        HubError::NotCached(id()),
        HubError::Unusable {
            id: id(),
            reason: "it has no config.json".to_owned(),
        },
        HubError::InvalidToken,
    ] {
        add("error", error.to_string());
    }
    for error in settings_errors() {
        add("usage", error);
    }
    for error in [
        EngineError::TokenId {
            id: 30_522,
            vocab_size: 30_522,
        },
        EngineError::NoRoom {
            max_tokens: 2,
            special_tokens: 2,
        },
    ] {
        add("engine", error.to_string());
    }
    assert_snapshot!(table);
}

/// Why rows are not scored.
fn row_errors() -> Vec<RowError> {
    vec![
        PostError::Empty.into(),
        RowError::from(PostError::TooLong {
            bytes: 70_000,
            max_bytes: 65_536,
        }),
        PostError::TooManyTokens { max_tokens: 512 }.into(),
        PostRejection::UnsupportedLanguage { language: "de" }.into(),
        RowError::RowTooLong {
            bytes: 70_000,
            max_bytes: 65_536,
        },
        RowError::InvalidUtf8,
        RowError::InvalidJson("expected value at column 1".to_owned()),
        RowError::MissingField("text".to_owned()),
        RowError::InvalidType("/text".to_owned()),
        RowError::ColumnCount {
            found: 2,
            expected: 3,
        },
        RowError::UnclosedQuote,
        RowError::StrayQuote { last_line: 7 },
        RowError::InvalidBase64,
        RowError::MissingImage,
    ]
}

/// What settings are rejected with.
fn settings_errors() -> Vec<String> {
    let compat = |compat: &str, compat_prefix: &str| {
        let args = CompatArgs {
            compat: compat.to_owned(),
            compat_prefix: compat_prefix.to_owned(),
        };
        args.resolve(|_| None).expect_err("rejected")
    };
    let events = |results: &str, event_text: &str| {
        let args = EventArgs {
            results: Some(results.to_owned()),
            event_text: Some(event_text.to_owned()),
            event_id: None,
        };
        args.resolve().expect_err("rejected")
    };
    let config_errors = [
        ConfigError::Address {
            name: "PORT",
            value: "http".to_owned(),
            expected: "a port from 0 to 65535",
        },
        ConfigError::Origin("*".to_owned()),
        compat("aws", ""),
        compat("", "other"),
        events("s3://bucket", ""),
        events("sqs://", ""),
        events("log", "detail.text"),
    ];
    let scorer_errors = [
        ScorerError::UnknownLanguages {
            flag: "--other-languages reject",
            model: "mood".to_owned(),
        },
        ScorerError::OtherLabels {
            first: "negative, positive".to_owned(),
            model: "mood".to_owned(),
            labels: "good, bad".to_owned(),
        },
    ];
    let config_errors = config_errors.iter().map(ToString::to_string);
    let scorer_errors = scorer_errors.iter().map(ToString::to_string);
    config_errors.chain(scorer_errors).collect()
}
