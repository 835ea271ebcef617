//! The long tests of the server, and a table of what they say beside the goals.
//!
//! One inference thread has a core to itself; the server's HTTP threads and the clients
//! here share another. What the classifier alone does on the first core is measured in
//! the same run, in turn with the server, so that a busy machine slows both.
//!
//!     cargo run --release -p coldread-loadtest --example stress -- --binary target/release/coldread

mod client;
mod server;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use client::{Connection, body};
use coldread_loadtest::arrivals::process::Process;
use coldread_loadtest::arrivals::{Schedule, duration};
use coldread_loadtest::generator::{Client, ClientOptions, Load, Measured};
use serde_json::Value;
use server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Runs the long tests of a server and prints a table
#[derive(Parser)]
pub struct Args {
    /// The coldread binary under test
    #[arg(long, default_value = "target/release/coldread")]
    binary: PathBuf,
    /// Core of the inference thread
    #[arg(long, default_value_t = 1)]
    inference_core: usize,
    /// Core of HTTP and of the clients
    #[arg(long, default_value_t = 0)]
    other_core: usize,
    /// Length of one run at saturation
    #[arg(long, default_value = "10s", value_parser = duration)]
    step: Duration,
    /// Length of the overload
    #[arg(long, default_value = "1m", value_parser = duration)]
    overload: Duration,
    /// How often saturation and slow clients are measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How often the server is stopped under load
    #[arg(long, default_value_t = 20)]
    restarts: usize,
    /// Posts, one a line of JSON with `text`
    #[arg(long, default_value = "tests/data/golden_posts.jsonl")]
    posts: PathBuf,
    /// Runs this part alone; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Saturation,
    Idle,
    Overload,
    Restarts,
    SlowClients,
}

impl Args {
    fn parts(&self) -> &[Part] {
        if self.only.is_empty() {
            return Part::value_variants();
        }
        &self.only
    }
}

/// A line of the table.
struct Row {
    what: &'static str,
    measured: String,
    goal: &'static str,
    holds: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    server::pin_self(args.other_core)?;
    let posts = tempfile::Builder::new().suffix(".txt").tempfile()?;
    std::fs::write(posts.path(), texts(&args.posts)?)?;
    let mut rows = Vec::new();
    let (args, posts) = (&args, posts.path());
    for part in args.parts() {
        match part {
            Part::Saturation => saturation(args, posts, &mut rows)?,
            Part::Idle => idle(args, &mut rows)?,
            Part::Overload => overload(args, posts, &mut rows)?,
            Part::Restarts => restarts(args, &mut rows)?,
            Part::SlowClients => slow_clients(args, posts, &mut rows)?,
        }
    }
    print(&rows);
    ensure!(rows.iter().all(|row| row.holds), "a goal was missed");
    Ok(())
}

fn print(rows: &[Row]) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["what", "measured", "goal", ""]);
    for row in rows {
        let verdict = if row.holds { "holds" } else { "MISSED" };
        table.add_row([row.what, &row.measured, row.goal, verdict]);
    }
    println!("{table}");
}

/// The posts as lines.
fn texts(path: &Path) -> Result<String> {
    let file = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut lines = String::new();
    for line in file.lines() {
        let post: Value = serde_json::from_str(line)?;
        let text = post["text"].as_str().context("a post without `text`")?;
        // Some of them are there to be refused.
        if text.chars().any(char::is_alphanumeric) {
            lines.push_str(&text.replace(['\n', '\r'], " "));
            lines.push('\n');
        }
    }
    Ok(lines)
}

fn client(server: &Server, posts: &Path, batch: usize) -> Result<Client> {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        client: ClientOptions,
    }
    let batch = format!("--batch={batch}");
    let posts = format!("--posts={}", posts.display());
    let Cli { client } = Cli::parse_from(["stress", &batch, &posts]);
    Client::new(&client, &server.url(), 1, true)
}

fn closed(client: &Client, callers: usize, length: Duration) -> Result<Measured> {
    let run = client.run(&Load::Closed { callers, length }, "saturation", 1)?;
    ensure!(run.faults.is_empty(), "saturation: {:?}", run.faults);
    Ok(run)
}

