//! Cancels requests whose client has disconnected: nobody would read the response.

use super::error::ApiError;
use super::state::AppState;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The state of the client's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It can send and receive.
    Open,
    /// It sends nothing more, and may be waiting for the response or be gone.
    HalfClosed,
    /// It does not receive any more either.
    Closed,
}

/// A way to ask for the [`PeerState`] of a request's client. An adapter that can tell puts
/// it into the request's extensions.
#[derive(Clone)]
pub struct ClientConnection(Arc<dyn Fn() -> PeerState + Send + Sync>);

impl ClientConnection {
    /// A connection whose state `peer_state` returns.
    pub fn new(peer_state: impl Fn() -> PeerState + Send + Sync + 'static) -> Self {
        Self(Arc::new(peer_state))
    }

    /// The state now.
    pub(crate) fn peer_state(&self) -> PeerState {
        (self.0)()
    }

    /// Resolves once the client has closed the connection, or has half-closed it for `grace`,
    /// give or take a quarter.
    async fn disconnected(&self, grace: Duration) {
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

/// Cancels a request when its client disconnects, and with it the posts that still wait.
///
/// A half-close alone is no proof: a client that has sent everything may close its side and
/// wait for the response. Hence the grace period.
pub(super) async fn cancel_on_disconnect(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(client) = request.extensions().get::<ClientConnection>().cloned() else {
        return next.run(request).await;
    };
    let grace = Duration::from_millis(app.limits().half_close_ms.get());
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = client.disconnected(grace) => ApiError::ClientDisconnected.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    const QUARTER: Duration = Duration::from_millis(100);

    /// After how many quarters of the grace period a client counts as disconnected whose
    /// connection goes through `states` and stays in the last.
    async fn quarters_until_disconnected(states: &[PeerState]) -> Option<u128> {
        let left = Mutex::new(VecDeque::from(states.to_vec()));
        let client = ClientConnection::new(move || {
            let mut left = left.lock().expect("no panic");
            let state = left.pop_front().expect("not empty");
            if left.is_empty() {
                left.push_back(state);
            }
            state
        });
        let began = Instant::now();
        tokio::select! {
            () = client.disconnected(4 * QUARTER) => {
                Some(began.elapsed().as_millis() / QUARTER.as_millis())
            }
            () = tokio::time::sleep(100 * QUARTER) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_gone_when_it_stays_half_closed_or_closes() {
        use PeerState::{Closed, HalfClosed, Open};
        assert_eq!(quarters_until_disconnected(&[Open]).await, None);
        assert_eq!(quarters_until_disconnected(&[HalfClosed]).await, Some(5));
        assert_eq!(
            quarters_until_disconnected(&[Open, Open, HalfClosed]).await,
            Some(7)
        );
        assert_eq!(quarters_until_disconnected(&[Open, Closed]).await, Some(2));
        assert_eq!(
            quarters_until_disconnected(&[HalfClosed, Closed]).await,
            Some(2)
        );
    }
}
