//! The plots of a report, each with its legend and what it says.

use maud::{Markup, PreEscaped, html};

use super::plots::{Axis, Bar, Plot, Series, bars, css};
use super::table::condition;
use crate::cold_start::{COLDREAD, ColdStart, Row};
use crate::cost::CostReport;
use crate::format::{dollars, number};
use crate::latency::Latency;
use crate::simulate::Outcome;
use crate::trace::TraceRun;
use crate::warm::Warm;

const LINEAR: bool = false;
const LOG: bool = true;

fn axis(label: &str, log: bool) -> Axis<'_> {
    Axis { label, log }
}

fn line(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.into(),
        points,
        steps: false,
        colour,
    }
}

/// Names of colours.
pub(super) fn key(names: &[(&str, usize)]) -> Markup {
    html! {
        ul.key {
            @for (name, colour) in names {
                li {
                    svg viewBox="0 0 10 10" aria-hidden="true" {
                        rect width="10" height="10" rx="2" fill=(css(*colour)) {}
                    }
                    (name)
                }
            }
        }
    }
}

/// A drawing with its legend and caption.
fn figure(svg: Option<String>, key: &[(&str, usize)], caption: &str) -> Markup {
    html! {
        @if let Some(svg) = svg {
            figure {
                (PreEscaped(svg))
                @if key.len() > 1 { (self::key(key)) }
                figcaption { (caption) }
            }
        }
    }
}

fn draw(plot: &Plot<'_>, caption: &str) -> Markup {
    let key: Vec<(&str, usize)> = plot
        .series
        .iter()
        .map(|series| (series.name.as_str(), series.colour))
        .collect();
    figure(plot.svg(), &key, caption)
}

/// Shares of requests by latency.
pub(super) fn latencies(title: &str, lines: &[(&str, &Latency)], caption: &str) -> Markup {
    let series = lines
        .iter()
        .enumerate()
        .filter(|(_, (_, latency))| latency.n > 0)
        .map(|(colour, (name, latency))| Series {
            name: (*name).to_owned(),
            points: latency
                .cdf
                .iter()
                .map(|(ms, share)| (*ms, share * 100.0))
                .collect(),
            steps: true,
            colour,
        })
        .collect();
    let plot = Plot {
        title,
        x: axis("latency, ms", LOG),
        y: axis("requests at most that slow, %", LINEAR),
        series,
        marks: Vec::new(),
        levels: vec![99.0],
        height: 320,
    };
    draw(&plot, caption)
}

/// Cost over rate with the break-evens marked.
pub(super) fn cost_over_rate(cost: &CostReport) -> Markup {
    let series = cost
        .curves
        .iter()
        .enumerate()
        .map(|(colour, curve)| line(&curve.target, colour, curve.points.clone()))
        .collect();
    let shown = cost.curves.first().map(|curve| {
        let rates = curve.points.iter().map(|point| point.0);
        rates.fold((f64::INFINITY, 0.0f64), |ends, rate| {
            (ends.0.min(rate), ends.1.max(rate))
        })
    });
    let mut marks = Vec::new();
    for found in &cost.break_evens {
        let (Some(rate), Some((low, high))) = (found.requests_per_second, shown) else {
            continue;
        };
        let curve = cost
            .curves
            .iter()
            .find(|curve| curve.target == found.on_demand);
        let at = curve.and_then(|curve| at(&curve.points, rate));
        if let (Some(usd), true) = (at, (low..=high).contains(&rate)) {
            // Labels of neighbours would cover each other.
            let near =
                |mark: &(f64, f64, String)| !mark.2.is_empty() && (mark.0 / rate).ln().abs() < 0.7;
            let label = if marks.iter().any(near) {
                String::new()
            } else {
                format!("{}/s", number(rate))
            };
            marks.push((rate, usd, label));
        }
    }
    let plot = Plot {
        title: "Cost a month over the rate of requests",
        x: axis("requests a second", LOG),
        y: axis("$ a month", LOG),
        series,
        marks,
        levels: Vec::new(),
        height: 400,
    };
    draw(
        &plot,
        "Dots: rates at which a function costs as much as an always-on target. Steps: a further host.",
    )
}

/// The value of a curve at `x`, between its points on a straight line.
fn at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let above = points.partition_point(|point| point.0 < x);
    let (low, high) = (points.get(above.checked_sub(1)?)?, points.get(above)?);
    Some(low.1 + (high.1 - low.1) * (x - low.0) / (high.0 - low.0))
}

