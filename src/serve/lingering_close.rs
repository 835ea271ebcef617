//! Lingering close: the end of a connection, at which no response and no request is lost.
//!
//! Responses: when a request is rejected before its body has been read (too large, wrong
//! type, too slow) and the socket is closed immediately, the kernel resets the connection as
//! soon as more of the body arrives, and the reset makes clients discard the response that
//! they had already received. So the write side is shut down first, and what still arrives
//! is read and discarded for a moment. If no body is left unread, there is nothing to wait
//! for.
//!
//! Requests: when the server is told to stop, the kernel may hold a request that the runtime
//! has not heard of. hyper closes a connection on which it has seen nothing, so during a
//! graceful shutdown the kernel is asked once more.

use super::connection_io::ConnectionIo;
use super::write_timeout::WriteTimeout;
use axum::body::HttpBody;
use hyper::body::{Frame, SizeHint};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The longest time to read on.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes to discard.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// What is known about the end of a connection, shared with its service.
#[derive(Debug, Default)]
pub(super) struct ConnectionEnd {
    /// Part of a body is unread: read on after the write side is shut down.
    body_is_unread: AtomicBool,
    /// The server is shutting down: read what the kernel holds, whether the runtime knows of
    /// it or not.
    shutting_down: AtomicBool,
}

impl ConnectionEnd {
    pub(super) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
    }

    /// The same body, which notes here when it has been read to its end.
    pub(super) fn track<B: HttpBody>(self: &Arc<Self>, body: B) -> TrackedBody<B> {
        self.body_is_unread
            .store(!body.is_end_stream(), Ordering::Release);
        let end = Arc::clone(self);
        TrackedBody { body, end }
    }
}

/// A body that notes when it has been read to its end.
pub(super) struct TrackedBody<B> {
    body: B,
    end: Arc<ConnectionEnd>,
}

impl<B: HttpBody + Unpin> HttpBody for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.end.body_is_unread.store(false, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that closes as its [`ConnectionEnd`] says.
pub(super) struct LingeringClose<S> {
    stream: WriteTimeout<ConnectionIo<S>>,
    end: Arc<ConnectionEnd>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    discarded_bytes: usize,
}

impl<S> LingeringClose<S> {
    pub(super) fn new(stream: WriteTimeout<ConnectionIo<S>>, end: Arc<ConnectionEnd>) -> Self {
        Self {
            stream,
            end,
            closing: None,
        }
    }
}

impl<S: AsyncRead + Unpin> LingeringClose<S> {
    /// Ready when the client has closed its side too, or has had its time.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Box::pin(sleep(LINGER_TIMEOUT)),
            discarded_bytes: 0,
        });
        let mut scratch = [0; 8192];
        while closing.discarded_bytes < MAX_DISCARDED_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => return closing.deadline.as_mut().poll(cx),
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    closing.discarded_bytes += buf.filled().len();
                }
                // The end, or a reset by the client.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for LingeringClose<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() && self.end.shutting_down.load(Ordering::Acquire) {
            return self.stream.get_ref().receive(buf);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.end.body_is_unread.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_discard(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn only_an_unread_body_delays_the_close() {
        let end = Arc::<ConnectionEnd>::default();
        let is_unread = || end.body_is_unread.load(Ordering::Acquire);
        let body = end.track(Body::from("to be read"));
        assert!(is_unread());
        body.collect().await.expect("a body");
        assert!(!is_unread());
        drop(end.track(Body::from("not to be read")));
        assert!(is_unread());
        drop(end.track(Body::empty()));
        assert!(!is_unread());
    }
}
