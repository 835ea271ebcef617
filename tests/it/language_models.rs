//! Language models in GGUF through the command line and HTTP. What they compute is tested in
//! `coldread-candle`.

use crate::cli::command;
use crate::support::{limits, post, send};
use axum::http::StatusCode;
use coldread::batcher::Batcher;
use coldread::http::{AppState, app};
use coldread::model::ModelSource;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn path(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf");
    data.join(format!("{name}.gguf"))
}

/// Exit code, standard output and standard error.
fn run(args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = command(args)
        .envs(variables.iter().copied())
        .output()
        .expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    let code = output.status.code().expect("no signal ended it");
    (code, text(output.stdout), text(output.stderr))
}

#[track_caller]
fn fail(args: &[&str], variables: &[(&str, &str)], parts: &[&str]) {
    let (code, _, error) = run(args, variables);
    assert_eq!(code, 1, "{args:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn labels_make_a_classifier() {
    let gemma = path("gemma3");
    let gemma = gemma.to_str().expect("UTF-8");
    let labels = "refund request, praise,other";
    let args = [
        "--model", gemma, "--labels", labels, "score", "hm", "--output", "jsonl",
    ];
    let (code, out, error) = run(&args, &[]);
    assert_eq!((code, &*error), (0, ""));
    let result: Value = serde_json::from_str(&out).expect("a line of JSON");
    let scores = result["scores"].as_object().expect("scores");
    let names: Vec<&str> = scores.keys().map(String::as_str).collect();
    assert_eq!(names, ["refund request", "praise", "other"]);
    let sum: f64 = scores.values().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{scores:?}");
    // The same bits in every run.
    assert_eq!(run(&args, &[]).1, out);
    let by_variable = ["--model", gemma, "score", "hm", "--output", "jsonl"];
    assert_eq!(run(&by_variable, &[("COLDREAD_LABELS", labels)]).1, out);
}

#[test]
fn a_prompt_is_read_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompt.json");
    std::fs::write(
        &file,
        r#"{"labels": {"no": ["negative"], "yes": ["positive", "good"]}}"#,
    )
    .expect("a file");
    let [model, prompt] = [path("qwen3"), file].map(|it| it.to_str().expect("UTF-8").to_owned());
    let (code, out, error) = run(&["--model", &model, "--prompt", &prompt, "info"], &[]);
    assert_eq!((code, &*error), (0, ""));
    assert!(
        out.contains("no, yes")
            && out.contains("candle-gguf")
            && out.contains("languages       unknown"),
        "{out}"
    );
    let labelled = folder.path().join("labelled.tsv");
    std::fs::write(&labelled, "yes\tso good\nno\tnever again\n").expect("a file");
    let labelled = labelled.to_str().expect("UTF-8");
    let (code, out, _) = run(
        &["--model", &model, "--prompt", &prompt, "eval", labelled],
        &[],
    );
    assert_eq!(code, 0);
    assert!(out.contains("posts              2"), "{out}");
    let both = [
        "--model", &model, "--prompt", &prompt, "--labels", "a,b", "info",
    ];
    fail(&both, &[], &["prompt.json", "leave --labels out"]);
    fail(
        &["--model", &model, "--prompt", "no/such.json", "info"],
        &[],
        &["no/such.json: the file is missing"],
    );
}

#[test]
fn what_does_not_go_together_is_rejected() {
    let model = path("llama");
    let model = model.to_str().expect("UTF-8");
    let info = ["--model", model, "info"];
    fail(
        &info,
        &[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "16")],
        &["llama.gguf", "MB of memory with 1 worker,", "may use 16 MB"],
    );
    fail(
        &["--engine", "int8", "--model", model, "info"],
        &[],
        &["llama.gguf: --engine int8 does not run language models"],
    );
    fail(
        &["--labels", "only", "--model", model, "info"],
        &[],
        &["--labels: 1 label; a classifier has 2 to 64"],
    );
    fail(
        &["--labels", "a,b", "info"],
        &[],
        &["--labels and --prompt need a language model in GGUF"],
    );
}

#[tokio::test]
async fn http_serves_it_as_any_other_model() {
    let source = ModelSource {
        path: Some(path("qwen2")),
        ..ModelSource::default()
    };
    let limits = limits(&[]);
    let classifier = source.load().expect("a model").classifier();
    let options = limits.batch_options(NonZeroUsize::MIN, |_| None);
    let batcher = Batcher::start(classifier, options, Arc::default());
    let app = app(AppState::new(batcher, limits));
    let reply = send(
        app.clone(),
        post(r#"{"texts": ["so good", "", "never again"]}"#),
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK);
    let results = reply.json()["results"].as_array().expect("results").clone();
    assert_eq!(results.len(), 3);
    assert!(results[0]["scores"]["neutral"].is_number(), "{results:?}");
    assert_eq!(results[1]["error"]["code"], "empty_text");
}
