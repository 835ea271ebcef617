//! Ctrl-C: the first ends the measurement and lets it report what there is, the
//! second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that the second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Listens for Ctrl-C from now on. Does nothing the second time.
pub fn listen() {
    // An error says that a handler is there already, or that the system has no
    // signals; either way the run itself can go on.
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("\nstopping; Ctrl-C again to stop at once");
    });
}

/// Whether a measurement should end now.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
