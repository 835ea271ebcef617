//! Plain HTTP/1.1 on a TCP socket.
//!
//! An accept loop of its own rather than `axum::serve`, which has no time limit for
//! a request's head, no limit on connections and no bound on how long it drains.

use super::connection_io::ConnectionIo;
use super::lingering_close::{ConnectionEnd, LingeringClose};
use super::write_timeout::WriteTimeout;
use super::{ServeError, stop_signal};
use crate::http::{AppState, app};
use crate::timings::{self, Phase};
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service;

/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on `addr`, prints one line on standard output that says so, and serves until
/// the process is told to stop.
pub(super) async fn run(addr: SocketAddr, state: AppState) -> Result<(), ServeError> {
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|source| ServeError::Bind { addr, source })?;
    // Before anyone can know that the server is there.
    let stop = stop_signal()?;
    state.batcher().metrics().ready();
    timings::mark(Phase::Ready);
    announce(listener.local_addr()?)?;
    Server::new(state).run(listener, stop).await
}

/// The only line on standard output. Scripts that ask for port 0 read it.
fn announce(addr: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on http://{addr}")?;
    stdout.flush()
}

/// How every connection is served.
#[derive(Clone)]
struct Protocol {
    router: Router,
    http: http1::Builder,
    write_timeout: Duration,
}

struct Server {
    state: AppState,
    protocol: Protocol,
    connections: Arc<Semaphore>,
    /// Set at shutdown. Every connection holds a receiver for as long as it lives.
    stopping: watch::Sender<bool>,
}

impl Server {
    fn new(state: AppState) -> Self {
        let mut http = http1::Builder::new();
        // A client that has closed its side may still read the response; the application
        // decides for how long it is served.
        http.half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(state.limits().head_timeout_ms.get()));
        let protocol = Protocol {
            router: app(state.clone()),
            http,
            write_timeout: Duration::from_millis(state.limits().write_timeout_ms.get()),
        };
        Self {
            protocol,
            connections: Arc::new(Semaphore::new(state.limits().max_connections.get())),
            stopping: watch::Sender::new(false),
            state,
        }
    }

    async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                (stream, permit) = self.accept(&listener) => self.spawn(stream, Some(permit)),
            }
        }
        self.drain(listener).await;
        Ok(())
    }

    /// The next connection, as soon as there is room for it.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return (stream, permit),
                // The client disconnected before the connection was accepted.
                Err(e) if is_connection_error(&e) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// `permit` is missing during shutdown, when the backlog is served whatever its length.
    fn spawn(&self, stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
        let protocol = self.protocol.clone();
        let stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            protocol.serve(stream, stopping).await;
            drop(permit);
        });
    }

    /// Graceful shutdown: serves what was accepted, including the kernel's backlog, and
    /// nothing more.
    async fn drain(self, listener: TcpListener) {
        self.state.start_draining();
        // Ask the kernel: the runtime only knows of connections whose event it has seen, and
        // closing the listener would reset the others.
        if let Ok(listener) = listener.into_std() {
            while let Some(accepted) = backlog(&listener) {
                match accepted {
                    Ok(stream) => {
                        let permit = Arc::clone(&self.connections).try_acquire_owned();
                        self.spawn(stream, permit.ok());
                    }
                    Err(error) => tracing::error!(%error, "cannot accept a connection"),
                }
            }
        }
        let grace = Duration::from_millis(self.state.limits().drain_grace_ms);
        tracing::info!(grace_ms = grace.as_millis() as u64, "stopping");
        self.stopping.send_replace(true);
        if tokio::time::timeout(grace, self.stopping.closed())
            .await
            .is_err()
        {
            tracing::warn!(
                "connections were closed: their requests took longer than the grace period"
            );
        }
    }
}

/// The next connection in the kernel's backlog; `None` if it is empty.
fn backlog(listener: &std::net::TcpListener) -> Option<io::Result<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let nonblocking = stream.set_nonblocking(true);
                return Some(nonblocking.and_then(|()| TcpStream::from_std(stream)));
            }
            Err(e) if is_connection_error(&e) || e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Resolves at shutdown, or when the server is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

impl Protocol {
    async fn serve(self, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
        // Responses are small and written in one piece; waiting for more only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let io = ConnectionIo::new(stream);
        let client = io.client();
        let end = Arc::<ConnectionEnd>::default();
        let io = LingeringClose::new(WriteTimeout::new(io, self.write_timeout), Arc::clone(&end));
        let tracked = Arc::clone(&end);
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(|body| Body::new(tracked.track(body)));
            request.extensions_mut().insert(client.clone());
            self.router.clone().call(request)
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stopping) => {
                end.shut_down();
                // Poll once more, so that hyper knows of every request that has arrived.
                match poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            // Clients disconnect all the time.
            tracing::debug!(%error, "a connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io::Read;
    use std::net::TcpStream as Client;

    fn protocol(router: Router) -> Protocol {
        Protocol {
            router,
            http: http1::Builder::new(),
            write_timeout: Duration::from_mins(1),
        }
    }

    /// A request that arrives as the server stops, before the runtime is notified of its bytes.
    #[tokio::test]
    async fn a_request_not_yet_seen_at_shutdown_gets_a_response() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let mut client = Client::connect(addr).expect("connected");
        write!(client, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
        // The bytes are in the kernel by the time the stream is given to the runtime,
        // which has had no chance to look.
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        let stream = TcpStream::from_std(stream).expect("registered");
        let router = Router::new().route("/", get(|| async { "response" }));
        let (_stop, stopping) = watch::channel(true);
        protocol(router).serve(stream, stopping).await;

        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("readable");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.ends_with("response"), "{reply}");
    }

    /// A client that sends nothing does not delay the shutdown.
    #[tokio::test]
    async fn an_idle_connection_ends_at_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let mut client = Client::connect(addr).expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(protocol(Router::new()).serve(stream, stopping));
        tokio::task::yield_now().await;
        stop.send_replace(true);
        stop.closed().await;
        served.await.expect("no panic");
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    }
}
