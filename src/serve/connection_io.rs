//! A socket with two users: the connection, which reads and writes, and the check whether
//! the client is still connected.

use super::peer_state::peer_state;
use crate::http::ClientConnection;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream behind a lock that is never contended: both users run in the connection's task.
///
/// A duplicate descriptor would need none, but would halve the number of connections that
/// the system's limit on open files allows. Neither would an `Arc<TcpStream>`; but its reads
/// do not tell the runtime that the socket is drained, which costs every request a system
/// call, and a system call costs more than this lock.
pub(super) struct ConnectionIo<S>(Arc<Mutex<S>>);

impl<S> ConnectionIo<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsFd + Send + 'static> ConnectionIo<S> {
    /// A way to ask whether the client is still there.
    pub(super) fn client(&self) -> ClientConnection {
        let stream = Arc::clone(&self.0);
        ClientConnection::new(move || {
            peer_state(&*stream.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

impl<S: AsFd> ConnectionIo<S> {
    /// Reads what the kernel holds, whether the runtime has been told of it or not.
    pub(super) fn receive(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unfilled = buf.initialize_unfilled();
        match rustix::net::recv(&*self.lock(), unfilled, RecvFlags::DONTWAIT) {
            Ok((_, bytes)) => {
                buf.advance(bytes);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ConnectionIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ConnectionIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}
