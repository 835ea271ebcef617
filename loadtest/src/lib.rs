//! The load and cold-start harness of coldread, black box over HTTP and the
//! Lambda Runtime API. It shares no types with the service, so that a broken
//! contract shows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: one sub-command a measurement |
//! | [`platform`] | Lambda's rules: instances, limits, faults |
//! | [`runtime_api`] | the Lambda Runtime API, as a function sees it |
//! | [`clock`] | the clock that all processes share |
//! | [`results`] | the JSON document that every sub-command writes |
//! | [`machine`] | what the figures were measured on |
//! | [`stats`] | medians, quantiles and bootstrap intervals |

pub mod arrivals;
pub mod cli;
pub mod clock;
pub mod cost;
pub mod generator;
pub mod interrupt;
pub mod logs;
pub mod machine;
pub mod measured;
pub mod platform;
pub mod report;
pub mod results;
pub mod runtime_api;
pub mod simulate;
pub mod stats;
pub mod warm;
