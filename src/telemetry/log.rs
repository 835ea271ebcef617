//! Where a server's log lines go: to standard error, without ever waiting for it.
//!
//! Whoever starts a server with a pipe that is not read would stop it otherwise, request
//! by request, once the pipe is full. A thread of its own writes; what it cannot keep up
//! with is dropped and counted.

use std::io;
use std::sync::OnceLock;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait to be written, at most: some megabytes.
const MAX_WAITING_LINES: usize = 8192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts the thread that writes. What waits when the guard is dropped is written first,
/// for a second at most.
pub fn stderr_without_waiting() -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .thread_name("coldread-log")
        .finish(io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    (writer, guard)
}

/// Lines that were dropped so far.
pub(super) fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}
