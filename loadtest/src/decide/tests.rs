//! Small traffic whose answer is known.

use super::*;
use crate::arrivals::duration;
use crate::arrivals::profile::RateProfile;

/// A question about ten minutes or more of `arrivals`, 10 ms a request.
fn question(arrivals: &str, length: &str, targets: &[&str]) -> Question {
    let schedule = Schedule::from_process(arrivals.parse().unwrap(), duration(length).unwrap());
    let workload = Workload {
        posts_per_second: schedule.mean_rate(),
        peak_to_mean: schedule.peak_to_mean(1).unwrap(),
        request_ms: 5.0,
        post_ms: 5.0,
        profile: RateProfile::from_schedule(&schedule, 1).unwrap(),
        ..Workload::default()
    };
    Question {
        schedule,
        workload,
        model: Model {
            sandbox: Sampler::constant_ms(100.0),
            ..Model::default()
        },
        restore: "uniform:377ms:693ms".parse().unwrap(),
        restore_source: "published by others, not measured".to_owned(),
        p99_ms: 100.0,
        families: targets
            .iter()
            .map(|name| vec![Choice::Exactly(name.parse().unwrap())])
            .collect(),
        seed: 1,
        quiet: true,
    }
}

fn decide(question: &Question) -> Decision {
    Decision::new(question, &Prices::built_in()).unwrap()
}

fn order(decision: &Decision) -> Vec<&str> {
    let targets = decision.options.iter().map(|option| option.target.as_str());
    targets.collect()
}

#[test]
fn options_are_ranked_by_cost_and_late_ones_come_last() {
    // 128 MB make 138 ms of 10, above the bound of 100.
    let targets = [
        "lambda:arm:128",
        "lambda:arm:1769:snapstart",
        "ec2:c7g.medium",
        "lambda:arm:1769",
    ];
    let decision = decide(&question("constant:1", "1h", &targets));
    assert_eq!(
        order(&decision),
        [
            "lambda:arm:1769",
            "lambda:arm:1769:snapstart",
            "ec2:c7g.medium",
            "lambda:arm:128"
        ]
    );
    let late = &decision.options[3];
    assert!(!late.in_time && late.p99_ms.unwrap() > 138.0);
    assert_eq!(decision.neighbours.len(), 2);
    // 2,628,000 × (0.2/1e6 + 0.01 × 1.7275 × 0.0000133334) = 1.13, and hardly a cold start.
    let best = &decision.options[0];
    assert!(
        (best.usd_per_month - 1.13).abs() < 0.01,
        "{}",
        best.usd_per_month
    );
    let words = decision.verdict.join("\n");
    assert!(
        words.contains("Lambda at 1769 MB (arm) is cheapest"),
        "{words}"
    );
    assert!(words.contains("Snapshot or not? No"), "{words}");
    assert!(words.contains("lambda.snapstart.cache"), "{words}");
    assert!(words.contains("What decides: batch size"), "{words}");
    // Of another kind than the best, not its next neighbour.
    let rival = decision.rival.as_ref().unwrap();
    assert_eq!(rival.next, "ec2:c7g.medium");
    assert!(words.contains(&rival.words), "{words}");
}

/// The break-even of `cost` (27.22 requests/s, by hand there) is found here too: one host
/// is known to keep p99 at that rate as well.
#[test]
fn neighbours_cost_the_same_where_the_bills_say() {
    let mut question = question("constant:5", "1h", &["lambda:arm:1769", "ec2:c7g.medium"]);
    question.model.init = Sampler::constant_ms(0.0);
    question.workload.init_ms = 0.0;
    let decision = decide(&question);
    let even = decision.neighbours[0].requests_per_second.unwrap();
    assert!((even - 27.224).abs() < 0.005, "{even}");
    let words = &decision.neighbours[0].words;
    assert!(
        words.contains("up to 27.22 requests/s, 5.445 times"),
        "{words}"
    );
}

