//! SnapStart: snapshots that are restored, and functions that make nothing of it.

use crate::support::{faults, function, invoke, scaling, settings};
use bytes::Bytes;
use coldread_loadtest::platform::Platform;
use coldread_loadtest::platform::fault::FaultKind;
use coldread_loadtest::platform::function::{Function, SnapStart};
use coldread_loadtest::platform::instance::Settings;
use serde_json::Value;
use std::time::Duration;

/// A function under SnapStart whose snapshots load in `load_ms`.
fn snapstart(behaviour: &str, load_ms: u64) -> Function {
    let mut function = function(&[behaviour]);
    let load = Duration::from_millis(load_ms);
    function.snapstart = Some(SnapStart {
        labelled: false,
        load: (load, load),
    });
    function
}

fn platform(function: Function, settings: Settings) -> Platform {
    Platform::new(function, settings, scaling())
}

/// Asserts the fault that the first invocation ends with.
async fn check(function: Function, settings: Settings, expected: FaultKind, detail: &str) {
    let platform = platform(function, settings);
    let fault = invoke(&platform).await.expect_err("a fault");
    assert_eq!(fault.kind, expected, "{fault}");
    assert!(fault.detail.contains(detail), "{fault}");
    // Nothing is tried again.
    assert_eq!(faults(&platform).total(), 1);
    assert_eq!(platform.instances(), 0);
}

#[tokio::test]
async fn a_restored_instance_answers_and_its_report_says_so() {
    let platform = platform(snapstart("restored", 40), settings());
    platform.publish().await.expect("a snapshot");
    let cold = platform.invoke(Bytes::from_static(b"{}")).await;
    assert!(cold.cold);
    let (body, report) = cold.result.expect("an answer");
    let first: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(first["type"], "snap-start");
    let restore = report.restore.expect("a restore");
    assert_eq!(restore.load, Duration::from_millis(40));
    assert_eq!(report.init, None);
    let text = report.to_string();
    assert!(
        text.contains("\tRestore Duration: 4") && text.contains("\tBilled Restore Duration: "),
        "{text}"
    );
    assert!(!text.contains("Init Duration"), "{text}");
    // The caller waited for the load as well.
    assert!(cold.done.since(cold.asked) >= restore.load);

    let warm = platform.invoke(Bytes::from_static(b"{}")).await;
    let (body, report) = warm.result.expect("an answer");
    let second: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (first["pid"].clone(), report.restore),
        (second["pid"].clone(), None)
    );
}

#[tokio::test]
async fn two_instances_are_two_restores() {
    let platform = platform(snapstart("restored", 0), settings());
    let (a, b) = tokio::join!(invoke(&platform), invoke(&platform));
    let pid = |body: &Bytes| serde_json::from_slice::<Value>(body).expect("JSON")["pid"].clone();
    assert_ne!(pid(&a.expect("an answer")), pid(&b.expect("an answer")));
    assert_eq!(platform.counts().started, 2);
}

#[tokio::test]
async fn a_function_that_never_asks_for_its_restore_has_no_snapshot() {
    check(
        snapstart("well", 0),
        settings(),
        FaultKind::NoRestore,
        "no label",
    )
    .await;
    let platform = platform(snapstart("well", 0), settings());
    let fault = platform.publish().await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::NoRestore);
    // Nor has one that asks for nothing at all.
    let mut settings = settings();
    settings.snapshot_limit = Duration::from_millis(100);
    let mut silent = snapstart("never-asks", 0);
    silent.timeout = Duration::from_millis(50);
    check(silent, settings, FaultKind::InitTimeout, "100ms").await;
}

#[tokio::test]
async fn a_label_allows_a_snapshot_of_any_function() {
    let mut labelled = snapstart("initialization-type", 0);
    labelled.snapstart = Some(SnapStart {
        labelled: true,
        load: (Duration::ZERO, Duration::ZERO),
    });
    let platform = platform(labelled, settings());
    let cold = platform.invoke(Bytes::from_static(b"{}")).await;
    let (body, report) = cold.result.expect("an answer");
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["type"], "snap-start");
    assert!(report.restore.is_some());
}

#[tokio::test]
async fn a_hook_that_fails_is_told_by_its_type() {
    let function = snapstart("restore-error", 0);
    check(
        function,
        settings(),
        FaultKind::RestoreError,
        "Function.HookFailed",
    )
    .await;
}

#[tokio::test]
async fn a_hook_that_exits_is_an_exit() {
    check(
        snapstart("restore-exit", 0),
        settings(),
        FaultKind::Exit,
        "5",
    )
    .await;
}

#[tokio::test]
async fn a_restore_after_its_deadline_is_late() {
    let mut limits = settings();
    limits.restore_limit = Duration::from_millis(150);
    check(
        snapstart("restore-late", 0),
        limits.clone(),
        FaultKind::RestoreTimeout,
        "150ms",
    )
    .await;
    // Loading alone may take too long.
    check(
        snapstart("restored", 200),
        limits,
        FaultKind::RestoreTimeout,
        "150ms",
    )
    .await;
}

#[tokio::test]
async fn the_initialization_type_says_how_an_instance_came_about() {
    let answer = async |function: Function| {
        let body = invoke(&platform(function, settings()))
            .await
            .expect("an answer");
        serde_json::from_slice::<Value>(&body).expect("JSON")["type"].clone()
    };
    assert_eq!(
        answer(function(&["initialization-type"])).await,
        "on-demand"
    );
    let mut managed = function(&["initialization-type"]);
    managed.max_concurrency = 2;
    assert_eq!(answer(managed).await, "lambda-managed-instances");
}
