//! The page of a full set of results, with hostile texts in them.

use super::{page, table};
use crate::cost::CostReport;
use crate::cost::prices::Prices;
use crate::cost::workload::Workload;
use crate::results::Results;
use crate::simulate::Model;
use crate::simulate::baseline::BaselineOptions;
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
