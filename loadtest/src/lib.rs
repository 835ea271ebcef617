//! The load and cold-start harness of coldread, black box over HTTP and the
//! Lambda Runtime API. It shares no types with the service, so that a broken
//! contract shows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: one sub-command a measurement |
//! | [`cold_start`] | time from `exec` to the first answer |
//! | [`invoke`] | events into a function, answers out |
//! | [`platform`] | Lambda's rules: instances, limits, faults |
//! | [`runtime_api`] | the Lambda Runtime API, as a function sees it |
//! | [`event`] | what a Function URL makes of an HTTP request |
//! | [`clock`] | the clock that all processes share |
//! | [`arrivals`] | when requests come: processes and traces |
//! | [`generator`] | the HTTP client: open and closed loops that check themselves |
//! | [`warm`] | what an always-on server sustains |
//! | [`simulate`] | a function platform in simulated time |
//! | [`trace`] | a replay beside its simulation |
//! | [`logs`], [`measured`] | figures of AWS's own logs; measured times as inputs |
//! | [`cost`] | prices, bills, break-even |
//! | [`report`] | the page, the table, the comparison |
//! | [`interrupt`] | Ctrl-C |
//! | [`rows`] | files of rows, and what is wrong in which line |
//! | [`results`] | the JSON document that every sub-command writes |
//! | [`machine`] | what the figures were measured on |
//! | [`stats`] | medians, quantiles and bootstrap intervals |

/// `println!` that does not mind a reader who has read enough, such as `head`.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

pub mod arrivals;
pub mod cli;
pub mod clock;
pub mod cold_start;
pub mod cost;
pub mod event;
pub mod generator;
pub mod interrupt;
pub mod invoke;
pub mod logs;
pub mod machine;
pub mod measured;
pub mod platform;
pub mod report;
pub mod results;
pub mod rows;
pub mod runtime_api;
pub mod simulate;
pub mod stats;
pub mod trace;
pub mod warm;
