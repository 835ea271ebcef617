//! What operators see: metrics, log lines, and which request they belong to.
//!
//! Metrics are counters in memory that are formatted on request. Log lines go to standard
//! error immediately, in a server through a thread of its own. This module never receives the
//! text of a post, so it cannot leak any: it gets numbers, route templates, error codes, and
//! ids that were checked to be ids.

mod emf;
mod ids;
mod json_lines;
mod log;
mod metrics;
mod stage_timings;

pub use emf::{Emf, EmfOutput};
pub use ids::{TraceIds, request_id};
pub(crate) use ids::{id, is_id_byte};
pub(crate) use json_lines::REQUEST_TARGET;
pub use json_lines::{JsonLines, service_name};
pub use log::{stderr_without_waiting, stdout_without_waiting};
pub use metrics::Metrics;
pub use stage_timings::StageTimings;