/// Memory size against cost and against speed.
pub(super) fn memory(cost: &CostReport) -> Markup {
    let sizes: Vec<_> = cost
        .sensitivity
        .iter()
        .filter(|case| case.input == "memory")
        .filter_map(|case| {
            let memory: f64 = case.value.split(' ').next()?.parse().ok()?;
            Some((memory, case))
        })
        .collect();
    let plot = |title, label, colour, value: &dyn Fn(&crate::cost::sensitivity::Case) -> f64| {
        let points = sizes.iter().map(|(memory, case)| (*memory, value(case)));
        Plot {
            title,
            x: axis("memory, MB", LINEAR),
            y: axis(label, LINEAR),
            series: vec![line(title, colour, points.collect())],
            marks: Vec::new(),
            levels: Vec::new(),
            height: 230,
        }
        .svg()
    };
    html! {
        (figure(
            plot("Cost by memory size", "$ a million posts", 0, &|case| case.usd_per_million_posts),
            &[],
            "Below one vCPU (1,769 MB) more memory costs the same and responds sooner; above it, one thread gains nothing.",
        ))
        (figure(
            plot("Time of a warm request by memory size", "ms a request", 1, &|case| case.service_ms),
            &[],
            "Time of a warm request at the share of a vCPU that comes with the memory.",
        ))
    }
}

/// Instances and cold starts over the run.
pub(super) fn timeline(outcome: &Outcome) -> Markup {
    let (unit, label) = match outcome.seconds {
        seconds if seconds >= 345_600.0 => (86_400.0, "days"),
        seconds if seconds >= 7_200.0 => (3_600.0, "hours"),
        _ => (1.0, "seconds"),
    };
    let each = outcome.seconds / outcome.timeline.len().max(1) as f64;
    let plot = |title, y, colour, value: &dyn Fn(&crate::simulate::Bin) -> f64| {
        let points = outcome
            .timeline
            .iter()
            .map(|bin| (bin.start_s / unit, value(bin)))
            .collect();
        Plot {
            title,
            x: axis(label, LINEAR),
            y: axis(y, LINEAR),
            series: vec![Series {
                steps: true,
                ..line(title, colour, points)
            }],
            marks: Vec::new(),
            levels: Vec::new(),
            height: 190,
        }
        .svg()
    };
    html! {
        (figure(plot("Requests", "requests/s", 5, &|bin| bin.requests as f64 / each), &[], "Requests a second."))
        (figure(plot("Instances", "instances", 0, &|bin| bin.instances as f64), &[], "Instances alive."))
        (figure(plot("Cold starts", "cold starts", 1, &|bin| bin.cold as f64), &[], "Requests that waited for an instance to start, in each 240th of the run."))
    }
}

/// Latency over the rate offered.
pub(super) fn warm(warm: &Warm) -> Markup {
    let mut steps: Vec<_> = warm.steps.iter().collect();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let points = |value: &dyn Fn(&Latency) -> f64| {
        steps
            .iter()
            .map(|step| (step.rate, value(&step.measured.latency_ms)))
            .collect::<Vec<_>>()
    };
    let marks = warm
        .capacity_rps
        .zip(warm.at_capacity.as_ref())
        .map(|(rate, run)| (rate, run.latency_ms.p99, format!("{}/s", number(rate))));
    let plot = Plot {
        title: "Latency over the rate offered",
        x: axis("requests a second", LINEAR),
        y: axis("ms", LOG),
        series: vec![
            line("p99", 0, points(&|latency| latency.p99)),
            line("p50", 2, points(&|latency| latency.p50)),
        ],
        marks: marks.into_iter().collect(),
        levels: vec![warm.target_p99_ms],
        height: 320,
    };
    draw(
        &plot,
        "Every rate the search tried; dashed: the target of p99; dot: the confirmed capacity.",
    )
}

/// Phases that a function may tell of, in order, as they come before its first `next`.
const PHASES: [(&str, &str, usize); 3] = [
    ("process_start_ms", "exec to main", 5),
    ("model_ms", "model", 3),
    ("tokenizer_ms", "tokenizer", 4),
];

