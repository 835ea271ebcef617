//! The result in sentences, and what it rests on.

use super::{Decision, Lever, Question, Ranked};
use crate::format::{brief, dollars, number, percent};

/// What the result rests on.
pub(super) fn assumptions(question: &Question) -> Vec<String> {
    let (model, workload) = (&question.model, &question.workload);
    let mut words = vec![
        format!(
            "A request takes {} ms on one vCPU; a cold start takes {} ms of init, billed, after {} ms of placement and image fetch, not billed. Init is the same at every memory size: AWS was seen to give two vCPUs during init (2019 to 2022, old).",
            number(model.service.mean_ms()),
            number(model.init.mean_ms()),
            number(model.sandbox.mean_ms()),
        ),
        format!(
            "A restore takes {} ms and {} ms of the function's hooks: {}. Nothing else is added for SnapStart and MicroVMs, which favours them.",
            number(question.restore.mean_ms()),
            number(workload.restore_ms),
            question.restore_source,
        ),
        format!(
            "Autoscaled hosts follow the load after {} s and stay for {} s after it has fallen; the number of fixed hosts is the least that keeps p99.",
            number(workload.autoscaling.reaction_s),
            number(workload.autoscaling.hold_s),
        ),
    ];
    if workload.tenants > 1 {
        words.push(format!(
            "The {} tenants have isolated function environments and equal shares of the traffic; hosts and MicroVMs are shared.",
            workload.tenants
        ));
    }
    if workload.speed.is_empty() {
        words.push(
            "All processors are assumed to be as fast as the measured one; --speed changes that."
                .to_owned(),
        );
    }
    words
}

impl Decision {
    /// The result in sentences.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let traffic = format!(
            "{} posts/s ({}, busiest minute {} times the mean), p99 within {} ms",
            number(self.posts_per_second),
            self.arrivals,
            brief(self.peak_to_mean),
            number(self.p99_target_ms),
        );
        let within: Vec<&Ranked> = self
            .options
            .iter()
            .filter(|option| option.in_time)
            .collect();
        let Some(best) = within.first() else {
            let nearest = &self.options[0];
            words.push(format!(
                "{traffic}: no option meets the target. {} is closest, with a p99 of {} ms.",
                nearest.name,
                nearest.p99_ms.map_or_else(|| "?".to_owned(), brief)
            ));
            return words;
        };
        let next = within.get(1).map_or_else(String::new, |next| {
            format!("; next is {} at {}", next.name, dollars(next.usd_per_month))
        });
        words.push(format!(
            "{traffic}: {} is cheapest, {} a month{next}.",
            best.name,
            dollars(best.usd_per_month),
        ));
        words.extend(self.rival.as_ref().map(|pair| pair.words.clone()));
        words.extend(self.snapshot());
        words.extend(self.what_decides());
        words.extend(undated(&self.undated_prices));
        words
    }

    /// Whether a snapshot pays, against the same function on demand.
    fn snapshot(&self) -> Option<String> {
        let cheapest = |snapshot: bool| {
            self.options
                .iter()
                .filter(|option| {
                    option.target.starts_with("lambda:")
                        && !option.target.contains(":pc=")
                        && option.target.contains(":snapstart") == snapshot
                })
                .min_by(|a, b| a.usd_per_month.total_cmp(&b.usd_per_month))
        };
        let (with, without) = (cheapest(true)?, cheapest(false)?);
        let slower = with.p999_ms? - without.p999_ms?;
        Some(format!(
            "Snapshot or not? {}: SnapStart costs {} a month {} than on demand, and p99.9 is {}. A request that starts an environment waits {} ms for a restore, {} ms for a cold start.",
            if with.usd_per_month < without.usd_per_month && slower < 0.0 {
                "Yes"
            } else if slower < 0.0 {
                "Only for latency"
            } else {
                "No"
            },
            dollars((with.usd_per_month - without.usd_per_month).abs()),
            if with.usd_per_month < without.usd_per_month {
                "less"
            } else {
                "more"
            },
            match slower {
                slower if slower.abs() < 0.5 => "the same".to_owned(),
                slower if slower < 0.0 => format!("{} ms shorter", brief(-slower)),
                slower => format!("{} ms longer", brief(slower)),
            },
            brief(self.restored_start_ms),
            brief(self.cold_start_ms),
        ))
    }

    /// Of each kind of lever the one that moves the bill most; of memory, the cheapest of
    /// the quickest.
    fn what_decides(&self) -> Option<String> {
        let present = self.levers.iter().find(|lever| lever.present)?;
        let saving = |lever: &Lever| 1.0 - lever.usd_per_month / present.usd_per_month;
        let mut found: Vec<String> = Vec::new();
        for what in ["batch size", "memory", "concurrency"] {
            let levers = self.levers.iter().filter(|lever| lever.what == what);
            let strength = |lever: &Lever| match what {
                "memory" => (-lever.request_ms, saving(lever)),
                _ => (saving(lever).abs(), 0.0),
            };
            let Some(strongest) = levers
                .filter(|lever| !lever.present && lever.in_time)
                .max_by(|a, b| {
                    let (a, b) = (strength(a), strength(b));
                    a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
                })
            else {
                continue;
            };
            let saved = saving(strongest);
            if what != "memory" && saved.abs() < 0.001 {
                continue;
            }
            let waits = if what == "memory" {
                format!(
                    ", {} ms a request instead of {}",
                    brief(strongest.request_ms),
                    brief(present.request_ms)
                )
            } else if strongest.fill_ms > 0.0 {
                format!(
                    ", while its first post waits {} ms for the last at the mean rate",
                    brief(strongest.fill_ms)
                )
            } else {
                String::new()
            };
            found.push(format!(
                "{what} ({}: {} {}{waits})",
                strongest.setting,
                percent((saved.abs() * 1_000.0).round() / 1_000.0),
                if saved >= 0.0 { "less" } else { "more" },
            ));
        }
        (!found.is_empty()).then(|| format!("What decides: {}.", found.join("; ")))
    }
}

/// The sentence about prices that are to be checked.
fn undated(rows: &[String]) -> Option<String> {
    (!rows.is_empty()).then(|| {
        format!(
            "Prices without a full date, or not seen at the provider, to be checked before a decision: {}.",
            rows.join(", ")
        )
    })
}
