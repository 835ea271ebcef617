//! The Grafana dashboard and the alarms ask for metrics that the service has.

use crate::support::{classifier, get, limits, post, send};
use coldread::batcher::Batcher;
use coldread::http::{AppState, app};
use coldread::telemetry::Metrics;
use serde_json::Value;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

const DASHBOARD: &str = include_str!("../../container/compose/grafana/coldread.json");
const ALARMS: &str = include_str!("../../container/deploy/kubernetes/alarms.yaml");

/// Names that begin with `coldread_` in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("coldread_"))
        .collect()
}

#[tokio::test]
async fn every_metric_of_dashboard_and_alarms_is_served() {
    let limits = limits(&[]);
    let counted = Arc::new(Metrics::new());
    counted.ready();
    let options = limits.batch_options(NonZeroUsize::MIN, |_| None);
    let batcher = Batcher::start(classifier(), options, counted);
    let app = app(AppState::new(batcher, limits));
    send(app.clone(), post(r#"{"texts":["good",""]}"#)).await;
    send(app.clone(), post("{")).await;
    let served = send(app, get("/metrics")).await.text;
    let served = metrics(&served);

    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let asked = metrics(target["expr"].as_str().expect("a query"));
            assert!(!asked.is_empty(), "{target}");
            assert!(asked.is_subset(&served), "{asked:?} of {served:?}");
        }
    }
    let alarms = metrics(ALARMS);
    assert!(!alarms.is_empty());
    assert!(alarms.is_subset(&served), "{alarms:?} of {served:?}");
}
