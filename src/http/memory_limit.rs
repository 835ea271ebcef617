//! The limit on memory for request bodies, over all requests, and the choice of an upload to
//! cancel when it is reached.
//!
//! A few clients that open a large upload and then stall could otherwise hold all of the
//! memory for as long as `--body-timeout-ms` allows, and every other client would be
//! rejected. So while memory is short, the slowest upload is cancelled: the one that has
//! fallen furthest behind the speed at which the largest body arrives in time
//! (`--max-body-bytes` in `--body-timeout-ms`). An upload is not cancelled while memory is
//! left, while it is less than a twentieth of `--body-timeout-ms` behind, or once its body is
//! complete. A fast start does not make up for a later stall, and a trickle does not keep an
//! upload alive.
//!
//! The limit is not per client address, because behind a proxy all clients share one.

use super::error::ApiError;
use crate::config::Limits;
use crate::error::OverloadCause;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// An upload may be behind by one part in this many of the body timeout.
const GRACE: u32 = 20;

/// Limits the memory of request bodies, over all requests.
#[derive(Clone)]
pub(super) struct MemoryLimiter(Arc<Shared>);

struct Shared {
    max_bytes: usize,
    min_bytes_per_second: f64,
    grace: Duration,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// The uploads that are waiting for their client.
    stalled: BTreeMap<u64, Upload>,
    next_id: u64,
}

/// An upload that is waiting for its client.
struct Upload {
    held_bytes: usize,
    /// How far it was behind when the wait began.
    behind: Duration,
    waiting_since: Instant,
    cancel: Arc<Notify>,
}

impl Upload {
    fn behind(&self, now: Instant) -> Duration {
        self.behind + now.saturating_duration_since(self.waiting_since)
    }
}

impl Held {
    /// Cancels the upload that is furthest behind, if one is behind by more than `grace`.
    /// Its memory counts as free immediately, because its task is about to release it.
    fn cancel_slowest(&mut self, grace: Duration) -> bool {
        let now = Instant::now();
        let slowest = self
            .stalled
            .iter()
            .filter(|(_, upload)| upload.held_bytes > 0 && upload.behind(now) >= grace)
            .max_by_key(|(_, upload)| upload.behind(now))
            .map(|(&id, _)| id);
        let Some(upload) = slowest.and_then(|id| self.stalled.remove(&id)) else {
            return false;
        };
        self.bytes -= upload.held_bytes;
        upload.cancel.notify_one();
        true
    }
}

impl MemoryLimiter {
    pub(super) fn from_limits(limits: &Limits) -> Self {
        Self::new(
            limits.max_pending_bytes.get(),
            limits.max_body_bytes.get(),
            Duration::from_millis(limits.body_timeout_ms.get()),
        )
    }

    pub(super) fn new(max_bytes: usize, max_body_bytes: usize, body_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            max_bytes,
            min_bytes_per_second: max_body_bytes as f64 / body_timeout.as_secs_f64(),
            grace: body_timeout / GRACE,
            held: Mutex::default(),
        }))
    }

    /// The number of bytes held now.
    pub(super) fn held_bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// A permit that holds no bytes yet.
    pub(super) fn permit(&self) -> MemoryPermit {
        MemoryPermit {
            limiter: self.clone(),
            bytes: 0,
            started: Instant::now(),
            behind: Duration::ZERO,
            cancelled: false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of one request; released when dropped.
pub(super) struct MemoryPermit {
    limiter: MemoryLimiter,
    bytes: usize,
    started: Instant,
    /// How far the upload is behind the minimum speed.
    behind: Duration,
    cancelled: bool,
}

impl MemoryPermit {
    /// Acquires more bytes if they are free or can be freed by cancelling a slow upload.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let shared = &self.limiter.0;
        let mut held = shared.lock();
        while held.bytes + bytes > shared.max_bytes {
            if !held.cancel_slowest(shared.grace) {
                return Err(ApiError::Overloaded {
                    retry_after: shared.grace,
                    cause: OverloadCause::PendingBytes,
                });
            }
        }
        held.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Acquires what is missing to hold `bytes` in total.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        match bytes.saturating_sub(self.bytes) {
            0 => Ok(()),
            missing => self.grow(missing),
        }
    }

    /// Releases `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.limiter.0.lock().bytes -= bytes;
        self.bytes -= bytes;
    }

    /// Waits for the next `frame` of the body. Fails if other requests need the memory and
    /// this is the slowest upload.
    pub(super) async fn receive<T>(
        &mut self,
        frame: impl Future<Output = T>,
    ) -> Result<T, ApiError> {
        let mut frame = pin!(frame);
        // Most bodies have already arrived.
        if let Poll::Ready(received) = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx))).await {
            return Ok(received);
        }
        let wait = Wait::new(self);
        let received = tokio::select! {
            received = frame => Some(received),
            () = wait.cancel.notified() => None,
        };
        drop(wait);
        match received {
            Some(received) if !self.cancelled => Ok(received),
            _ => Err(ApiError::RequestTimeout {
                milliseconds: self.started.elapsed().as_millis() as u64,
            }),
        }
    }

    /// Records that bytes have arrived, which makes up for time spent waiting.
    pub(super) fn received(&mut self, bytes: usize) {
        let caught_up = bytes as f64 / self.limiter.0.min_bytes_per_second;
        let caught_up = Duration::try_from_secs_f64(caught_up).unwrap_or(Duration::MAX);
        self.behind = self.behind.saturating_sub(caught_up);
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.limiter.0.lock().bytes -= self.bytes;
    }
}

