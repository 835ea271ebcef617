//! Whether anybody still waits for an answer: for who has gone nothing is computed.

use super::AppState;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A way to ask whether the caller's side of its connection is closed. An adapter that
/// can know puts it into a request's extensions.
#[derive(Clone)]
pub struct Caller(Arc<dyn Fn() -> bool + Send + Sync>);

impl Caller {
    /// One of whom `has_closed` tells.
    pub fn new(has_closed: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(has_closed))
    }

    /// Resolves once its side has been seen closed for `grace`.
    async fn gone(&self, grace: Duration) {
        let mut was_closed = false;
        loop {
            tokio::time::sleep(grace).await;
            let is_closed = (self.0)();
            if is_closed && was_closed {
                return;
            }
            was_closed = is_closed;
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").finish_non_exhaustive()
    }
}

/// Gives a request up whose caller has gone, and with it the posts that still wait.
///
/// A closed side alone is no proof, since who has sent everything may close it and
/// listen on: hence the grace.
pub(super) async fn watch(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let grace = Duration::from_millis(app.limits().half_close_ms.get());
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = caller.gone(grace) => ApiError::CallerGone.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tokio::time::{Instant, sleep};

    const GRACE: Duration = Duration::from_millis(100);

    /// After how many looks a caller is taken for gone who is seen as `looks` say, and
    /// stays as it was last.
    async fn looks_until_gone(looks: &[bool]) -> Option<u128> {
        let left = Mutex::new(VecDeque::from(looks.to_vec()));
        let caller = Caller::new(move || {
            let mut left = left.lock().expect("no panic");
            let look = left.pop_front().expect("not empty");
            if left.is_empty() {
                left.push_back(look);
            }
            look
        });
        let began = Instant::now();
        tokio::select! {
            () = caller.gone(GRACE) => Some(began.elapsed().as_millis() / GRACE.as_millis()),
            () = sleep(GRACE * 50) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_gone_when_it_stays_closed() {
        assert_eq!(looks_until_gone(&[false]).await, None);
        assert_eq!(looks_until_gone(&[true]).await, Some(2));
        assert_eq!(looks_until_gone(&[false, false, true]).await, Some(4));
        // Bytes that nobody has read yet hide the end for a while.
        assert_eq!(looks_until_gone(&[true, false, true]).await, Some(4));
    }
}
