//! The load and cold-start harness of coldread, black box over HTTP and the
//! Lambda Runtime API. It shares no types with the service, so that a broken
//! contract shows.
//!
//! The workspace's place for it; no measurement has landed yet.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!(
        "coldread-loadtest: this version measures nothing yet; `coldread bench` measures the engine"
    );
    ExitCode::from(2)
}