/// Phases of cold starts, medians, and a warm request beside them.
pub(super) fn anatomy(found: &ColdStart) -> Markup {
    let bar = |row: &Row| {
        let next = row.first_next_ms.as_ref()?.median;
        let event = row.first_event_ms.as_ref()?.median;
        let answer = row.first_answer_ms.as_ref()?.median;
        let mut parts = Vec::new();
        for (phase, _, colour) in PHASES {
            if let Some(told) = row.phases.get(phase) {
                parts.push((told.median, colour));
            }
        }
        let told: f64 = parts.iter().map(|(length, _)| length).sum();
        parts.push(((next - told).max(0.0), 0));
        parts.push(((answer - next.max(told) - event).max(0.0), 2));
        parts.push((event, 1));
        Some(Bar {
            label: condition(row),
            parts,
        })
    };
    let rows: Vec<Bar> = found.rows.iter().filter_map(bar).collect();
    let told = |phase: &str| found.rows.iter().any(|row| row.phases.contains_key(phase));
    let mut key: Vec<(&str, usize)> = PHASES
        .iter()
        .filter(|(phase, ..)| told(phase))
        .map(|(_, name, colour)| (*name, *colour))
        .collect();
    key.extend([
        ("init until the first next, or what is left of it", 0),
        ("on the way to the function", 2),
        ("first event", 1),
    ]);
    figure(
        bars("Phases of a cold start", "ms, medians", &rows),
        &key,
        "From exec to the first response on the local Lambda; AWS adds placing the sandbox and fetching the code. The phases before the first next are reported by the function.",
    )
}

/// Latency of cold starts and of warm requests, each sample a step.
pub(super) fn cold_and_warm(found: &ColdStart) -> Markup {
    let steps = |mut values: Vec<f64>| -> Vec<(f64, f64)> {
        values.sort_by(f64::total_cmp);
        let count = values.len() as f64;
        let shares = (1..=values.len()).map(|place| place as f64 / count * 100.0);
        values.into_iter().zip(shares).collect()
    };
    let mut series = Vec::new();
    let rows = found.rows.iter().filter(|row| row.function == COLDREAD);
    for (place, row) in rows.enumerate().take(3) {
        let cold = row.samples.iter().map(|run| run.first_answer_ms).collect();
        let warm = row.samples.iter().map(|run| run.second_event_ms).collect();
        // Cold ones are warm colours, as in the other plots.
        for (name, values, colour) in [
            ("cold", cold, [1, 4, 3][place]),
            ("warm", warm, [0, 2, 5][place]),
        ] {
            series.push(Series {
                name: format!("{name}: {}", condition(row)),
                points: steps(values),
                steps: true,
                colour,
            });
        }
    }
    let plot = Plot {
        title: "Latency of cold starts and of warm requests",
        x: axis("ms", LOG),
        y: axis("runs at most that slow, %", LINEAR),
        series,
        marks: Vec::new(),
        levels: Vec::new(),
        height: 320,
    };
    draw(
        &plot,
        "Cold: from exec to the first response. Warm: the second event of the same instance.",
    )
}

/// A replay beside its simulation.
pub(super) fn replay(run: &TraceRun) -> Markup {
    latencies(
        "Latency as replayed and as simulated",
        &[
            ("replayed", &run.replayed.latency_ms),
            ("simulated", &run.simulated.latency_ms),
        ],
        "The same arrivals. Dashed: 99 of a hundred requests.",
    )
}

/// What makes up each bill.
pub(super) fn bills(cost: &CostReport) -> Markup {
    // A bar that dwarfs all others says nothing that the table does not.
    let mut costs: Vec<f64> = cost
        .quotes
        .iter()
        .map(|quote| quote.usd_per_month)
        .collect();
    costs.sort_by(f64::total_cmp);
    let most = match costs.as_slice() {
        [.., next, last] if last / next > 15.0 => next * 15.0,
        _ => f64::INFINITY,
    };
    let rows: Vec<Bar> = cost
        .quotes
        .iter()
        .filter(|quote| quote.usd_per_month <= most)
        .map(|quote| Bar {
            label: format!(
                "{}: {} a million posts",
                quote.name,
                dollars(quote.usd_per_million_posts)
            ),
            // That of its curve.
            parts: vec![(
                quote.usd_per_month,
                cost.curves
                    .iter()
                    .position(|curve| curve.target == quote.target)
                    .unwrap_or(5),
            )],
        })
        .collect();
    figure(
        bars("Cost a month by target", "$ a month", &rows),
        &[],
        "At the given traffic, in the colours of the curves; without a target that costs more than fifteen times the others.",
    )
}
