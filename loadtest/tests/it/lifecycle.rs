//! Instances come, are used again, and leave nothing behind.

use crate::support::{faults, function, invoke, limited, platform, scaling, settings};
use bytes::Bytes;
use coldread_loadtest::platform::instance::Instance;
use coldread_loadtest::platform::reclaim::Reclaim;
use coldread_loadtest::platform::{Platform, Scaling};
use rustix::process::{Pid, test_kill_process};
use serde_json::Value;
use std::time::Duration;

async fn answer(platform: &Platform) -> Value {
    let body = invoke(platform).await.expect("an answer");
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn a_warm_instance_is_used_again() {
    let platform = platform(function(&["well"]));
    let (first, second) = (answer(&platform).await, answer(&platform).await);
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(
        (&first["served"], &second["served"]),
        (&1.into(), &2.into())
    );
    assert_eq!(platform.counts().started, 1);
}

#[tokio::test]
async fn invocations_at_once_need_instances_of_their_own() {
    let platform = platform(function(&["well"]));
    let (a, b) = tokio::join!(answer(&platform), answer(&platform));
    assert_ne!(a["pid"], b["pid"]);
    assert_eq!(platform.instances(), 2);
}

#[tokio::test]
async fn an_instance_of_two_places_takes_two() {
    let mut function = function(&["two-at-once"]);
    function.max_concurrency = 2;
    let platform = platform(function);
    invoke(&platform).await.expect("an answer");
    let (a, b) = tokio::join!(invoke(&platform), invoke(&platform));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(platform.counts().started, 1);
}

#[tokio::test]
async fn beyond_the_limit_invocations_are_throttled() {
    let scaling = Scaling {
        max_instances: 1,
        ..scaling()
    };
    let platform = Platform::new(function(&["well"]), settings(), scaling);
    let (a, b) = tokio::join!(invoke(&platform), invoke(&platform));
    assert_eq!(a.is_ok(), b.is_err());
    assert_eq!(faults(&platform).to_string(), "1 throttled");
}

#[tokio::test]
async fn idle_instances_are_reclaimed() {
    let scaling = Scaling {
        reclaim: Reclaim::Fixed(0.0),
        ..scaling()
    };
    let platform = Platform::new(function(&["well"]), settings(), scaling);
    let first = answer(&platform).await;
    // The instance becomes idle a moment after its answer.
    while platform.instances() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let second = answer(&platform).await;
    assert_ne!(first["pid"], second["pid"]);
    assert!(platform.counts().reclaimed >= 1);
}

#[tokio::test]
async fn the_cold_invocation_is_billed_with_its_init() {
    let platform = platform(function(&["well"]));
    let cold = platform.invoke(Bytes::from_static(b"{}")).await;
    let warm = platform.invoke(Bytes::from_static(b"{}")).await;
    assert!(cold.cold && !warm.cold);
    let (_, report) = cold.result.expect("an answer");
    assert!(report.init.is_some_and(|init| init > Duration::ZERO));
    assert!(report.to_string().contains("Init Duration"));
    let (_, report) = warm.result.expect("an answer");
    assert_eq!(report.init, None);
}

#[tokio::test]
async fn the_environment_is_lambdas_alone() {
    let names = answer(&platform(function(&["environment"]))).await;
    let names: Vec<&str> = names
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for name in [
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "COLDREAD_STARTED_NS",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    // Cargo sets it for this test; nothing of ours gets through.
    assert!(!names.contains(&"CARGO_MANIFEST_DIR"));
    assert!(!names.contains(&"AWS_LAMBDA_MAX_CONCURRENCY"));
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_platform() {
    let platform = platform(function(&["well"]));
    let pid = answer(&platform).await["pid"].as_i64().expect("a number");
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    assert!(test_kill_process(pid).is_ok());
    // What is done after an answer holds it a moment longer.
    drop(platform);
    while test_kill_process(pid).is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn usage_and_limits_are_told() {
    let function = function(&["well"]);
    let limits = limited();
    let settings = limits.clone().unwrap_or_else(settings);
    let first = Some(Bytes::from_static(b"{}"));
    let (instance, submitted) = Instance::start(&function, &settings, settings.init_limit, first)
        .await
        .expect("it starts");
    instance
        .finish(submitted.expect("it was given an event"))
        .await
        .expect("it answers");
    instance.settle().await.expect("it asks again");
    let usage = instance.usage().expect("it is there");
    assert!(
        usage.peak_rss_kib > 100 && usage.minor_faults > 10,
        "{usage:?}"
    );
    assert_eq!(usage.throttling.is_some(), limits.is_some());
    assert_eq!(usage.peak_cgroup_kib.is_some(), limits.is_some());
    assert!(instance.output().contains("behaviour: well"));
    assert!(instance.ready() > instance.started());
}
