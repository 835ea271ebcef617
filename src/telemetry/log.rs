//! Output of a server that never waits for its reader.
//!
//! A server whose standard error or output is a pipe that nobody reads would otherwise stop,
//! request by request, once the pipe is full. A thread writes instead; lines that it cannot
//! keep up with are dropped and counted.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// The most lines that wait to be written: a few megabytes.
const MAX_WAITING_LINES: usize = 8192;

static DROPPED: Mutex<Vec<ErrorCounter>> = Mutex::new(Vec::new());

/// Starts a thread that writes to standard error. Dropping the guard writes what waits, for
/// a second at most.
pub fn stderr_without_waiting() -> (NonBlocking, WorkerGuard) {
    start("coldread-log", io::stderr())
}

/// Starts a thread that writes to standard output. Dropping the guard writes what waits, for
/// a second at most.
pub fn stdout_without_waiting() -> (NonBlocking, WorkerGuard) {
    start("coldread-emf", io::stdout())
}

fn start(name: &str, output: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .thread_name(name)
        .finish(output);
    lock().push(writer.error_counter());
    (writer, guard)
}

fn lock() -> MutexGuard<'static, Vec<ErrorCounter>> {
    DROPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of lines dropped so far.
pub(super) fn dropped_lines() -> usize {
    lock().iter().map(ErrorCounter::dropped_lines).sum()
}
