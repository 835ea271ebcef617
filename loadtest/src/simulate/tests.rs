//! The simulation against closed forms and cases small enough to do by hand.

use std::time::Duration;

use super::sampler::Sampler;
use super::*;
use crate::arrivals::Schedule;
use crate::arrivals::process::Process;
use crate::cost::lambda::erlang_b;

const MS: Nanos = 1_000_000;
const S: Nanos = 1_000_000_000;

/// 10 ms of service, 100 ms of init, 5 ms of sandbox; idle for 10 s, then gone.
fn model() -> Model {
    Model {
        service: Sampler::Constant(10 * MS),
        init: Sampler::Constant(100 * MS),
        sandbox: Sampler::Constant(5 * MS),
        idle: Sampler::Constant(10 * S),
        life: Sampler::Constant(u64::MAX),
        memory_mb: 1_024,
        ..Model::default()
    }
}

fn by_hand(model: &Model, arrivals_ms: &[u64]) -> Outcome {
    let arrivals: Vec<Nanos> = arrivals_ms.iter().map(|ms| ms * MS).collect();
    run(
        model,
        arrivals.into_iter(),
        "by hand",
        Window::whole(60 * S),
        1,
    )
}

fn poisson(model: &Model, rate: f64, seconds: u64) -> Outcome {
    let schedule = Schedule::from_process(Process::Poisson(rate), Duration::from_secs(seconds));
    run(
        model,
        schedule.times(3),
        &schedule.name,
        Window::whole(schedule.horizon),
        3,
    )
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} is not {expected} within {tolerance}"
    );
}

/// 0: cold, until 115. 50: busy, a second cold, until 165. 200: warm. 205: the
/// other one, warm. 10,500: both idle since 210 and 215, more than 10 s: cold.
#[test]
fn a_small_case_by_hand() {
    let outcome = by_hand(&model(), &[0, 50, 200, 205, 10_500]);
    assert_eq!(
        (outcome.requests, outcome.cold, outcome.throttled),
        (5, 3, 0)
    );
    assert_eq!(outcome.instances_started, 3);
    assert_near(outcome.cold_latency_ms.max, 115.0, 0.1);
    assert_near(outcome.warm_latency_ms.max, 10.0, 0.01);
    // Billed: three times 110 ms, twice 10 ms, at 1 GB.
    assert_near(outcome.billed_gb_seconds, 0.35, 1e-12);
    // 60 s in 240 bins: both die at 10.2 s, the third lives 10.5 to 20.6 s.
    let alive_at = |second: usize| outcome.timeline[second * 4].instances;
    assert_eq!([0, 5, 11, 20, 21, 59].map(alive_at), [2, 2, 1, 1, 0, 0]);
}

/// 0: cold, 5 + 100 + 30 ms and 2 of overhead, held until 142. 140: the one there is
/// is held, so a second cold. 143: warm, 10 and 2.
#[test]
fn first_requests_take_longer_and_an_answer_is_not_the_end() {
    let slow = Model {
        first: Some(Sampler::Constant(30 * MS)),
        overhead: Sampler::Constant(2 * MS),
        settle: Sampler::Constant(7 * MS),
        ..model()
    };
    let outcome = by_hand(&slow, &[0, 140, 143]);
    assert_eq!((outcome.cold, outcome.instances_started), (2, 2));
    assert_near(outcome.cold_latency_ms.max, 137.0, 0.1);
    assert_near(outcome.warm_latency_ms.max, 12.0, 0.01);
    // Billed: twice 130 ms, once 10.
    assert_near(outcome.billed_gb_seconds, 0.27, 1e-12);
}

#[test]
fn too_old_an_instance_is_not_used_again() {
    let short_lived = Model {
        life: Sampler::Constant(S),
        ..model()
    };
    let outcome = by_hand(&short_lived, &[0, 500, 999, 1_001]);
    assert_eq!(outcome.cold, 2);
}