/// Posts a second of the classifier alone, on the core of the inference thread.
fn classifier_alone(args: &Args, posts: &Path) -> Result<f64> {
    let mut command = Command::new(&args.binary);
    command.args(["bench", "--json", "--input"]).arg(posts);
    let output = server::output_on(&mut command, args.inference_core)?;
    let report: Value = serde_json::from_slice(&output)?;
    let rate = report["mixed"]["posts_per_second"].as_f64();
    rate.context("bench --json has no mixed.posts_per_second")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// On a slow machine the golden posts' longest, one after the other, make the rest wait for more than a second,
/// which the server would refuse.
const PATIENT: (&str, &str) = ("COLDREAD_MAX_QUEUE_WAIT_MS", "10000");

/// What the server does at saturation, as a share of the classifier alone.
fn saturation(args: &Args, posts: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let server = Server::start(args, &[PATIENT])?;
    let (one, many) = (client(&server, posts, 1)?, client(&server, posts, 32)?);
    closed(&one, 32, Duration::from_secs(1))?;
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        let alone = classifier_alone(args, posts)?;
        let one = closed(&one, 64, args.step)?.ok_per_second;
        let many = 32.0 * closed(&many, 8, args.step)?.ok_per_second;
        println!("alone {alone:.0} posts/s, 1 a request {one:.0}, 32 a request {many:.0}");
        rounds.push((alone, one, many));
    }
    let share = |it: fn(&(f64, f64, f64)) -> f64| median(rounds.iter().map(it));
    let (of_one, of_many) = (share(|r| r.1 / r.0), share(|r| r.2 / r.0));
    rows.push(Row {
        what: "goodput at saturation, 1 post a request",
        measured: format!("{:.1}% of the classifier alone", 100.0 * of_one),
        goal: ">= 85%",
        holds: of_one >= 0.85,
    });
    rows.push(Row {
        what: "goodput at saturation, 32 posts a request",
        measured: format!("{:.1}% of the classifier alone", 100.0 * of_many),
        goal: ">= 95%",
        holds: of_many >= 0.95,
    });
    Ok(())
}

/// What HTTP adds to one post on an idle server: all that its caller waits for beyond
/// tokenizing and inference. Beside it stands what no server on these cores is spared that
/// computes on another core than it listens on.
fn idle(args: &Args, rows: &mut Vec<Row>) -> Result<()> {
    let server = Server::start(args, &[])?;
    let mut connection = Connection::open(&server.addr)?;
    let body = body("what a wonderful day, thank you all");
    let mut added = Vec::new();
    for _ in 0..3000 {
        let sent = Instant::now();
        let answer = connection.ask(&body)?;
        let took = sent.elapsed().as_secs_f64() * 1e3;
        added.push(took - answer.stage_ms("tokenize")? - answer.stage_ms("inference")?);
    }
    added.sort_by(f64::total_cmp);
    let (p50, p99) = (added[added.len() / 2], added[added.len() * 99 / 100]);
    let wakes = wake_ups_ms(args)?;
    rows.push(Row {
        what: "added by HTTP to one post, idle server",
        measured: format!("{p50:.3} ms (p99 {p99:.3}); two cores' waking {wakes:.3}"),
        goal: "< 0.15 ms",
        holds: p50 < 0.15,
    });
    Ok(())
}

/// How long it takes to wake a thread on the core of the inference thread and to be woken by
/// it, both cores having slept: the median, with 0.5 ms of work in between that do not count.
fn wake_ups_ms(args: &Args) -> Result<f64> {
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answered) = mpsc::channel();
    let core = args.inference_core;
    let other = std::thread::spawn(move || -> Result<()> {
        server::pin_self(core)?;
        while asked.recv().is_ok() {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(500) {}
            answer.send(began.elapsed())?;
        }
        Ok(())
    });
    let mut woken = Vec::new();
    for _ in 0..3000 {
        let sent = Instant::now();
        ask.send(())?;
        let worked = answered.recv()?;
        let waited = sent.elapsed().saturating_sub(worked);
        woken.push(waited.as_secs_f64() * 1e3);
    }
    drop(ask);
    other.join().ok().context("the other thread failed")??;
    Ok(median(woken.into_iter()))
}

