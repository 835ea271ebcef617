//! Each way to misbehave is told apart from the others.

use crate::support::{faults, function, invoke, limited, platform, settings};
use coldread_loadtest::platform::fault::FaultKind;
use coldread_loadtest::platform::function::{Function, Program};
use coldread_loadtest::platform::{Platform, Scaling};
use serde_json::{Value, json};
use std::time::Duration;

/// Asserts the fault that one invocation of the function ends with.
async fn check(function: Function, expected: FaultKind) -> Platform {
    let platform = platform(function);
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, expected, "{fault}");
    platform
}

fn timeout(behaviour: &str, millis: u64) -> Function {
    let mut function = function(&[behaviour]);
    function.timeout = Duration::from_millis(millis);
    function
}

#[tokio::test]
async fn a_crash_in_init_is_tried_twice() {
    let platform = check(function(&["crash-in-init"]), FaultKind::InitCrash).await;
    assert_eq!(faults(&platform).to_string(), "2 crash in init");
    assert_eq!(platform.counts().started, 2);
}

#[tokio::test]
async fn a_crash_that_the_retry_makes_good_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("started");
    let path = path.to_str().expect("a plain path");
    let platform = platform(function(&["crash-once", path]));
    invoke(&platform).await.expect("an answer");
    assert_eq!(faults(&platform).to_string(), "1 crash in init");
}

#[tokio::test]
async fn an_error_in_init_is_told_by_its_type() {
    let platform = check(function(&["init-error"]), FaultKind::InitError).await;
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.detail, "Function.NoModel");
}

#[tokio::test]
async fn an_init_without_end_meets_the_limit() {
    let mut settings = settings();
    settings.init_limit = Duration::from_millis(100);
    let platform = Platform::new(timeout("never-asks", 150), settings, Scaling::default());
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::InitTimeout, "{fault}");
    assert_eq!(faults(&platform).to_string(), "2 init timeout");
}

#[tokio::test]
async fn a_hang_is_killed_at_the_timeout() {
    let platform = check(timeout("hang", 100), FaultKind::Hang).await;
    assert_eq!(faults(&platform).to_string(), "1 hang");
}

#[tokio::test]
async fn a_hang_after_the_answer_costs_the_instance() {
    let platform = platform(timeout("never-asks-again", 100));
    invoke(&platform).await.expect("an answer");
    while platform.instances() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(faults(&platform).to_string(), "1 hang");
}

#[tokio::test]
async fn an_answer_after_the_deadline_is_late_and_no_hang() {
    let mut settings = settings();
    settings.late_window = Duration::from_mins(1);
    let platform = Platform::new(timeout("late", 200), settings, Scaling::default());
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Late, "{fault}");
}

#[tokio::test]
async fn an_exit_before_the_answer_is_an_exit() {
    check(function(&["exit"]), FaultKind::Exit).await;
}

#[tokio::test]
async fn an_instance_that_exits_is_replaced() {
    let platform = platform(function(&["exit-on-second"]));
    invoke(&platform).await.expect("an answer");
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Exit);
    assert!(fault.detail.contains('4'), "{fault}");
    invoke(&platform).await.expect("a new instance answers");
    assert_eq!(platform.counts().started, 2);
}

#[tokio::test]
async fn a_stream_is_the_response_that_a_client_gets() {
    let platform = platform(function(&["streamed"]));
    let body = invoke(&platform).await.expect("a response");
    let response: Value = serde_json::from_slice(&body).expect("JSON");
    let expected = json!({
        "statusCode": 200, "headers": { "a": "b" }, "body": "{\"rows\":2}", "isBase64Encoded": false,
    });
    assert_eq!(response, expected);
    // 6 MB are the limit of what comes in one piece.
    let much = crate::support::platform(function(&["streamed-much"]));
    assert!(invoke(&much).await.expect("a response").len() > 7 << 20);
}

#[tokio::test]
async fn what_goes_wrong_with_a_stream_is_told_apart() {
    let fault = async |behaviour: &str| {
        let platform = platform(function(&[behaviour]));
        invoke(&platform).await.expect_err("a fault")
    };
    let no_head = fault("streamed-without-head").await;
    assert_eq!(no_head.kind, FaultKind::Garbage, "{no_head}");
    assert!(no_head.detail.contains("eight zero bytes"), "{no_head}");
    let broken = fault("streamed-then-error").await;
    assert_eq!(broken.kind, FaultKind::FunctionError, "{broken}");
    assert_eq!(broken.detail, "Function.Broken");
    assert_eq!(fault("streamed-then-exit").await.kind, FaultKind::Exit);
}

#[tokio::test]
async fn what_is_no_json_is_garbage() {
    let platform = check(function(&["garbage"]), FaultKind::Garbage).await;
    // The instance is sound, as far as Lambda is concerned.
    invoke(&platform).await.expect_err("garbage again");
    assert_eq!(platform.counts().started, 1);
}

#[tokio::test]
async fn answers_above_six_megabytes_are_refused() {
    check(function(&["too-large"]), FaultKind::TooLarge).await;
}

#[tokio::test]
async fn a_reported_error_is_told_by_its_type() {
    let platform = check(function(&["error"]), FaultKind::FunctionError).await;
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.detail, "Function.Broken");
}

#[tokio::test]
async fn no_such_program_is_no_crash() {
    let program = Program::Command(vec!["/no/such/program".into()]);
    check(Function::new("test", program, 128), FaultKind::Launch).await;
    // There, but nothing the kernel can run.
    let program = Program::Command(vec!["/dev/null".into()]);
    check(Function::new("test", program, 128), FaultKind::Launch).await;
}

#[tokio::test]
async fn a_memory_hog_is_killed_at_its_memory_size() {
    // Where limits cannot be set, there is nothing to assert.
    let Some(settings) = limited() else { return };
    let platform = Platform::new(function(&["hog"]), settings, Scaling::default());
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::OutOfMemory, "{fault}");
}
