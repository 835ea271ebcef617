//! The ranking of options: what each costs and what for, how slow it is, and where the
//! next one is cheaper.

use maud::{Markup, html};

use super::figures::key;
use super::plots::{Bar, bars, css};
use crate::cost::bill::Breakdown;
use crate::decide::{Decision, Ranked};
use crate::format::{brief, dollars};
use maud::PreEscaped;

/// What a month is paid for, with its colour.
const PARTS: [(&str, usize); 5] = [
    ("work", 0),
    ("cold starts", 1),
    ("restores and snapshots", 3),
    ("idle", 5),
    ("fees", 2),
];

fn parts(breakdown: &Breakdown) -> [f64; 5] {
    let Breakdown {
        work,
        cold_starts,
        restores,
        idle,
        fees,
    } = *breakdown;
    [work, cold_starts, restores, idle, fees]
}

/// Everything that a decision says.
pub(super) fn section(decision: &Decision) -> Markup {
    html! {
        ul { @for sentence in decision.verdict.iter().skip(1) { li { (sentence) } } }
        (ranking(decision))
        (otherwise(decision))
        (starts(decision))
        h2 { "What this rests on" }
        ul { @for assumption in &decision.assumptions { li { (assumption) } } }
        details.bills {
            summary { "How each amount comes about" }
            @for option in &decision.options { (super::page::bill(&option.target, None, &option.bill)) }
        }
    }
}

fn ranking(decision: &Decision) -> Markup {
    html! {
        h2 { "Options by cost, p99 within " (brief(decision.p99_target_ms)) " ms" }
        div.wide { table.rank.options {
            tr {
                th { "option" } th { "paid for" } th.n { "$ a month" }
                th.n { "cold" } th.n { "p99, ms" } th.n { "p99.9" } th.n { "next at" }
            }
            @for option in &decision.options { tr.late[!option.in_time] {
                td title=(option.target) { (option.name) }
                td { (bar(option)) }
                td.n title=(exact(&option.breakdown)) { (dollars(option.usd_per_month)) }
                td.n { (option.cold_fraction.map_or_else(|| "–".to_owned(), |share| format!("{}%", brief(share * 100.0)))) }
                td.n { (ms(option.p99_ms)) @if !option.in_time { " !" } }
                td.n { (ms(option.p999_ms)) }
                td.n { (even(decision, option)) }
            } }
        } }
        (key(&PARTS))
        p.note {
            @if decision.options.iter().any(|option| !option.in_time) {
                "! misses the p99 target, or requests were throttled, or nothing was simulated. "
            }
            "Bars: shares of the amount; point at it for dollars. "
            "Last column: the multiple of this traffic at which the next option costs the same."
        }
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), brief)
}

fn exact(breakdown: &Breakdown) -> String {
    PARTS
        .iter()
        .zip(parts(breakdown))
        .map(|((name, _), usd)| format!("{name} {}", dollars(usd)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn even(decision: &Decision, option: &Ranked) -> String {
    let pair = decision
        .neighbours
        .iter()
        .find(|pair| pair.cheaper == option.target);
    match pair {
        None => "–".to_owned(),
        Some(pair) => pair.times_present.map_or_else(
            || "no rate".to_owned(),
            |times| format!("× {}", brief(times)),
        ),
    }
}

/// The parts of an amount, one after the other.
fn bar(option: &Ranked) -> Markup {
    let mut from = 0.0;
    html! {
        svg.parts viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label=(exact(&option.breakdown)) {
            @for ((_, colour), usd) in PARTS.iter().zip(parts(&option.breakdown)) {
                @let width = usd / option.usd_per_month * 100.0;
                @if width > 0.0 {
                    rect x=(format!("{from:.3}")) y="0" width=(format!("{width:.3}")) height="4" fill=(css(*colour)) {}
                }
                @let () = from += width;
            }
        }
    }
}

fn otherwise(decision: &Decision) -> Markup {
    html! {
        @if !decision.levers.is_empty() {
            h2 { "The cheapest, chosen otherwise" }
            div.wide { table.rank {
                tr { th { "choice" } th { "setting" } th.n { "$ a month" } th.n { "ms a request" } th.n { "ms to fill a batch" } }
                @for lever in &decision.levers { tr.sum[lever.present].late[!lever.in_time] {
                    td { (lever.what) } td { (lever.setting) @if lever.present && lever.what != "concurrency" { " (as above)" } }
                    td.n { (dollars(lever.usd_per_month)) }
                    td.n { (brief(lever.request_ms)) @if !lever.in_time { " !" } }
                    td.n { @if lever.fill_ms > 0.0 { (brief(lever.fill_ms)) } @else { "–" } }
                } }
            } }
        }
    }
}

fn starts(decision: &Decision) -> Markup {
    let rows: Vec<Bar> = decision
        .starts
        .iter()
        .map(|start| Bar {
            label: start.name.clone(),
            parts: vec![(start.ms, if start.own { 0 } else { 5 })],
        })
        .collect();
    html! {
        @if let Some(svg) = bars("What a start takes", "ms", &rows) {
            h2 { "What a start takes" }
            figure.starts {
                (PreEscaped(svg))
                figcaption { "Init of this function as measured or given, beside starts on Lambda that others have published, one author each. Placing the environment and fetching the code come on top of an init." }
            }
        }
    }
}
