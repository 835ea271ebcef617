//! What was measured, as tables for a terminal.

use crate::cold_start::{Cache, ColdStart, Row};
use crate::stats::{Summary, median};
use comfy_table::{CellAlignment, Table, presets};
use std::collections::BTreeSet;
use std::fmt::Write;

/// All tables, with what they mean below each.
pub(super) fn render(found: &ColdStart) -> String {
    let mut text = String::new();
    let mut section = |title: &str, table: &Table, note: &str| {
        let _ = writeln!(text, "\n{title}\n{table}");
        if !note.is_empty() {
            let _ = writeln!(text, "{note}");
        }
    };
    section(
        "Time from exec (ms)",
        &times(found),
        "median [95% bootstrap interval]; x hello: median first response divided by that of the hello-world function",
    );
    section(
        "Memory, page faults, CPU (medians)",
        &usage(found),
        "resident before: share of the function's files in memory before the run; after: MiB of them",
    );
    if let Some(table) = phases(found) {
        section(
            "Phases, as reported by the function (median ms)",
            &table,
            "",
        );
    }
    if let Some(table) = deployments(found) {
        section(
            "First run of a fresh copy, nothing cached (one run each)",
            &table,
            "",
        );
    }
    text
}

fn times(found: &ColdStart) -> Table {
    let mut table = new_table(&[
        "MB",
        "cache",
        "function",
        "n",
        "first next",
        "p90",
        "p99",
        "first response",
        "p90",
        "p99",
        "x hello",
        "1st event",
        "2nd",
        "faults",
    ]);
    for row in &found.rows {
        let n = row.samples.len().to_string();
        let mut cells = head(row);
        cells.push(n);
        for summary in [&row.first_next_ms, &row.first_answer_ms] {
            cells.push(summary.as_ref().map_or_else(none, with_interval));
            cells.push(one(summary.as_ref(), |summary| summary.p90));
            cells.push(one(summary.as_ref(), |summary| summary.p99));
        }
        cells.push(
            row.to_floor
                .map_or_else(none, |(ratio, _)| format!("{ratio:.1}")),
        );
        cells.push(one(row.first_event_ms.as_ref(), |summary| summary.median));
        cells.push(one(row.second_event_ms.as_ref(), |summary| summary.median));
        cells.push(row.faults.to_string());
        table.add_row(cells);
    }
    align(&mut table);
    table
}

fn usage(found: &ColdStart) -> Table {
    let mut table = new_table(&[
        "MB",
        "cache",
        "function",
        "peak RSS MiB",
        "cgroup MiB",
        "minor",
        "major",
        "throttled ms",
        "resident before",
        "after MiB",
    ]);
    for row in &found.rows {
        let mut cells = head(row);
        for summary in [&row.peak_rss_mib, &row.peak_cgroup_mib] {
            cells.push(one(summary.as_ref(), |summary| summary.median));
        }
        for summary in [&row.minor_faults, &row.major_faults] {
            let count = summary
                .as_ref()
                .map(|summary| format!("{:.0}", summary.median));
            cells.push(count.unwrap_or_else(none));
        }
        cells.push(one(row.throttled_ms.as_ref(), |summary| summary.median));
        let samples = || row.samples.iter();
        let before = samples().filter_map(|sample| sample.resident_before_percent);
        // The worst of them: one run that was not cold would be hidden by a median.
        let before = match row.cache {
            Cache::Dropped => before.reduce(f64::max),
            Cache::Warm => before.reduce(f64::min),
        };
        cells.push(before.map_or_else(none, |percent| format!("{percent:.0}%")));
        let after: Vec<f64> = samples()
            .filter_map(|sample| sample.resident_after_mib)
            .collect();
        cells.push(median(&after).map_or_else(none, number));
        table.add_row(cells);
    }
    align(&mut table);
    table
}

fn phases(found: &ColdStart) -> Option<Table> {
    let names: BTreeSet<&String> = found
        .rows
        .iter()
        .flat_map(|row| row.phases.keys())
        .collect();
    if names.is_empty() {
        return None;
    }
    let mut header = vec!["MB", "cache", "function"];
    header.extend(names.iter().map(|name| name.trim_end_matches("_ms")));
    let mut table = new_table(&header);
    for row in found.rows.iter().filter(|row| !row.phases.is_empty()) {
        let mut cells = head(row);
        for &name in &names {
            cells.push(one(row.phases.get(name), |summary| summary.median));
        }
        table.add_row(cells);
    }
    align(&mut table);
    Some(table)
}

fn deployments(found: &ColdStart) -> Option<Table> {
    let mut table = new_table(&[
        "MB",
        "function",
        "first next",
        "first response",
        "2nd event",
    ]);
    for row in found.rows.iter().filter(|row| row.cache == Cache::Dropped) {
        let Some(sample) = &row.first_after_deploy else {
            continue;
        };
        let [memory, _, function] = head(row).try_into().expect("three cells");
        let mut cells = vec![memory, function];
        cells.extend(
            [
                sample.first_next_ms,
                sample.first_answer_ms,
                sample.second_event_ms,
            ]
            .map(number),
        );
        table.add_row(cells);
    }
    align(&mut table);
    (!table.is_empty()).then_some(table)
}

fn head(row: &Row) -> Vec<String> {
    let memory = row
        .memory_mb
        .map_or_else(|| "unlimited".to_owned(), |memory_mb| memory_mb.to_string());
    let cache = match row.cache {
        Cache::Warm => "warm",
        Cache::Dropped => "dropped",
    };
    vec![memory, cache.to_owned(), row.function.clone()]
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(header.to_vec());
    table
}

/// Numbers to the right; cache and function are words.
fn align(table: &mut Table) {
    for column in table.column_iter_mut() {
        column.set_padding((1, 1));
        if !matches!(column.index, 1 | 2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn with_interval(summary: &Summary) -> String {
    let Summary { median_ci, .. } = summary;
    let [median, low, high] = [summary.median, median_ci.low, median_ci.high].map(number);
    format!("{median} [{low}, {high}]")
}

fn one(summary: Option<&Summary>, value: fn(&Summary) -> f64) -> String {
    summary.map_or_else(none, |summary| number(value(summary)))
}

/// Three digits, or as many as stand before the point.
fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn none() -> String {
    "-".to_owned()
}
