//! Ctrl-C and SIGTERM: the first ends the measurement and lets it report what there
//! is, the second ends the process.
//!
//! A thread of its own waits in the kernel for them, so that nothing of it runs
//! while something is measured.

use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// The signal that came, 0 before.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static CAME: Notify = Notify::const_new();

/// Listens from now on. Does nothing the second time.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                let _ = ready.send(());
                loop {
                    let number = tokio::select! {
                        _ = interrupt.recv() => SignalKind::interrupt(),
                        _ = terminate.recv() => SignalKind::terminate(),
                    }
                    .as_raw_value();
                    if SIGNAL.swap(number, Ordering::Relaxed) != 0 {
                        std::process::exit(128 + number);
                    }
                    eprintln!("\nstopping; once more to stop at once");
                    CAME.notify_waiters();
                }
            })
        });
        // An error says that the system has no signals; the run itself can go on.
        let _ = is_ready.recv();
    });
}

/// Whether a measurement should end now.
pub fn asked() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Waits until a measurement should end.
pub async fn wait() {
    let came = CAME.notified();
    tokio::pin!(came);
    came.as_mut().enable();
    if !asked() {
        came.await;
    }
}

/// Exit code of a process that was asked to end: 130 for Ctrl-C, 143 for SIGTERM.
pub fn exit_code() -> Option<u8> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        number => Some(128 + number as u8),
    }
}