/// While it exists, the upload may be cancelled.
struct Wait<'a> {
    permit: &'a mut MemoryPermit,
    id: u64,
    cancel: Arc<Notify>,
}

impl<'a> Wait<'a> {
    fn new(permit: &'a mut MemoryPermit) -> Self {
        let cancel = Arc::<Notify>::default();
        let mut held = permit.limiter.0.lock();
        let id = held.next_id;
        held.next_id += 1;
        let upload = Upload {
            held_bytes: permit.bytes,
            behind: permit.behind,
            waiting_since: Instant::now(),
            cancel: Arc::clone(&cancel),
        };
        held.stalled.insert(id, upload);
        drop(held);
        Self { permit, id, cancel }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let upload = self.permit.limiter.0.lock().stalled.remove(&self.id);
        match upload {
            Some(upload) => self.permit.behind = upload.behind(Instant::now()),
            // It was cancelled, and its memory already counts as free.
            None => {
                self.permit.cancelled = true;
                self.permit.bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// 100 bytes in all, bodies of 100 bytes in 20 seconds: 5 bytes a second, and a second of
    /// grace.
    fn limiter() -> MemoryLimiter {
        MemoryLimiter::new(100, 100, 20 * SECOND)
    }

    /// An upload that stalls forever after sending `bytes` bytes.
    fn stall(limiter: &MemoryLimiter, bytes: usize) -> tokio::task::JoinHandle<ApiError> {
        let mut permit = limiter.permit();
        permit.grow(bytes).expect("room");
        permit.received(bytes);
        tokio::spawn(async move {
            let received = permit.receive(pending::<()>()).await;
            received.expect_err("nothing ever arrives")
        })
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_uploads_are_cancelled_for_others() {
        let limiter = limiter();
        let stalled: Vec<_> = (0..4).map(|_| stall(&limiter, 25)).collect();
        sleep(SECOND / 2).await;
        let error = limiter.permit().grow(50).expect_err("no upload is late");
        assert!(matches!(error, ApiError::Overloaded { .. }));
        sleep(SECOND / 2).await;
        let mut permit = limiter.permit();
        permit.grow(50).expect("two were cancelled");
        assert_eq!(limiter.held_bytes(), 100);
        let mut cancelled = 0;
        tokio::task::yield_now().await;
        for upload in stalled {
            if upload.is_finished() {
                let error = upload.await.expect("no panic");
                let ApiError::RequestTimeout { milliseconds } = error else {
                    panic!("{error}");
                };
                assert_eq!(milliseconds, 1000);
                cancelled += 1;
            } else {
                upload.abort();
            }
        }
        assert_eq!(cancelled, 2, "no more than needed");
        tokio::task::yield_now().await;
        assert_eq!(limiter.held_bytes(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_counts_as_slow_and_a_steady_upload_does_not() {
        for (bytes, is_cancelled) in [(1, true), (5, false)] {
            let limiter = limiter();
            let mut permit = limiter.permit();
            // A fast start does not make up for what follows.
            permit.grow(60).expect("room");
            permit.received(60);
            let upload = tokio::spawn(async move {
                while permit.receive(sleep(SECOND)).await.is_ok() {
                    permit.received(bytes);
                }
            });
            sleep(SECOND * 7 / 2).await;
            assert_eq!(limiter.permit().grow(50).is_ok(), is_cancelled, "{bytes}");
            upload.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn complete_bodies_are_never_cancelled() {
        let limiter = limiter();
        let mut permit = limiter.permit();
        permit.grow(60).expect("room");
        sleep(100 * SECOND).await;
        assert!(limiter.permit().grow(50).is_err());
        permit.shrink(20);
        assert!(limiter.permit().grow(50).is_ok());
        drop(permit);
        assert_eq!(limiter.held_bytes(), 0);
    }
}
