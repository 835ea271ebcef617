//! The load and cold-start harness of coldread, black box over HTTP and the
//! Lambda Runtime API. It shares no types with the service, so that a broken
//! contract shows.
//!
//! Four layers, each of which imports only those below it:
//!
//! | layer | module | what it holds |
//! |---|---|---|
//! | commands | [`commands`] | the command line: a file a subcommand, with its options, what it prints and what it writes |
//! | report | [`report`] | the page, the table, the comparison of two runs |
//! | document | [`results`] | the JSON document that every measurement writes: a section for each domain |
//! | domains | [`cold_start`] | time from `exec` to the first response |
//! | | [`warm`] | what an always-on server sustains |
//! | | [`trace`] | a replay beside its simulation |
//! | | [`decide`] | all options of a platform by cost, at equal latency |
//! | | [`cost`] | prices, bills, break-even |
//! | | [`simulate`] | a function platform in simulated time |
//! | | [`logs`], [`measured_times`] | figures of AWS's own logs; measured times as inputs |
//! | | [`generator`] | the HTTP client: open and closed loops that check themselves |
//! | | [`platform`], [`runtime_api`] | Lambda's rules (instances, limits, faults) and its Runtime API |
//! | | [`event`] | what a Function URL makes of an HTTP request |
//! | | [`arrivals`] | when requests come: processes and traces |
//! | | [`csv_input`] | CSV files, and what is wrong in which line |
//! | | [`machine`], [`cores`], [`lambda_memory`] | what the figures were measured on; processors |
//! | | [`stats`], [`latency`], [`format`](mod@format) | medians and intervals, latency quantiles, numbers as text |
//! | | [`clock`], [`interrupt`] | the clock that all processes share; Ctrl-C |
//!
//! A domain returns values: it parses no command line, prints no result and writes no
//! file of results.

pub mod arrivals;
pub mod clock;
pub mod cold_start;
pub mod commands;
pub mod cores;
pub mod cost;
pub mod csv_input;
pub mod decide;
pub mod event;
pub mod format;
pub mod generator;
pub mod interrupt;
pub mod lambda_memory;
pub mod latency;
pub mod logs;
pub mod machine;
pub mod measured_times;
pub mod platform;
pub mod report;
pub mod results;
pub mod runtime_api;
pub mod simulate;
pub mod stats;
pub mod system;
pub mod trace;
pub mod warm;
