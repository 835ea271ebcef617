//! Hand-computed bills, to the cent. Where a provider's price page has an
//! example, its inputs are used; each comment holds the computation.

use super::bill::{Bill, Split};
use super::hosts::FargateTask;
use super::lambda::{BilledUsage, erlang_b, on_demand, provisioned, vcpu_hour};
use super::pipeline::{Pipeline, compare};
use super::prices::Prices;
use super::target::{Arch, Target};
use super::workload::{Cold, SECONDS, Workload};
use super::*;

#[track_caller]
fn check_cents(bill: &Bill, expected: f64) {
    let cents = (bill.usd() * 100.0).round() / 100.0;
    assert!(
        (cents - expected).abs() < 1e-6,
        "{cents} is not {expected}:\n{:#?}",
        bill.lines
    );
}

fn lambda_bill(arch: Arch, requests: f64, seconds: f64, gb: f64, free_tier: bool) -> Bill {
    let mut bill = Bill::default();
    let usage = BilledUsage {
        requests,
        gb_seconds: requests * seconds * gb,
    };
    on_demand(
        &mut bill,
        &Prices::built_in(),
        arch,
        usage,
        Split::WORK,
        free_tier,
    )
    .unwrap();
    bill
}

fn price(workload: &Workload, target: &str) -> Bill {
    bill(workload, &Prices::built_in(), &target.parse().unwrap()).unwrap()
}

/// `rate` requests of one post a second, 5 + 5 ms each, nothing cold.
fn steady(rate: f64) -> Workload {
    Workload {
        posts_per_second: rate,
        request_ms: 5.0,
        post_ms: 5.0,
        cold: Cold::Given(0.0),
        ..Workload::default()
    }
}

/// AWS Lambda's price page, "Mobile application backend": 3 M requests of
/// 120 ms at 1,536 MB, x86, free tier on.
/// 3e6 × 0.12 s × 1.5 GB = 540,000 GB-s; - 400,000 = 140,000 × 0.0000166667 = 2.33
/// (3e6 - 1e6) × 0.2/1e6 = 0.40; together 2.73.
#[test]
fn aws_example_mobile_backend() {
    check_cents(&lambda_bill(Arch::X86, 3e6, 0.12, 1.5, true), 2.73);
}

/// Price page, "Enriching streaming telemetry": 10,000 vehicles, one request an
/// hour, 31 days = 7,440,000 requests of 2 s at 1,024 MB, x86, free tier on.
/// 14,880,000 - 400,000 = 14,480,000 GB-s × 0.0000166667 = 241.33
/// 6,440,000 × 0.2/1e6 = 1.288; together 242.62.
#[test]
fn aws_example_streaming_telemetry() {
    check_cents(&lambda_bill(Arch::X86, 7.44e6, 2.0, 1.0, true), 242.62);
}

/// The page's older "example 1": 3 M requests of 1 s at 512 MB, free tier on.
/// 1,500,000 - 400,000 = 1,100,000 GB-s × 0.0000166667 = 18.3334; + 0.40 = 18.73.
/// (The page printed 18.74 when the price was rounded to 0.00001667.)
#[test]
fn aws_example_half_a_gigabyte() {
    check_cents(&lambda_bill(Arch::X86, 3e6, 1.0, 0.5, true), 18.73);
}

/// The page's older "example 2": 30 M requests of 200 ms at 128 MB, free tier on.
/// 30e6 × 0.2 × 0.125 = 750,000 - 400,000 = 350,000 × 0.0000166667 = 5.8333
/// 29e6 × 0.2/1e6 = 5.80; together 11.63.
#[test]
fn aws_example_small_memory() {
    check_cents(&lambda_bill(Arch::X86, 30e6, 0.2, 0.125, true), 11.63);
}

/// Tiers: 20e9 GB-s on x86, no requests to speak of.
/// 6e9 × 0.0000166667 = 100,000.20; 9e9 × 0.000015 = 135,000;
/// 5e9 × 0.0000133334 = 66,667.00; 1 request; together 301,667.20.
#[test]
fn duration_tiers_x86() {
    check_cents(&lambda_bill(Arch::X86, 1.0, 20e9, 1.0, false), 301_667.20);
}

