//! What is offered to a server.

use std::time::Duration;

use crate::arrivals::Schedule;

/// Schedule error at the 99th percentile up to which a run offered its load, ms.
pub const KEPT_MS: f64 = 1.0;

/// What is offered.
#[derive(Clone)]
pub enum Load {
    /// Requests at intended times.
    Open(Schedule),
    /// Clients that each wait for a response before they send the next request.
    Closed {
        /// Number of clients.
        callers: usize,
        /// Length of the run.
        length: Duration,
    },
}