#[test]
fn at_the_limit_requests_are_refused() {
    let limited = Model {
        limit: 2,
        ..model()
    };
    let outcome = by_hand(&limited, &[0, 1, 2, 3, 200]);
    assert_eq!((outcome.throttled, outcome.cold), (2, 2));
    let slow = Model {
        burst: 2.0,
        ..model()
    };
    // Two at once, then one every five seconds; those started serve meanwhile.
    let outcome = by_hand(&slow, &[0, 1, 2, 5_003, 5_004, 5_005]);
    assert_eq!((outcome.cold, outcome.throttled), (3, 1));
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let random = Model {
        service: Sampler::Exponential(1e7),
        ..model()
    };
    assert_eq!(poisson(&random, 50.0, 100), poisson(&random, 50.0, 100));
}

/// One request at a time is the case n = 1 of several: both engines agree.
#[test]
fn one_at_a_time_is_several_of_one() {
    let one = Model {
        service: Sampler::Constant(20 * MS),
        ..model()
    };
    let schedule = Schedule::from_process(Process::Poisson(30.0), Duration::from_secs(200));
    let tally = || Tally::new(&one, Window::whole(schedule.horizon));
    let times = || schedule.times(5);
    let single = fleet::run(&one, SingleRequestFleet::default(), times(), tally(), 5).outcome("");
    let several = fleet::run(&one, ConcurrentFleet::new(1, 1.0), times(), tally(), 5).outcome("");
    assert_eq!(single.cold, several.cold);
    assert_eq!(single.latency_ms, several.latency_ms);
    assert_near(single.billed_gb_seconds, several.billed_gb_seconds, 1e-9);
}

/// Rare Poisson requests of no length and a fixed idle time T: a request is cold
/// if nothing came within T, with probability e^(-λT).
#[test]
fn rare_requests_are_cold_as_often_as_a_gap_exceeds_the_idle_time() {
    let short = Model {
        service: Sampler::Constant(1),
        sandbox: Sampler::Constant(0),
        init: Sampler::Constant(0),
        ..model()
    };
    for rate in [0.05, 0.1, 0.3] {
        let outcome = poisson(&short, rate, (40_000.0 / rate) as u64);
        assert_near(outcome.cold_fraction, (-rate * 10.0).exp(), 0.01);
    }
}

/// The same with exponential idle times of mean T, where the single instance
/// survives a gap with probability λ/(λ + 1/T): cold is 1/(1 + λT).
#[test]
fn exponential_idle_times_have_their_closed_form_too() {
    let short = Model {
        service: Sampler::Constant(1),
        sandbox: Sampler::Constant(0),
        init: Sampler::Constant(0),
        idle: Sampler::Exponential(1e10),
        ..model()
    };
    let outcome = poisson(&short, 0.2, 200_000);
    assert_near(outcome.cold_fraction, 1.0 / 3.0, 0.01);
}

/// With a limit of c and no queue the platform is Erlang's loss system, whatever
/// the distribution of the service time.
#[test]
fn refusals_are_erlangs_loss_formula() {
    for service in [Sampler::Exponential(1e8), Sampler::Constant(100 * MS)] {
        let lossy = Model {
            service,
            sandbox: Sampler::Constant(0),
            init: Sampler::Constant(0),
            limit: 5,
            ..model()
        };
        // 40/s × 0.1 s = 4 erlangs on 5 servers.
        let outcome = poisson(&lossy, 40.0, 5_000);
        let refused = outcome.throttled as f64 / outcome.requests as f64;
        assert_near(refused, erlang_b(4.0, 5), 0.006);
        assert_near(outcome.mean_busy, 4.0 * (1.0 - erlang_b(4.0, 5)), 0.04);
    }
}

/// Erlang C: with c servers at load a, a request waits with probability
/// B / (1 - (a/c)(1 - B)) and on average that times s / (c - a).
#[test]
fn the_baseline_is_erlangs_delay_formula() {
    let (load, servers) = (1.5, 2u32);
    let blocked = erlang_b(load, servers);
    let waits = blocked / (1.0 - load / f64::from(servers) * (1.0 - blocked));
    let schedule = Schedule::from_process(Process::Poisson(150.0), Duration::from_secs(4_000));
    let baseline = baseline::run(
        &baseline::BaselineOptions {
            servers,
            service: Sampler::Exponential(1e7),
        },
        schedule.times(3),
        schedule.horizon,
        3,
    );
    assert_near(baseline.waited, waits, 0.01);
    assert_near(
        baseline.mean_wait_ms,
        waits * 10.0 / (f64::from(servers) - load),
        0.5,
    );
    assert_near(baseline.utilisation, 0.75, 0.01);
}