/// Tiers on arm: 20e9 GB-s: 7.5e9 × 0.0000133334 = 100,000.50;
/// 11.25e9 × 0.0000120001 = 135,001.125; 1.25e9 × 0.0000106667 = 13,333.375;
/// together 248,335.00.
#[test]
fn duration_tiers_arm() {
    check_cents(&lambda_bill(Arch::Arm, 1.0, 20e9, 1.0, false), 248_335.00);
}

/// The free tier never makes a bill negative: half a million requests of
/// 100 ms at 1 GB = 50,000 GB-s, all free.
#[test]
fn the_free_tier_covers_small_use() {
    let bill = lambda_bill(Arch::X86, 5e5, 0.1, 1.0, true);
    check_cents(&bill, 0.0);
    assert!(bill.lines.is_empty());
}

/// Price page, provisioned concurrency: 100 environments of 1,024 MB for two
/// hours, 1.2 M requests of 1 s, x86.
/// 100 × 1 GB × 7,200 s = 720,000 × 0.0000041667 = 3.00
/// 1.2e6 × 0.2/1e6 = 0.24; 1.2e6 GB-s × 0.0000097222 = 11.67; together 14.91.
#[test]
fn aws_example_provisioned_concurrency() {
    let mut bill = Bill::default();
    let usage = BilledUsage {
        requests: 1.2e6,
        gb_seconds: 1.2e6,
    };
    provisioned(
        &mut bill,
        &Prices::built_in(),
        Arch::X86,
        100.0 * 7_200.0,
        usage,
    )
    .unwrap();
    check_cents(&bill, 14.91);
}

/// Fargate's price page, one x86 task of 1 vCPU and 2 GB, here for a whole month:
/// 1 × 0.04048 × 730 = 29.5504; 2 × 0.004445 × 730 = 6.4897;
/// address 0.005 × 730 = 3.65; together 39.69.
#[test]
fn fargate_month() {
    check_cents(&price(&steady(1.0), "fargate:x86:1:2"), 39.69);
}

/// 100 requests/s of 10 ms at 1,769 MB arm, nothing cold, Function URL:
/// 262,800,000 requests × 0.2/1e6 = 52.56;
/// × 0.01 s × 1.7275390625 GB = 4,539,972.66 GB-s × 0.0000133334 = 60.5333;
/// together 113.09.
#[test]
fn lambda_month() {
    check_cents(&price(&steady(100.0), "lambda:arm:1769"), 113.09);
}

/// The same through an HTTP API: 262.8e6 × 1/1e6 = 262.80 more = 375.89.
#[test]
fn lambda_month_behind_an_http_api() {
    check_cents(
        &price(&steady(100.0), "lambda:arm:1769:front=http-api"),
        375.89,
    );
}

/// 200 requests/s behind an HTTP API: 525.6e6 requests: 3e8 × 1/1e6 = 300.00 and
/// 225.6e6 × 0.9/1e6 = 203.04; Lambda twice 113.0933 = 226.1866; together 729.23.
#[test]
fn http_api_has_a_second_tier() {
    check_cents(
        &price(&steady(200.0), "lambda:arm:1769:front=http-api"),
        729.23,
    );
}

/// Half the memory of one vCPU, 885 MB, doubles a 10 ms request to 19.99 -> 20 ms
/// billed: 262.8e6 × 0.02 × 0.8642578125 GB = 4,542,539.06 GB-s × 0.0000133334
/// = 60.5675; + 52.56 = 113.13: memory below a vCPU saves nothing.
#[test]
fn less_memory_takes_longer() {
    check_cents(&price(&steady(100.0), "lambda:arm:885"), 113.13);
}

/// Cold starts in dollars: 150 ms init at 1,769 MB arm, all requests cold against
/// none: 1.7275390625 × 0.15 × 0.0000133334 = 0.0000034551 each, 3.46 a million.
#[test]
fn a_million_cold_starts() {
    let all = Workload {
        init_ms: 150.0,
        cold: Cold::Given(1.0),
        ..steady(1e6 / SECONDS)
    };
    let none = Workload {
        cold: Cold::Given(0.0),
        ..all.clone()
    };
    let more = price(&all, "lambda:arm:1769").usd() - price(&none, "lambda:arm:1769").usd();
    assert!((more - 3.455).abs() < 0.005, "{more}");
}

