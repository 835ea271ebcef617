//! Closing a connection so that the client gets to read the last answer.
//!
//! When a request is refused before its body is read (too large, wrong type, too
//! slow) and the socket is closed at once, the kernel resets the connection as soon
//! as more of the body arrives, and the reset makes clients forget the answer that
//! they had already received. So the write side is closed first, and what still
//! comes is read and thrown away for a moment. Where nothing is left unread there
//! is nothing to wait for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long to read on at most.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes to throw away at most.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// A stream that, if `unread` says so, reads on after its write side is shut down.
pub(super) struct Linger<S> {
    stream: S,
    unread: Arc<AtomicBool>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    discarded_bytes: usize,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S, unread: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            unread,
            closing: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Linger<S> {
    /// Ready when the client has closed too, or has had its chance.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Box::pin(sleep(LINGER)),
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
                // The end, or a reset by the other side.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
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
            if !self.unread.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_discard(cx).map(Ok)
    }
}