/// M/D/1: the mean wait is half of M/M/1's, ρ s / (2 (1 - ρ)).
#[test]
fn the_baseline_with_fixed_times_is_pollaczek_khinchine() {
    let schedule = Schedule::from_process(Process::Poisson(60.0), Duration::from_secs(4_000));
    let baseline = baseline::run(
        &baseline::BaselineOptions {
            servers: 1,
            service: Sampler::Constant(10 * MS),
        },
        schedule.times(3),
        schedule.horizon,
        3,
    );
    assert_near(baseline.mean_wait_ms, 0.6 * 10.0 / 0.8, 0.2);
}

/// Two slots: the second request joins the starting instance and waits with it,
/// slowed down by sharing one vCPU; the third needs another instance.
#[test]
fn requests_share_an_instance_that_takes_several() {
    let shared = Model {
        concurrency: 2,
        ..model()
    };
    let outcome = by_hand(&shared, &[0, 5, 6, 1_000]);
    assert_eq!((outcome.instances_started, outcome.cold), (2, 3));
    // The second waits 100 of the 105 ms and takes 20; the fourth is alone.
    assert_near(outcome.warm_latency_ms.max, 10.0, 0.01);
    assert_near(outcome.cold_latency_ms.max, 120.0, 0.1);
}

#[test]
fn more_traffic_has_fewer_cold_requests() {
    let curve = curve::cold_by_rate(&model(), 0.01..=100.0, 1, 1);
    assert_eq!(curve.len(), 5);
    assert!(curve[0].1 > 0.85, "{curve:?}");
    assert!(curve.is_sorted_by(|low, high| low.1 >= high.1), "{curve:?}");
    assert!(curve[4].1 < 0.001, "{curve:?}");
}

#[test]
fn requests_before_the_warm_up_are_not_counted() {
    let arrivals = [0, 50, 200].map(|ms| ms * MS);
    let outcome = run(
        &model(),
        arrivals.into_iter(),
        "",
        Window {
            horizon: 60 * S,
            warm_up: 100 * MS,
        },
        1,
    );
    assert_eq!((outcome.requests, outcome.cold), (1, 0));
}

/// Two places are kept: the third request at once is the first cold one, and the fourth,
/// when the kept ones are free again, is not.
#[test]
fn kept_places_are_taken_first_and_never_go_away() {
    let model = Model { kept: 2, ..model() };
    let outcome = by_hand(&model, &[0, 1, 2, 50_000]);
    assert_eq!((outcome.requests, outcome.cold), (4, 1));
    assert_eq!(outcome.instances_started, 1);
}

/// A hundred tenants at 10 requests/s are as cold as one at 0.1, whose share of gaps above
/// 10 s is exp(-1).
#[test]
fn tenants_share_no_instance() {
    let apart = Model {
        tenants: 100,
        ..model()
    };
    let outcome = poisson(&apart, 10.0, 4_000);
    assert_near(outcome.cold_fraction, (-1.0f64).exp(), 0.02);
    assert!(poisson(&model(), 10.0, 4_000).cold_fraction < 0.02);
}

/// One server of 10 ms, then two, then one: of three requests at once the last waits for
/// 20 ms, for 10 ms, for 20 ms.
#[test]
fn servers_come_and_go_as_planned() {
    let plan = baseline::ServerPlan {
        interval: S,
        servers: vec![1, 2, 1],
    };
    let arrivals = [0, 1, 2].into_iter().flat_map(|second| [second * S; 3]);
    let found = baseline::run_plan(&Sampler::Constant(10 * MS), &plan, arrivals, 3 * S, 1);
    assert_eq!((found.servers, found.latency_ms.n), (2, 9));
    // Waits of 0, 10, 20; 0, 0, 10; 0, 10, 20.
    assert_near(found.mean_wait_ms, 70.0 / 9.0, 1e-9);
    assert_near(found.utilisation, 0.09 / 4.0, 1e-9);
}
