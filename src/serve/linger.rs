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

use crate::http::{ClientConnection, PeerState};
use axum::body::HttpBody;
use hyper::body::{Frame, SizeHint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    /// A part of a body is unread: read on after the write side is shut down.
    body_left: AtomicBool,
    /// The server stops: what the kernel holds is read whether the runtime knows of it
    /// or not.
    stopping: AtomicBool,
}

impl Ending {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The same body, whose end is noticed.
    pub(super) fn watch<B: HttpBody>(self: &Arc<Self>, body: B) -> Watched<B> {
        self.body_left
            .store(!body.is_end_stream(), Ordering::Release);
        let ending = Arc::clone(self);
        Watched { body, ending }
    }
}

/// A body that tells when it has been read to its end.
pub(super) struct Watched<B> {
    body: B,
    ending: Arc<Ending>,
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.ending.body_left.store(false, Ordering::Release);
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

/// A stream that ends as its [`Ending`] says.
pub(super) struct Linger<S> {
    /// Shared with who looks whether the caller is still there. That is the same task, so
    /// that nobody ever waits for it.
    stream: Arc<Mutex<S>>,
    ending: Arc<Ending>,
    write_timeout: Duration,
    /// Until when the client may take nothing, while it does.
    write_deadline: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    discarded_bytes: usize,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S, ending: Arc<Ending>, write_timeout: Duration) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            ending,
            write_timeout,
            write_deadline: None,
            closing: None,
        }
    }

    fn stream(&self) -> MutexGuard<'_, S> {
        lock(&self.stream)
    }

    /// What came of writing, and an error where nothing has come of it for too long.
    fn in_time<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        deadline
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsFd + Send + 'static> Linger<S> {
    /// A way to ask whether the client is still there.
    pub(super) fn caller(&self) -> ClientConnection {
        let stream = Arc::clone(&self.stream);
        ClientConnection::new(move || {
            let stream = lock(&stream);
            let mut fds = [PollFd::new(&*stream, PollFlags::RDHUP)];
            if poll(&mut fds, Some(&Timespec::default())).is_err() {
                return PeerState::Open;
            }
            let seen = fds[0].revents();
            if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
                PeerState::Closed
            } else if seen.contains(PollFlags::RDHUP) {
                PeerState::HalfClosed
            } else {
                PeerState::Open
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream()).poll_write(cx, buf);
        self.in_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream()).poll_write_vectored(cx, bufs);
        self.in_time(written, cx)
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
            if !self.ending.body_left.load(Ordering::Acquire) {
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn pair() -> (TcpStream, Linger<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let (server, _) = listener.accept().expect("accepted");
        let linger = Linger::new(server, Arc::default(), TIMEOUT);
        (client.expect("connected"), linger)
    }

    fn wait_for(caller: &ClientConnection, presence: PeerState) {
        while caller.peer_state() != presence {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_client_is_seen_to_leave_whatever_it_sent_before() {
        let (mut client, server) = pair();
        let caller = server.caller();
        client.write_all(b"GET /next").expect("sent");
        assert_eq!(caller.peer_state(), PeerState::Open);
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        wait_for(&caller, PeerState::HalfClosed);

        // Closed with something unread, which makes a reset of it.
        let (client, server) = pair();
        let caller = server.caller();
        server.stream().write_all(b"an answer").expect("sent");
        client.peek(&mut [0]).expect("it is there");
        drop(client);
        wait_for(&caller, PeerState::Closed);
        assert!(server.stream().read(&mut [0]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_waited_for_in_vain_once() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Linger::new(server, Arc::default(), TIMEOUT);
        let began = Instant::now();
        // It takes some of it, late, and then no more.
        let taken = tokio::spawn(async move {
            tokio::time::sleep(TIMEOUT * 4 / 5).await;
            let mut taken = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut client, &mut taken)
                .await
                .expect("eight bytes");
            client
        });
        let written = server.write_all(&[0; 24]).await;
        let error = written.expect_err("twice eight fit at most");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 2 * TIMEOUT.as_secs() - 1);
        drop(taken.await);
    }

    #[tokio::test]
    async fn only_what_is_left_of_a_body_is_read_on() {
        let ending = Arc::<Ending>::default();
        let is_left = || ending.body_left.load(Ordering::Acquire);
        let body = ending.watch(Body::from("to be read"));
        assert!(is_left());
        body.collect().await.expect("a body");
        assert!(!is_left());
        drop(ending.watch(Body::from("not to be read")));
        assert!(is_left());
        drop(ending.watch(Body::empty()));
        assert!(!is_left());
    }
}