/// One c7g.medium: 0.0363 × 730 = 26.499; volume 8 × 0.08 = 0.64;
/// address 3.65; together 30.79. Capacity 0.7 × 1,000 / 10 = 70 requests/s.
#[test]
fn one_machine() {
    let bill = price(&steady(50.0), "ec2:c7g.medium");
    check_cents(&bill, 30.79);
    assert_eq!(bill.undated(), ["ebs.gp3.gb_month"]);
}

/// 100 requests/s need ceil(100/70) = 2 machines and a balancer:
/// 2 × 26.499 = 52.998; volumes 1.28; balancer 0.0225 × 730 = 16.425;
/// LCU = max(100/10/25 = 0.4, 100 × 1,500 × 3,600/1e9 = 0.54) × 0.008 × 730 = 3.1536;
/// two addresses 7.30; together 81.16.
#[test]
fn two_machines_and_a_balancer() {
    check_cents(&price(&steady(100.0), "ec2:c7g.medium"), 81.16);
}

/// Managed Instances, three c7g.xlarge: 3 × 0.145 × 730 = 317.55; × 0.15 = 47.6325;
/// 100 requests/s × 2,628,000 s × 0.2/1e6 = 52.56; together 417.74.
#[test]
fn managed_instances() {
    check_cents(&price(&steady(100.0), "managed:c7g.xlarge"), 417.74);
}

/// Comprehend: 1 M posts of 120 characters are 3 units each: 3e6 × 0.0001 = 300.00;
/// of 550 characters 6 units each (the page's own example has 10,000 of them: 6.00).
#[test]
fn comprehend() {
    let million = Workload {
        posts_per_second: 1e6 / SECONDS,
        ..Workload::default()
    };
    check_cents(&price(&million, "comprehend"), 300.0);
    let long = Workload {
        posts_per_second: 1e4 / SECONDS,
        post_chars: 550.0,
        ..Workload::default()
    };
    check_cents(&price(&long, "comprehend"), 6.0);
}

/// Cloud Run, instance billing, 1 vCPU and 512 MiB all month:
/// 2,628,000 × 0.000018 = 47.304; 0.5 × 2,628,000 × 0.000002 = 2.628; together 49.93.
#[test]
fn cloud_run_by_the_instance() {
    check_cents(&price(&steady(1.0), "cloud-run:instance:1:0.5"), 49.93);
}

/// Cloud Run, by request: one request of 10 ms a second counts 100 ms, so the
/// instance is busy 1 - exp(-0.1) = 0.0951626 of 2,628,000 s = 250,087.28 s:
/// × 0.000024 = 6.0021; × 0.5 × 0.0000025 = 0.3126; 2,628,000 × 0.4/1e6 = 1.0512;
/// together 7.37.
#[test]
fn cloud_run_by_the_request() {
    check_cents(&price(&steady(1.0), "cloud-run:request:1:0.5"), 7.37);
}

/// Azure Flex, 2,048 MB, 0.01 requests/s counted one second each:
/// busy 1 - exp(-0.01) = 0.00995017 × 2,628,000 = 26,149.04 s × 2 GB × 0.000026 = 1.3598;
/// 26,280 × 0.4/1e6 = 0.0105; together 1.37.
#[test]
fn azure_flex() {
    check_cents(&price(&steady(0.01), "azure-flex:2048"), 1.37);
}

/// Five arm environments of 1,769 MB kept ready at 100 requests/s of 10 ms, i.e.
/// 1 erlang: Erlang B(1, 5) = (1/120)/(1 + 1 + 1/2 + 1/6 + 1/24 + 1/120) = 0.0030675.
/// Configured 5 × 1.7275390625 × 2,628,000 = 22,699,863.28 × 0.0000033334 = 75.6677;
/// all requests 52.56; 4,539,972.66 GB-s: × 0.9969325 × 0.0000077778 = 35.2027 and
/// × 0.0030675 × 0.0000133334 = 0.1857; together 163.62.
#[test]
fn provisioned_month() {
    assert!((erlang_b(1.0, 5) - 0.003_067_485).abs() < 1e-9);
    check_cents(&price(&steady(100.0), "lambda:arm:1769:pc=5"), 163.62);
}

