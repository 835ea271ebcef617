//! What operators see: metrics, log lines, and which request they belong to.
//!
//! Nothing here is started: metrics are counters in memory that are written out when
//! somebody asks for them, and log lines go to standard error as they come, at a server
//! by way of a thread of their own. No text of
//! a post is handed to this module, so that none can leave by it: what it is given is
//! numbers, route templates, error codes, and ids that were checked to be such.

mod emf;
mod ids;
mod json_lines;
mod log;
mod metrics;
mod stage_timings;

pub use emf::{Emf, EmfOutput};
pub use ids::{RequestIds, TraceIds};
pub(crate) use ids::{id, is_id_byte};
pub(crate) use json_lines::REQUEST_TARGET;
pub use json_lines::{JsonLines, service_name};
pub use log::{stderr_without_waiting, stdout_without_waiting};
pub use metrics::Metrics;
pub use stage_timings::StageTimings;
