//! The end of a connection, at which neither side's last words are to be lost.
//!
//! The client's: when the server is told to stop, a request may lie in the kernel that
//! the runtime has not been told of yet. hyper closes a connection on which it has seen
//! nothing, so the kernel is asked once more before hyper is told.
//!
//! Between the two it may be asked whether the client is still there ([`Linger::caller`]).
//!
//! The server's: when a request is refused before its body is read (too large, wrong type, too
//! slow) and the socket is closed at once, the kernel resets the connection as soon
//! as more of the body arrives, and the reset makes clients forget the answer that
//! they had already received. So the write side is closed first, and what still
//! comes is read and thrown away for a moment. Where nothing is left unread there
//! is nothing to wait for.

use crate::http::Caller;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long to read on at most.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes to throw away at most.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// What is known of a connection's end, shared with who serves it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// A body was left unread: read on after the write side is shut down.
    pub(super) unread: AtomicBool,
    /// The server stops: what the kernel holds is read whether the runtime knows of it
    /// or not.
    pub(super) stopping: AtomicBool,
}

/// A stream that ends as its [`Ending`] says.
pub(super) struct Linger<S> {
    /// Shared with who looks whether the caller is still there. That is the same task, so
    /// that nobody ever waits for it.
    stream: Arc<Mutex<S>>,
    ending: Arc<Ending>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    discarded_bytes: usize,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S, ending: Arc<Ending>) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            ending,
            closing: None,
        }
    }

    fn stream(&self) -> MutexGuard<'_, S> {
        lock(&self.stream)
    }
}

impl<S: AsFd + Send + 'static> Linger<S> {
    /// A way to look whether the caller's side is closed and all that it sent is read.
    pub(super) fn caller(&self) -> Caller {
        let stream = Arc::clone(&self.stream);
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        Caller::new(move || {
            match rustix::net::recv(&*lock(&stream), &mut [0; 1], flags) {
                Ok((_, bytes)) => bytes == 0,
                Err(Errno::AGAIN | Errno::INTR) => false,
                // A reset, above all.
                Err(_) => true,
            }
        })
    }
}

fn lock<S>(stream: &Mutex<S>) -> MutexGuard<'_, S> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
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
            match Pin::new(&mut *lock(&self.stream)).poll_read(cx, &mut buf) {
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

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream()).poll_read(cx, buf);
        if read.is_pending() && self.ending.stopping.load(Ordering::Acquire) {
            return receive(&*self.stream(), buf);
        }
        read
    }
}

/// Reads what the kernel holds, without the runtime, which has already been asked to
/// wake the caller when more comes.
fn receive(stream: &impl AsFd, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let unfilled = buf.initialize_unfilled();
    match rustix::net::recv(stream, unfilled, RecvFlags::DONTWAIT) {
        Ok((_, bytes)) => {
            buf.advance(bytes);
            Poll::Ready(Ok(()))
        }
        Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut *self.stream()).poll_shutdown(cx))?;
            if !self.ending.unread.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_discard(cx).map(Ok)
    }
}