/// A busy Lambda vCPU-hour: 1.7275390625 GB × 3,600 × 0.0000133334 = 0.08292;
/// c7g.medium's is 0.0363, so 1 / 2.284 = 43.8% busy is where they meet.
#[test]
fn a_busy_lambda_vcpu_costs_two_and_a_quarter_machines() {
    let prices = Prices::built_in();
    let ratio = vcpu_hour(&prices, Arch::Arm).unwrap() / prices.get("ec2.c7g.medium").unwrap().usd;
    assert!((ratio - 2.284).abs() < 0.001, "{ratio}");
}

/// `fixed per hour / 3600 / per request`: c7g.medium's 30.789 a month against
/// 0.0000002 + 0.01 × 1.7275390625 × 0.0000133334 = 0.00000043034 a request:
/// 30.789 / 2,628,000 / 0.00000043034 = 27.22 requests/s, 27.2% busy.
#[test]
fn break_even_is_the_formula() {
    let prices = Prices::built_in();
    let [function, host] =
        ["lambda:arm:1769", "ec2:c7g.medium"].map(|name| name.parse::<Target>().unwrap());
    let found = breakeven::find(&steady(5.0), &prices, &function, &host).unwrap();
    let rate = found.requests_per_second.unwrap();
    assert!((rate - 27.224).abs() < 0.005, "{rate}");
    assert!((found.utilisation.unwrap() - 0.272_24).abs() < 1e-4);
    assert!(
        found.formula.contains("/ 730 h / 3600 /"),
        "{}",
        found.formula
    );
    assert!(found.words.contains("27.22 requests/s"), "{}", found.words);
}

/// A second machine with a balancer costs 50 dollars more than the function saves:
/// past the first host's capacity the function is cheaper again, for a while.
#[test]
fn a_further_host_turns_the_answer_round() {
    let prices = Prices::built_in();
    let [function, host] =
        ["lambda:arm:1769", "ec2:c7g.medium"].map(|name| name.parse::<Target>().unwrap());
    // 26 requests/s a host: below the first break-even at 27.2.
    let slow = Workload {
        host_rps_per_vcpu: Some(30.0),
        ..steady(5.0)
    };
    let found = breakeven::find(&slow, &prices, &function, &host).unwrap();
    assert!(found.requests_per_second.unwrap() < 28.0);
    assert!((found.later_crossings[0] - 30.0).abs() < 0.01, "{found:?}");
}

/// The free tier moves the break-even up: 400,000 GB-s and a million requests.
#[test]
fn the_free_tier_moves_the_break_even() {
    let prices = Prices::built_in();
    let [function, host] =
        ["lambda:arm:1769", "ec2:c7g.medium"].map(|name| name.parse::<Target>().unwrap());
    let free = Workload {
        free_tier: true,
        ..steady(5.0)
    };
    let rate = |workload| {
        breakeven::find(workload, &prices, &function, &host)
            .unwrap()
            .requests_per_second
            .unwrap()
    };
    // 0.20 + 400,000 × 0.0000133334 = 5.5334 dollars of free use a month:
    // (30.789 + 5.5334) / 2,628,000 / 0.00000043034 = 32.117.
    assert!((rate(&free) - 32.117).abs() < 0.005, "{}", rate(&free));
}