/// Ten times what the server can do.
fn overload(args: &Args, posts: &Path, rows: &mut Vec<Row>) -> Result<()> {
    // Fewer than the client has connections, or nothing would ever be refused.
    let pending = [
        ("COLDREAD_MAX_PENDING_POSTS", "256"),
        ("COLDREAD_MAX_POSTS", "256"),
    ];
    let patient = Server::start(args, &[PATIENT])?;
    let capacity = closed(&client(&patient, posts, 1)?, 64, args.step)?.ok_per_second;
    drop(patient);
    let server = Server::start(args, &pending)?;
    let client = client(&server, posts, 1)?;
    // Until its buffers have their size.
    closed(&client, 8, args.step)?;
    let before = server.peak_memory_mb()?;
    let schedule = Schedule::from_process(Process::Poisson(10.0 * capacity), args.overload);
    let run = client.run(&Load::Open(schedule), "overload", 1)?;
    let after = server.peak_memory_mb()?;
    println!("{}", run.words());
    let lost: u64 = run
        .faults
        .iter()
        .filter(|(kind, _)| !kind.contains("429"))
        .map(|(_, n)| n)
        .sum();
    let share = run.ok_per_second / capacity;
    let offered = run.sent as f64 / run.seconds / capacity;
    rows.push(Row {
        what: "overload: goodput",
        measured: format!(
            "{:.1}% of capacity, {offered:.1} times offered",
            100.0 * share
        ),
        goal: ">= 90%",
        holds: share >= 0.9,
    });
    rows.push(Row {
        what: "overload: neither answered nor refused",
        measured: format!("{lost} of {}", run.sent),
        goal: "0",
        holds: lost == 0,
    });
    // What a full queue takes, thrice over for a machine that does other work as well.
    let bound = 3e3 * 256.0 / capacity;
    rows.push(Row {
        what: "overload: p99 of what was accepted",
        measured: format!("{:.0} ms", run.latency_ms.p99),
        goal: "three times a full queue's work",
        holds: run.latency_ms.p99 <= bound,
    });
    rows.push(Row {
        what: "overload: peak memory",
        measured: format!("{before:.1} -> {after:.1} MB"),
        goal: "+ 32 MB at most",
        holds: after - before <= 32.0,
    });
    Ok(())
}

/// SIGTERM under load, again and again.
fn restarts(args: &Args, rows: &mut Vec<Row>) -> Result<()> {
    let (mut answered, mut lost, mut unclean, mut slowest) = (0, 0, 0, Duration::ZERO);
    for round in 0..args.restarts {
        let mut server = Server::start(args, &[])?;
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let addr = server.addr.clone();
                std::thread::spawn(move || client::until_refused(&addr))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + 37 * (round as u64 % 8)));
        let told = Instant::now();
        unclean += u64::from(!server.terminate()?);
        slowest = slowest.max(told.elapsed());
        for caller in callers {
            let counted = caller.join().ok().context("a caller failed")?;
            answered += counted.answered;
            lost += counted.lost;
        }
    }
    rows.push(Row {
        what: "SIGTERM under load: accepted requests without an answer",
        measured: format!("{lost} of {answered}, {} restarts", args.restarts),
        goal: "0",
        holds: lost == 0,
    });
    rows.push(Row {
        what: "SIGTERM under load: exits that were not 0; the slowest",
        measured: format!("{unclean}; {:.2} s", slowest.as_secs_f64()),
        goal: "0; within the grace",
        holds: unclean == 0 && slowest < Duration::from_secs(8),
    });
    Ok(())
}

/// Clients that send a byte now and then, beside ones that are served.
fn slow_clients(args: &Args, posts: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let timeouts = [
        ("COLDREAD_HEAD_TIMEOUT_MS", "2000"),
        ("COLDREAD_BODY_TIMEOUT_MS", "2000"),
        PATIENT,
    ];
    let server = Server::start(args, &timeouts)?;
    let client = client(&server, posts, 1)?;
    let (mut shares, mut still_open) = (Vec::new(), 0);
    // One pair would say more about the machine's other work than about the server.
    for _ in 0..args.rounds {
        let before = closed(&client, 64, args.step)?.ok_per_second;
        let (addr, length) = (server.addr.clone(), args.step);
        let slow = std::thread::spawn(move || client::drip(&addr, 500, length));
        let beside = closed(&client, 64, args.step)?.ok_per_second;
        still_open += slow.join().ok().context("a slow client failed")??;
        println!("without slow clients {before:.0} posts/s, beside them {beside:.0}");
        shares.push(beside / before);
    }
    let share = median(shares.into_iter());
    rows.push(Row {
        what: "500 slow clients: goodput beside them",
        measured: format!("{:.1}% of without", 100.0 * share),
        goal: ">= 90%",
        holds: share >= 0.9,
    });
    rows.push(Row {
        what: "500 slow clients: still connected after their time",
        measured: still_open.to_string(),
        goal: "0",
        holds: still_open == 0,
    });
    Ok(())
}
