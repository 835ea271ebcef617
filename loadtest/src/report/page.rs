//! The page: the answer first, then what it rests on.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::condition;
use super::{decision, figures};
use crate::cold_start::ColdStart;
use crate::cost::bill::Bill;
use crate::cost::{CostReport, Quote};
use crate::format::percent;
use crate::format::{brief, dollars, number};
use crate::latency::Latency;
use crate::logs::Logs;
use crate::results::Results;
use crate::simulate::simulation::Simulation;
use crate::stats::{Interval, Summary};
use crate::trace::TraceRun;
use crate::warm::Warm;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn render(results: &Results) -> Result<String> {
    let title = match results.decision {
        Some(_) => "Snapshot or not?",
        None => "What cold starts cost",
    };
    let body = html! {
        h1 { (title) }
        p.verdict { (verdict(results)) }
        (facts(results))
        @if let Some(decision) = &results.decision { (decision::section(decision)) }
        @if let Some(cost) = &results.cost { (cost_section(cost)) }
        @if let Some(simulation) = &results.simulation { (simulation_section(simulation)) }
        @if let Some(found) = &results.cold_start { (cold_start_section(found)) }
        @if let Some(warm) = &results.warm { (warm_section(warm)) }
        @if let Some(run) = &results.trace { (trace_section(run)) }
        @if let Some(logs) = &results.logs { (logs_section(logs)) }
        (provenance(results))
    };
    page(title, &body, results)
}

/// A page that refers to nothing outside itself, with `results` in it.
pub(super) fn page(title: &str, body: &Markup, results: &Results) -> Result<String> {
    // No `<` can end the element early, and JSON reads the escape as the same text.
    let json = serde_json::to_string(results)?.replace('<', "\\u003c");
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                script type="application/json" id="results" { (PreEscaped(json)) }
            }
        }
    }
    .into_string())
}

/// The result in one paragraph.
pub fn verdict(results: &Results) -> String {
    let mut sentences = Vec::new();
    if let Some(decision) = &results.decision {
        return decision.verdict.first().cloned().unwrap_or_default();
    }
    if let Some(cost) = &results.cost {
        sentences.push(cost_sentence(cost));
    }
    if let Some(found) = &results.simulation {
        sentences.push(format!(
            "Cold starts touch {} of requests and add {} ms at p99{}.",
            share(found.function.cold_fraction),
            brief(found.cold_adds_ms_p99),
            if found.cold_adds_ms_p99 < 0.5 {
                format!(
                    " ({} ms at p99.9)",
                    brief(
                        (found.function.latency_ms.p999 - found.function.warm_latency_ms.p999)
                            .max(0.0)
                    )
                )
            } else {
                String::new()
            }
        ));
    } else if let Some(warm) = &results.warm {
        sentences.extend(warm.verdict.first().cloned());
    }
    if sentences.is_empty() {
        sentences.extend(
            results
                .trace
                .as_ref()
                .and_then(|run| run.verdict.first().cloned()),
        );
        sentences.extend(results.cold_start.as_ref().and_then(cold_start_sentence));
    }
    if sentences.is_empty() {
        return "These results contain no measurement of cold starts, cost or traffic.".to_owned();
    }
    sentences.join(" ")
}

/// The first row that has a response.
fn cold_start_sentence(found: &ColdStart) -> Option<String> {
    found.rows.iter().find_map(|row| {
        let answer = row.first_answer_ms.as_ref()?;
        Some(format!(
            "{}: first response {} ms after exec (median of {}).",
            condition(row),
            brief(answer.median),
            answer.n
        ))
    })
}

/// The first function against the first always-on target.
fn cost_sentence(cost: &CostReport) -> String {
    let first = |always_on: bool| {
        cost.quotes
            .iter()
            .find(|quote| quote.always_on == always_on)
    };
    let says = |quote: &Quote| {
        format!(
            "{} costs {} a month",
            quote.name,
            dollars(quote.usd_per_month)
        )
    };
    let traffic = format!("For {} posts/s", brief(cost.workload.posts_per_second));
    match (first(false), first(true)) {
        (Some(function), Some(host)) => {
            let found = cost
                .break_evens
                .iter()
                .find(|found| found.on_demand == function.target && found.always_on == host.target);
            let even = match found.and_then(|found| found.requests_per_second) {
                Some(rate) => format!("break-even at {} requests/s", brief(rate)),
                None if function.usd_per_month < host.usd_per_month => {
                    "the first is cheaper at every rate".to_owned()
                }
                None => "the second is cheaper at every rate".to_owned(),
            };
            format!("{traffic}, {}, {}; {even}.", says(function), says(host))
        }
        (Some(quote), None) | (None, Some(quote)) => format!("{traffic}, {}.", says(quote)),
        (None, None) => format!("{traffic}; nothing was priced."),
    }
}

