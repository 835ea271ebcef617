//! The page of a full set of results, with hostile texts in them.

use super::{page, table};
use crate::cost::CostReport;
use crate::cost::prices::Prices;
use crate::cost::workload::Workload;
use crate::decide::{Choice, Decision, Question};
use crate::results::Results;
use crate::simulate::Model;
use crate::simulate::baseline::BaselineOptions;
use crate::simulate::sampler::Sampler;
use crate::simulate::simulation::simulate;

/// Results of small real runs.
fn results() -> Results {
    let mut results = Results::new(3);
    let targets: Vec<_> = ["lambda:arm:512", "ec2:c7g.medium", "api:</script><b>:0.1"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let workload = Workload::default();
    results.cost = Some(CostReport::new(&workload, &Prices::built_in(), &targets).unwrap());
    let schedule = crate::arrivals::Schedule::from_process(
        "poisson:5".parse().unwrap(),
        std::time::Duration::from_mins(10),
    );
    results.simulation = Some(simulate(
        &Model::default(),
        &schedule,
        &BaselineOptions {
            servers: 1,
            service: Model::default().service,
        },
        3,
        true,
    ));
    results.command = vec!["coldread-loadtest".to_owned(), "<img src=x>".to_owned()];
    results
}

#[test]
fn a_report_refers_to_nothing_outside_itself_and_escapes_what_it_shows() {
    let page = page::render(&results()).unwrap();
    for forbidden in [
        "<img",
        "</script><b>",
        "src=\"",
        "href=\"",
        "url(",
        "@import",
        "<link",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(page.contains("&lt;img src=x&gt;"));
    for part in [
        "break-even at",
        "Cold starts touch",
        "Prices without a full date",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.matches("<svg role=\"img\"").count() >= 7);
}

/// The ranking of a small question, with a hostile target.
fn decided() -> Results {
    let schedule = crate::arrivals::Schedule::from_process(
        "poisson:5".parse().unwrap(),
        std::time::Duration::from_mins(10),
    );
    let families = [
        "lambda:arm:512",
        "lambda:arm:512:snapstart",
        "api:</script><b>:0.1",
    ]
    .map(|name| vec![Choice::Exactly(name.parse().unwrap())]);
    let question = Question {
        workload: Workload {
            posts_per_second: 5.0,
            ..Workload::default()
        },
        schedule,
        model: Model::default(),
        restore: Sampler::constant_ms(400.0),
        restore_source: "given".to_owned(),
        p99_ms: 200.0,
        families: families.into(),
        seed: 1,
        quiet: true,
    };
    let mut results = Results::new(1);
    results.decision = Some(Decision::new(&question, &Prices::built_in()).unwrap());
    results
}

#[test]
fn a_decision_is_the_first_thing_on_its_page() {
    let results = decided();
    let page = page::render(&results).unwrap();
    for part in [
        "<title>Snapshot or not?</title>",
        "Lambda at 512 MB (arm) is cheapest",
        "Options by cost, p99 within 200 ms",
        "What a start takes",
        "not seen at the provider",
        // Not simulated, so not in time.
        "<tr class=\"late\"><td title=\"api:&lt;/script&gt;&lt;b&gt;:0.1\">",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("</script>").count(), 1);
    assert_eq!(
        page::verdict(&results),
        results.decision.as_ref().unwrap().verdict[0]
    );
    let csv = table::csv(&results).unwrap();
    assert!(csv.contains("\ndecision,lambda:arm:512 p99,ms,"), "{csv}");
}

#[test]
fn the_embedded_results_are_the_results() {
    let results = results();
    let page = page::render(&results).unwrap();
    let start = page.find("id=\"results\">").unwrap() + "id=\"results\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    let read: Results = serde_json::from_str(&page[start..end]).unwrap();
    assert_eq!(read, results);
}

#[test]
fn files_add_their_sections_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let all = results();
    let only = |cost: bool| {
        let mut part = Results::new(3);
        if cost {
            part.cost.clone_from(&all.cost);
        } else {
            part.simulation.clone_from(&all.simulation);
        }
        let path = folder.path().join(format!("{cost}.json"));
        part.write(&path).unwrap();
        path
    };
    let (cost, simulation) = (only(true), only(false));
    let both = Results::read_merged(&[cost.clone(), simulation]).unwrap();
    assert!(both.cost == all.cost && both.simulation == all.simulation);
    assert_eq!(both.merged.len(), 1);
    let error = Results::read_merged(&[cost.clone(), cost])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`cost` is in an earlier file"), "{error}");
}

#[test]
fn the_table_has_every_figure_once() {
    let csv = table::csv(&results()).unwrap();
    assert!(csv.starts_with("section,name,unit,value,low,high\n"));
    assert!(csv.contains("\ncost,ec2:c7g.medium,$/month,"));
    assert!(csv.contains("\nsimulation,cold fraction,1,"));
    let mut rows: Vec<&str> = csv.lines().collect();
    let count = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), count);
}