/// The published shape: more than 90% saved, and hand-offs, not GB-seconds, are
/// the cost. One item is a second of stream: one transition a second of each of
/// five states, ten frames written and read by three detectors.
/// 5 × 0.000025 + 10 × 0.000005 + 30 × 0.0000004 = 0.000187 an item in hand-offs;
/// three hops of 50 ms: 3 × (0.0000002 + 0.0515 × 1.7275 × 0.0000133334) = 0.0000042.
#[test]
fn the_prime_video_shape() {
    let stream = Pipeline {
        items_per_second: 100.0,
        hops: 3.0,
        transitions: 5.0,
        puts: 10.0,
        gets: 30.0,
        queue_requests: 0.0,
        hop_ms: 20.0,
        transfer_ms: 30.0,
        hop_memory_mb: 1_769,
        hop_cold_fraction: 0.01,
        hop_init_ms: 150.0,
    };
    let prices = Prices::built_in();
    let task = FargateTask {
        arch: Arch::Arm,
        vcpus: 4.0,
        gb: 8.0,
    };
    let both = compare(&stream, &prices, task).unwrap();
    assert!(both.orchestration_share > 0.9, "{}", both.words);
    assert!(both.saving > 0.9, "{}", both.words);
    // Without the hand-offs the same functions cost a small part of it.
    let quiet = Pipeline {
        transitions: 0.0,
        puts: 0.0,
        gets: 0.0,
        ..stream
    };
    let quiet = compare(&quiet, &prices, task).unwrap();
    assert!(quiet.chatty.usd() < 0.05 * both.chatty.usd());
    // 262.8e6 items: 0.000187 × 262.8e6 = 49,143.60 in hand-offs, exactly.
    let handed: f64 = both
        .chatty
        .lines
        .iter()
        .filter(|line| !line.price_item.starts_with("lambda."))
        .map(|line| line.usd)
        .sum();
    assert!((handed - 49_143.60).abs() < 0.005, "{handed}");
}