fn facts(results: &Results) -> Markup {
    let mut facts: Vec<(String, String)> = Vec::new();
    if let Some(cost) = &results.cost {
        for quote in cost.quotes.iter().take(2) {
            facts.push((
                format!("{}, a million posts", quote.name),
                dollars(quote.usd_per_million_posts),
            ));
        }
    }
    if let Some(found) = &results.simulation {
        facts.push((
            "cold requests".to_owned(),
            share(found.function.cold_fraction),
        ));
        facts.push((
            "cold start, median".to_owned(),
            ms(found.function.cold_latency_ms.p50),
        ));
        facts.push((
            "warm p99".to_owned(),
            ms(found.function.warm_latency_ms.p99),
        ));
    }
    if let Some(rate) = results.warm.as_ref().and_then(|warm| warm.capacity_rps) {
        facts.push((
            "capacity of a warm server".to_owned(),
            format!("{}/s", brief(rate)),
        ));
    }
    html! {
        @if !facts.is_empty() {
            dl.facts {
                @for (name, value) in &facts { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

fn share(value: f64) -> String {
    format!("{}%", brief(value * 100.0))
}

fn ms(value: f64) -> String {
    format!("{} ms", brief(value))
}

fn cost_section(cost: &CostReport) -> Markup {
    html! {
        h2 { "Cost" }
        ul { @for sentence in cost.verdict.iter().take(1 + cost.break_evens.len()) { li { (sentence) } } }
        @if !cost.undated_prices.is_empty() {
            p.warn {
                "Prices without a full date, or not seen at the provider, to be checked before a decision: "
                (cost.undated_prices.join(", ")) "."
            }
        }
        (figures::cost_over_rate(cost))
        (figures::bills(cost))
        h3 { "How each amount comes about" }
        @for quote in &cost.quotes { (bill(&quote.target, Some(quote.speed), &quote.bill)) }
        @if !cost.break_evens.is_empty() {
            h3 { "Break-even" }
            div.wide { table {
                tr { th { "pair" } th.n { "requests/s" } th.n { "posts/s" } th.n { "vCPUs busy" } th { "formula" } }
                @for found in &cost.break_evens { tr {
                    td { (found.on_demand) " = " (found.always_on) }
                    td.n { (optional(found.requests_per_second)) }
                    td.n { (optional(found.posts_per_second)) }
                    td.n { (found.utilisation.map_or_else(|| "–".to_owned(), percent)) }
                    td { (found.formula) }
                } }
            } }
        }
        @if !cost.sensitivity.is_empty() {
            h3 { "What if" }
            (figures::memory(cost))
            div.wide { table {
                tr { th { "input" } th { "value" } th.n { "$ a month" } th.n { "$ a million posts" } th.n { "ms a request" } th.n { "break-even, requests/s" } }
                @for case in &cost.sensitivity { tr {
                    td { (case.input) } td { (case.value) }
                    td.n { (dollars(case.usd_per_month)) }
                    td.n { (dollars(case.usd_per_million_posts)) }
                    td.n { (number(case.service_ms)) }
                    td.n { (optional(case.break_even)) }
                } }
            } }
        }
        @if let Some(pipeline) = &cost.pipeline {
            h3 { "A pipeline of hand-offs" }
            p { (pipeline.words) }
            (bill("pipeline", None, &pipeline.chatty))
            (bill(&pipeline.single_target, None, &pipeline.single))
        }
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

pub(super) fn bill(name: &str, speed: Option<f64>, bill: &Bill) -> Markup {
    html! {
        details {
            summary { (name) ": " (dollars(bill.usd())) " a month" }
            div.wide { table {
                tr { th { "what" } th { "formula" } th.n { "$ a month" } th { "price as of" } }
                @for line in &bill.lines { tr {
                    td { (line.what) } td { (line.formula) }
                    td.n { (dollars(line.usd)) } td { (line.price_date) }
                } }
                tr.sum { td { "together" } td {} td.n { (dollars(bill.usd())) } td {} }
            } }
            @for note in &bill.notes { p.note { (note) } }
            @if let Some(speed) = speed { p.note { "speed factor " (number(speed)) } }
        }
    }
}

fn simulation_section(found: &Simulation) -> Markup {
    let (function, baseline) = (&found.function, &found.baseline);
    html! {
        h2 { "Cold starts under these arrivals" }
        ul { @for sentence in &found.verdict { li { (sentence) } } }
        (figures::latencies(
            "Latency of the function and of the always-on baseline",
            &[
                ("function", &function.latency_ms),
                ("its cold requests", &function.cold_latency_ms),
                ("always on", &baseline.latency_ms),
            ],
            "Simulated. Dashed: 99 of a hundred requests.",
        ))
        (latency_table(&[
            ("function, all", &function.latency_ms),
            ("function, warm", &function.warm_latency_ms),
            ("function, cold", &function.cold_latency_ms),
            ("always on", &baseline.latency_ms),
        ]))
        (figures::timeline(function))
    }
}

fn latency_table(rows: &[(&str, &Latency)]) -> Markup {
    html! {
        div.wide { table {
            tr { th { "ms" } th.n { "requests" } th.n { "p50" } th.n { "p90" } th.n { "p99" } th.n { "p99.9" } th.n { "max" } }
            @for (name, latency) in rows { @if latency.n > 0 { tr {
                td { (name) } td.n { (number(latency.n as f64)) }
                @for value in [latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
                    td.n { (number(value)) }
                }
            } } }
        } }
    }
}

fn warm_section(warm: &Warm) -> Markup {
    let mut rows: Vec<(&str, &Latency)> = warm
        .closed
        .iter()
        .map(|run| (run.load.as_str(), &run.latency_ms))
        .collect();
    if let Some(run) = &warm.at_capacity {
        rows.push(("at capacity", &run.latency_ms));
    }
    html! {
        h2 { "The warm server" }
        @if let Some(sentence) = warm.verdict.first() { p { (sentence) } }
        (figures::warm(warm))
        (latency_table(&rows))
        details {
            summary { "every run" }
            ul { @for sentence in warm.verdict.iter().skip(1) { li { (sentence) } } }
        }
    }
}

fn cold_start_section(found: &ColdStart) -> Markup {
    let interval = |summary: &Option<Summary>, value: fn(&Summary) -> (f64, &Interval)| {
        summary.as_ref().map_or_else(
            || "–".to_owned(),
            |summary| {
                let (value, Interval { low, high }) = value(summary);
                format!("{} [{}, {}]", brief(value), brief(*low), brief(*high))
            },
        )
    };
    let median: fn(&Summary) -> (f64, &Interval) = |summary| (summary.median, &summary.median_ci);
    html! {
        h2 { "Cold starts on this machine" }
        (figures::anatomy(found))
        (figures::cold_and_warm(found))
        div.wide { table {
            tr { th { "function" } th.n { "runs" } th.n { "init, ms" } th.n { "first response, ms" } th.n { "its p90" } th.n { "its p99" } th.n { "second event, ms" } }
            @for row in &found.rows { tr {
                td { (condition(row)) } td.n { (row.samples.len()) }
                td.n { (interval(&row.first_next_ms, median)) }
                td.n { (interval(&row.first_answer_ms, median)) }
                td.n { (interval(&row.first_answer_ms, |summary| (summary.p90, &summary.p90_ci))) }
                td.n { (interval(&row.first_answer_ms, |summary| (summary.p99, &summary.p99_ci))) }
                td.n { (interval(&row.second_event_ms, median)) }
            } }
        } }
        p.note { "Medians unless stated otherwise, with 95% intervals. Limits: " (found.limits) "." }
    }
}

fn trace_section(run: &TraceRun) -> Markup {
    html! {
        h2 { "A replay and its simulation" }
        ul { @for sentence in &run.verdict { li { (sentence) } } }
        (figures::replay(run))
        div.wide { table {
            tr { th { "figure" } th.n { "replayed" } th.n { "simulated" } th.n { "difference" } }
            @for figure in &run.apart { tr {
                td { (figure.figure) } td.n { (number(figure.replayed)) } td.n { (number(figure.simulated)) }
                td.n { (figure.difference().map_or_else(|| "–".to_owned(), percent)) }
            } }
        } }
    }
}

fn logs_section(logs: &Logs) -> Markup {
    html! {
        h2 { "Logs of the real function" }
        @for sentence in logs.words().lines() { p { (sentence) } }
    }
}

/// Machine, version, seed and command.
fn provenance(results: &Results) -> Markup {
    let machine = &results.machine;
    html! {
        h2 { "Where the figures come from" }
        div.wide { table {
            @for (name, value) in [
                ("machine", machine.summary()),
                ("harness", machine.harness.clone()),
                ("system", machine.os.clone()),
                ("seed", results.seed.to_string()),
                ("command", results.command.join(" ")),
            ] {
                tr { td { (name) } td { code { (value) } } }
            }
            @for other in &results.merged {
                tr { td { "also" } td { code { (other) } } }
            }
        } }
        @if machine.load_average > machine.cores as f64 && results.decision.is_none() {
            p.warn { "The machine was loaded when the run began: measured times include its neighbours." }
        }
        p.note { "The numbers are in this file as JSON, in the element " code { "results" } "." }
    }
}