#[test]
fn of_a_family_the_cheapest_in_time_counts() {
    let mut question = question("poisson:20", "20m", &[]);
    question.families = vec![
        ["lambda:arm:128", "lambda:arm:512", "lambda:arm:1769"]
            .map(|name| Choice::Exactly(name.parse().unwrap()))
            .into(),
        vec![Choice::AsMany("ec2:c7g.medium".parse().unwrap())],
        vec![Choice::AsMany("lambda:arm:1769".parse().unwrap())],
    ];
    let decision = decide(&question);
    let hosts = decision
        .options
        .iter()
        .find(|option| option.target.starts_with("ec2"));
    // One vCPU that is 20% busy keeps p99 of 10 ms within 100.
    assert_eq!(hosts.unwrap().target, "ec2:c7g.medium");
    let kept = decision
        .options
        .iter()
        .find(|option| option.target.contains(":pc="))
        .unwrap();
    assert!(
        kept.in_time && kept.cold_fraction.unwrap() < 0.01,
        "{kept:?}"
    );
    assert!(kept.breakdown.idle > 0.0);
    assert!(!order(&decision).contains(&"lambda:arm:128"));
}

/// Bursts of 200/s for five seconds in 300: one host cannot, a fixed fleet for the burst
/// can, and hosts that need three minutes to come are late for all of it.
#[test]
fn autoscaling_saves_hosts_and_pays_in_latency() {
    let targets = ["ec2:c7g.medium:min=4", "ec2:c7g.medium:auto=50"];
    let decision = decide(&question("bursty:1:200:300s:5s", "4h", &targets));
    let option = |name: &str| {
        let mut options = decision.options.iter();
        options.find(|option| option.target == name).unwrap()
    };
    let (fixed, scaled) = (option(targets[0]), option(targets[1]));
    assert!(fixed.in_time && !scaled.in_time, "{:?}", decision.verdict);
    assert!(scaled.p99_ms > fixed.p99_ms);
}

#[test]
fn tenants_and_snapshots_meet_in_the_tail() {
    let mut question = question(
        "poisson:5",
        "2h",
        &["lambda:arm:1769", "lambda:arm:1769:snapstart"],
    );
    question.workload.tenants = 2_000;
    question.p99_ms = 400.0;
    let decision = decide(&question);
    // Each tenant asks once in 400 s: a good part of requests is cold, 160 ms on demand and
    // at least 377 with a restore.
    assert_eq!(decision.options[0].target, "lambda:arm:1769");
    assert!(decision.options[0].cold_fraction.unwrap() > 0.2);
    assert!(!decision.options[1].in_time);
    assert!(decision.options[1].breakdown.restores > decision.options[0].breakdown.cold_starts);
}

#[test]
fn every_platform_has_options_and_all_of_them_have_prices() {
    let prices = Prices::built_in();
    for (platform, least) in [
        (Platform::Aws, 11),
        (Platform::Google, 4),
        (Platform::Azure, 2),
    ] {
        let machines = ["c7g.medium".to_owned(), "c7i.large".to_owned()];
        let archs = [crate::cost::target::Arch::Arm];
        let families = families(platform, &archs, &machines, &prices);
        assert!(families.len() >= least, "{platform:?}");
        for choice in families.iter().flatten() {
            let (Choice::Exactly(target) | Choice::AsMany(target)) = choice;
            crate::cost::bill(&Workload::default(), &prices, target).unwrap();
        }
    }
    assert!("ibm".parse::<Platform>().is_err());
}

#[test]
fn an_unknown_price_is_named_before_anything_is_ranked() {
    let question = question("constant:1", "10m", &["ec2:z9.nano:auto=50"]);
    let error = Decision::new(&question, &Prices::built_in()).unwrap_err();
    assert!(error.to_string().contains("`ec2.z9.nano`"), "{error}");
}
