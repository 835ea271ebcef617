//! What may not be older than the restore of a `SnapStart` snapshot.
//!
//! One snapshot is restored many times, and whatever is random in it is the same each time.
//! The standard library and other crates draw such values once per thread (the keys of hash
//! maps, the seeds of tokio's and the SDKs' generators), and no thread can be made to draw
//! them again. So the thread that started the program, which has drawn them, leaves at the
//! restore: everything after it runs on a new thread with an async runtime of its own. Its
//! first own step is to open the sink, whose clients have a generator, credentials and
//! connections.
//!
//! The rest needs nothing: the ids of requests are Lambda's, or come from the system one by
//! one; deadlines and times begin with each event; the maps that are older than the restore
//! have keys from closed sets, such as routes; and the worker threads hash nothing.

use super::super::ServeError;
use crate::config::ResultDestination;
use crate::events::sink;
use crate::events::{Outgoing, Sink};
use lambda_runtime::{BoxFuture, Error, SnapStartResource};
use std::sync::{Arc, OnceLock};
use std::thread;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

/// Waits for the restore, and opens the sink.
#[derive(Default)]
pub(super) struct Restore {
    results: Option<ResultDestination>,
    sink: OnceLock<Arc<dyn Sink>>,
    /// Told when the restore has begun.
    begun: Notify,
}

impl Restore {
    /// Results go to `results` once the snapshot is restored.
    pub(super) fn new(results: Option<ResultDestination>) -> Arc<Self> {
        Arc::new(Self {
            results,
            ..Self::default()
        })
    }

    /// The sink, which no event reaches before the restore.
    pub(super) fn sink(self: &Arc<Self>) -> Option<Arc<dyn Sink>> {
        self.results.as_ref()?;
        Some(Arc::clone(self) as Arc<dyn Sink>)
    }

    /// Runs `function` here until the restore, and then on a thread that is not older.
    pub(super) async fn run(
        &self,
        mut function: BoxFuture<'static, Result<(), Error>>,
    ) -> Result<(), ServeError> {
        tokio::select! {
            biased;
            () = self.begun.notified() => {}
            ended = &mut function => return ended.map_err(ServeError::Lambda),
        }
        let runtime = Builder::new_current_thread();
        let (sender, ended) = oneshot::channel();
        thread::Builder::new()
            .name("coldread-lambda".to_owned())
            .spawn(move || {
                let ended = on_this_thread(runtime, function);
                // Nobody waits for it after SIGTERM.
                let _ = sender.send(ended);
            })?;
        ended
            .await
            .unwrap_or_else(|_| Err(ServeError::Lambda("its thread panicked".into())))
    }
}

fn on_this_thread(
    mut runtime: Builder,
    function: BoxFuture<'static, Result<(), Error>>,
) -> Result<(), ServeError> {
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(function).map_err(ServeError::Lambda)
}

impl SnapStartResource for Restore {
    fn after_restore(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.begun.notify_one();
            // Goes on there.
            yield_now().await;
            if let Some(results) = &self.results {
                let _ = self.sink.set(sink::open(results).await);
            }
            Ok(())
        })
    }
}

impl Sink for Restore {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> sink::Arrived<'a> {
        match self.sink.get() {
            Some(sink) => sink.send(results),
            None => {
                debug_assert!(false, "events come after the restore");
                Box::pin(std::future::ready(vec![false; results.len()]))
            }
        }
    }
}
