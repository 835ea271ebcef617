//! Whether anybody still waits for an answer: for who has gone nothing is computed.

use super::AppState;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of the caller's end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Open.
    Open,
    /// It sends nothing more, and may listen or be gone.
    HalfClosed,
    /// It takes nothing more either.
    Closed,
}

/// A way to ask for the caller's [`PeerState`]. An adapter that can know puts it into a
/// request's extensions.
#[derive(Clone)]
pub struct ClientConnection(Arc<dyn Fn() -> PeerState + Send + Sync>);

impl ClientConnection {
    /// One of whom `presence` tells.
    pub fn new(presence: impl Fn() -> PeerState + Send + Sync + 'static) -> Self {
        Self(Arc::new(presence))
    }

    /// What is known now.
    pub(crate) fn presence(&self) -> PeerState {
        (self.0)()
    }

    /// Resolves once the caller is gone, or has been half closed for `grace`, give or take
    /// a quarter.
    async fn gone(&self, grace: Duration) {
        let mut half_closed = None;
        loop {
            tokio::time::sleep(grace / 4).await;
            match self.peer_state() {
                PeerState::Open => half_closed = None,
                PeerState::HalfClosed => {
                    let since = *half_closed.get_or_insert_with(Instant::now);
                    if since.elapsed() >= grace {
                        return;
                    }
                }
                PeerState::Closed => return,
            }
        }
    }
}

impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientConnection").finish_non_exhaustive()
    }
}

/// Gives a request up whose caller has gone, and with it the posts that still wait.
///
/// That it sends nothing more is no proof, since who has sent everything may close its
/// side and listen on: hence the grace.
pub(super) async fn cancel_on_disconnect(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<ClientConnection>().cloned() else {
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

    const QUARTER: Duration = Duration::from_millis(100);

    /// After how many quarters of the grace a caller is taken for gone who is seen as
    /// `looks` say, and stays as it was last.
    async fn quarters_until_gone(looks: &[PeerState]) -> Option<u128> {
        let left = Mutex::new(VecDeque::from(looks.to_vec()));
        let caller = ClientConnection::new(move || {
            let mut left = left.lock().expect("no panic");
            let look = left.pop_front().expect("not empty");
            if left.is_empty() {
                left.push_back(look);
            }
            look
        });
        let began = Instant::now();
        tokio::select! {
            () = caller.gone(4 * QUARTER) => Some(began.elapsed().as_millis() / QUARTER.as_millis()),
            () = tokio::time::sleep(100 * QUARTER) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_gone_when_it_stays_half_closed_or_is_reset() {
        use PeerState::{Closed, HalfClosed, Open};
        assert_eq!(quarters_until_gone(&[Open]).await, None);
        assert_eq!(quarters_until_gone(&[HalfClosed]).await, Some(5));
        assert_eq!(
            quarters_until_gone(&[Open, Open, HalfClosed]).await,
            Some(7)
        );
        assert_eq!(quarters_until_gone(&[Open, Closed]).await, Some(2));
        assert_eq!(quarters_until_gone(&[HalfClosed, Closed]).await, Some(2));
    }
}