#[test]
fn the_report_states_speed_and_undated_prices() {
    let prices = Prices::built_in();
    let targets: Vec<Target> = ["lambda:arm:512", "ec2:c7g.medium", "comprehend"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let workload = Workload {
        speed: vec![("lambda:arm".to_owned(), 0.8)],
        ..steady(2.0)
    };
    let report = CostReport::new(&workload, &prices, &targets).unwrap();
    let verdict = report.verdict.join("\n");
    assert!(verdict.contains("lambda:arm:512 0.8"), "{verdict}");
    assert!(verdict.contains("ebs.gp3.gb_month"), "{verdict}");
    assert_eq!(report.quotes.len(), 3);
    assert_eq!(report.break_evens.len(), 2);
    assert_eq!(report.curves[0].points.len(), 161);
    assert!(!report.sensitivity.is_empty());
}

#[test]
fn an_unknown_machine_is_named() {
    let error = bill(
        &steady(1.0),
        &Prices::built_in(),
        &"ec2:z9.nano".parse().unwrap(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("ec2.z9.nano"), "{error}");
}

/// A month of SnapStart at 512 MB: the cache 0.5 × 2,628,000 × 0.0000015046 = 1.9770.
/// One request a second of 10 ms, 2% of them restored with hooks of 5 ms, at 1,024 MB arm:
/// requests 2,628,000 × 0.2/1e6 = 0.5256; 10 ms on 1,024/1,769 vCPU take 17.28 -> 18 ms; (18 + 0.02 × 5) ms × 1 GB × 2,628,000 = 47,566.8 GB-s × 0.0000133334
/// = 0.6342; cache 2,628,000 × 0.0000015046 = 3.9541; restores 52,560 × 0.0001397998
/// = 7.3479; together 12.46.
#[test]
fn snapstart_month() {
    let idle = Workload {
        posts_per_second: 1e-9,
        ..steady(1.0)
    };
    check_cents(&price(&idle, "lambda:arm:512:snapstart"), 1.98);
    let workload = Workload {
        cold: Cold::Given(0.02),
        restore_ms: 5.0,
        ..steady(1.0)
    };
    let bill = price(&workload, "lambda:arm:1024:snapstart");
    check_cents(&bill, 12.46);
    assert_eq!(
        bill.undated(),
        ["lambda.snapstart.cache", "lambda.snapstart.restore"]
    );
    // A hundred times what the 50 ms of an init cost: 0.05 × 0.0000133334 × 52,560 = 0.035.
    let on_demand = price(&workload, "lambda:arm:1024").breakdown();
    assert!(
        (on_demand.cold_starts - 0.035).abs() < 5e-4,
        "{on_demand:?}"
    );
    let parts = bill.breakdown();
    assert!((parts.restores - 11.3055).abs() < 1e-3, "{parts:?}");
    // Three published versions keep three snapshots: two caches more.
    let three = price(&workload, "lambda:arm:1024:snapstart=3");
    check_cents(&three, 20.37);
}

/// A MicroVM of 0.25 vCPU and 0.5 GB that is asked every second is never suspended for
/// long: with 10 ms of work on a quarter of a vCPU, 40 ms, held 60.04 s a request,
/// 1 - exp(-60.04) = 1 of the month: 0.25 × 2,628,000 × 0.0000276944 = 18.1952;
/// 0.5 × 2,628,000 × 0.0000036667 = 4.8180; stored 0.5 × 0.08 = 0.04; together 23.05.
/// Asked once in 1,000 s: 1 - exp(-0.06004) = 0.05827315 of the month: 1.0603 + 0.2808;
/// resumed 2,628,000 × 0.001 × exp(-0.06004) = 2,474.86 times: written × 0.5 × 0.0038
/// = 4.7022, read × 0.5 × 0.00155 = 1.9180; stored 0.04; together 8.00.
#[test]
fn microvm_month() {
    let bill = price(&steady(1.0), "microvm:0.25:0.5");
    check_cents(&bill, 23.05);
    assert!(
        bill.lines
            .iter()
            .all(|line| line.price_date.contains("not seen"))
    );
    check_cents(&price(&steady(0.001), "microvm:0.25:0.5"), 8.00);
}

/// Managed Instances of several types cost as much as the dearest: c7i.xlarge at 0.1785,
/// not c7g.xlarge at 0.145: 3 × 0.1785 × 730 = 390.915; × 0.15 = 58.637; requests 52.56;
/// together 502.11.
#[test]
fn managed_instances_of_several_types() {
    let both = price(&steady(100.0), "managed:c7g.xlarge+c7i.xlarge");
    check_cents(&both, 502.11);
}

/// A thousand tenants at 1,000 requests/s are as cold as one at one: half of 1%, not none.
/// 2.628e9 requests × 0.2/1e6 = 525.60; 10 ms + 0.005 × 50 ms = 10.25 ms × 1.7275390625
/// GB × 2.628e9 = 46,534,719.73 GB-s × 0.0000133334 = 620.4660; together 1,146.07.
/// Alone: 45,399,726.56 GB-s = 605.3327, together 1,130.93.
#[test]
fn tenants_make_traffic_cold() {
    let workload = Workload {
        cold: Cold::ByRate(vec![(0.1, 0.01), (1.0, 0.005), (10.0, 0.0)]),
        tenants: 1_000,
        ..steady(1_000.0)
    };
    check_cents(&price(&workload, "lambda:arm:1769"), 1_146.07);
    let alone = Workload {
        tenants: 1,
        ..workload
    };
    check_cents(&price(&alone, "lambda:arm:1769"), 1_130.93);
}

/// 17% off Lambda's duration, not its requests: 52.56 + 60.5333 × 0.83 = 102.80; off a
/// machine, not its volume or address: 26.499 × 0.83 + 0.64 + 3.65 = 26.28.
#[test]
fn discounts() {
    let workload = Workload {
        discounts: vec![(String::new(), 0.5), ("lambda".to_owned(), 0.17)],
        ..steady(100.0)
    };
    check_cents(&price(&workload, "lambda:arm:1769"), 102.80);
    let machines = Workload {
        discounts: vec![("ec2".to_owned(), 0.17)],
        ..steady(50.0)
    };
    check_cents(&price(&machines, "ec2:c7g.medium"), 26.28);
}

/// 100 requests/s with replies of 4 KiB: 262.8e6 × 4,096 / 2^30 = 1,002.5024 GiB, less
/// 100 free = 902.5024 × 0.008 = 7.2200; with Lambda's 113.0933: 120.31.
#[test]
fn streamed_replies() {
    let workload = Workload {
        reply_bytes: 4_096.0,
        ..steady(100.0)
    };
    check_cents(&price(&workload, "lambda:arm:1769:stream"), 120.31);
}

/// Three operations of a durable function a request at one request a second:
/// 2,628,000 × 3 × 8/1e6 = 63.072; requests 0.5256; duration 0.6053; together 64.20.
#[test]
fn durable_functions() {
    check_cents(&price(&steady(1.0), "lambda:arm:1769:durable=3"), 64.20);
}

/// Two workers of 1 vCPU and 0.5 GiB: 2 × 2,628,000 s × (0.000011244 + 0.5 × 0.000001235) =
/// 62.34. The prices come from third parties, which the bill says. With rows of one's own,
/// 0.00001 and 0.000001: 2 × (26.28 + 1.314) = 55.19.
#[test]
fn cloud_run_worker_pool() {
    let target = "cloud-run:worker-pool:1:0.5:min=2";
    let bill = price(&steady(1.0), target);
    check_cents(&bill, 62.34);
    for item in ["cloudrun.worker.vcpu", "cloudrun.worker.gib"] {
        let row = Prices::built_in().get(item).unwrap().clone();
        assert_eq!(row.date(), "2025-09, undated day, not seen at the provider");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.csv");
    let rows = "item,unit,usd,as_of,region,source,vcpus,gb\n\
        cloudrun.worker.vcpu,vCPU-s,0.00001,2026-11-01,us,https://x,,\n\
        cloudrun.worker.gib,GiB-s,0.000001,2026-11-01,us,https://x,,\n";
    std::fs::write(&path, rows).unwrap();
    let prices = Prices::with_file(&path).unwrap();
    let target = target.parse().unwrap();
    check_cents(&super::bill(&steady(1.0), &prices, &target).unwrap(), 55.19);
}

/// One instance kept on Cloud Run: the 7.37 of `cloud_run_by_the_request`, and idle for
/// 2,628,000 - 250,087.28 = 2,377,912.72 s × (0.0000025 + 0.5 × 0.0000025) = 8.9172;
/// together 16.28.
#[test]
fn cloud_run_with_an_instance_kept() {
    check_cents(&price(&steady(1.0), "cloud-run:request:1:0.5:min=1"), 16.28);
}

/// Azure Flex, one instance of 2,048 MB always ready at 0.01 requests/s of 10 ms, a vCPU
/// each: baseline 2 × 2,628,000 × 0.000004 = 21.024; Erlang B of 0.01 / 70 = 0.00014286
/// erlangs: 0.01428%; busy 26,149.04 s × 2 GB × 0.000016 = 0.8368; the rest on demand
/// 0.0002; executions 0.0105; together 21.87.
#[test]
fn azure_flex_always_ready() {
    check_cents(&price(&steady(0.01), "azure-flex:2048:ready=1"), 21.87);
}

/// 158 times the mean in one minute of a thousand, 10 requests/s of 10 ms.
#[test]
fn a_peak_of_158_times_the_mean_does_not_buy_158_hosts() {
    let mut ratios = vec![842.0 / 999.0; 1_000];
    ratios[500] = 158.0;
    let profile = crate::arrivals::profile::RateProfile {
        interval_s: 60.0,
        ratios: ratios.into(),
    };
    let workload = Workload {
        peak_to_mean: 158.0,
        profile,
        ..steady(10.0)
    };
    // 23 × 26.499 = 609.477; volumes 14.72; balancer 16.425; LCU 0.04 (10/10/25) against
    // 0.054 (GB/h): 0.3154; addresses 7.30; together 648.24.
    check_cents(&price(&workload, "ec2:c7g.medium"), 648.24);
    // Minutes 503 to 518 have ceil(1,580 / 60) = 27 hosts: (16 × 27 + 984) / 1,000 = 1.416
    // × (26.499 + 0.64) = 38.4288; balancer 16.425 + 0.3154; addresses 7.30; together 62.47.
    let scaled = price(&workload, "ec2:c7g.medium:auto=60");
    check_cents(&scaled, 62.47);
    assert!(
        scaled.notes[0].contains("1 to 27 hosts"),
        "{:?}",
        scaled.notes
    );
    // Its price is that the minute of the peak is served by one host: 15.8% of all requests.
    assert!(scaled.notes[1].starts_with("15.8%"), "{:?}", scaled.notes);
}
