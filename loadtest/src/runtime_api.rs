//! The Lambda Runtime API, version 2018-06-01, as the platform serves it to one
//! instance of a function.
//!
//! A function polls `next` until an event comes, and posts its response under the
//! event's request id. Each instance has a server of its own on a loopback port,
//! as each sandbox has on Lambda, so a poll needs no further identification.
//!
//! Every step is stamped when the request's head has been read, answers once more
//! when their last byte has: nothing else of the harness runs in between.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. Status
//! codes and error bodies are those of AWS's own Runtime Interface Emulator, which
//! `loadtest/compare/rie.py` checks.

mod routes;
mod state;
pub(crate) mod streamed;

pub use state::{
    CompletedInvocation, Identity, Init, InvocationOutcome, MAX_RESPONSE_BYTES, MAX_STREAMED_BYTES,
    Restore,
};

use crate::clock::Moment;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use state::{InFlight, Invocation, Phase, Shared, lock};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

/// A Runtime API for one instance. Dropping it closes the port and all connections.
pub struct RuntimeApi {
    addr: SocketAddr,
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Invocation>,
    init: Option<oneshot::Receiver<Init>>,
    server: AbortHandle,
}

impl RuntimeApi {
    /// Opens a port on 127.0.0.1 and serves it on the current runtime.
    pub async fn bind(identity: Identity) -> io::Result<Self> {
        Self::open(identity, false).await
    }

    /// The same for an instance of which a snapshot is taken (SnapStart): it may ask for
    /// its restore, and is told of it with [`Self::restore`].
    pub async fn bind_for_snapshot(identity: Identity) -> io::Result<Self> {
        Self::open(identity, true).await
    }

    async fn open(identity: Identity, snapshot: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let (init_sender, init) = oneshot::channel();
        let shared = Arc::new(Shared {
            identity,
            waiting: tokio::sync::Mutex::new(waiting),
            invocations: Mutex::default(),
            phase: Mutex::new(Phase::Init {
                ended: init_sender,
                snapshot,
            }),
            snapshot,
            restored: watch::Sender::new(false),
            polls: watch::Sender::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            addr,
            shared,
            queue,
            init: Some(init),
            server,
        })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for the end of the init phase. It ends once: a second call waits forever.
    pub async fn init(&mut self) -> Init {
        if let Some(init) = &mut self.init
            && let Ok(init) = init.await
        {
            self.init = None;
            return init;
        }
        std::future::pending().await
    }

    /// Answers the poll of `restore/next`. What the function does until its next poll is
    /// received; an instance that waits for an event already has nothing to do.
    pub fn restore(&self) -> oneshot::Receiver<Restore> {
        let (sender, ended) = oneshot::channel();
        let mut phase = lock(&self.shared.phase);
        if *self.shared.polls.borrow() > 0 {
            *phase = Phase::Running;
            let _ = sender.send(Restore::Ready(Moment::now()));
        } else {
            *phase = Phase::Restoring(sender);
        }
        self.shared.restored.send_replace(true);
        ended
    }

    /// Queues an event for the next poll; it may be there before the function is, as
    /// the event that causes a cold start is. The deadline it is given with lies
    /// `timeout` after its delivery.
    pub fn submit(&self, event: Bytes, timeout: Duration) -> Submitted {
        let request_id = uuid::Uuid::new_v4().to_string();
        let (sender, answer) = oneshot::channel();
        let in_flight = InFlight {
            delivered: None,
            answer: sender,
        };
        lock(&self.shared.invocations)
            .in_flight
            .insert(request_id.clone(), in_flight);
        let invocation = Invocation {
            trace_id: trace_id(),
            request_id: request_id.clone(),
            timeout,
            event,
        };
        // The receiver lives as long as `self.shared`.
        let _ = self.queue.send(invocation);
        Submitted { request_id, answer }
    }

    /// Waits until at least one poll is open: the function has done its work and can
    /// be frozen.
    pub async fn polled(&self) {
        let mut polls = self.shared.polls.subscribe();
        // The sender lives as long as `self.shared`.
        let _ = polls.wait_for(|&open| open > 0).await;
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An event on its way.
pub struct Submitted {
    /// The id it is, or will be, delivered under.
    pub request_id: String,
    /// Resolves when the function has answered; fails when the API is dropped before.
    pub answer: oneshot::Receiver<CompletedInvocation>,
}

/// Accepts connections until it is aborted, and drops them with it.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        // Out of descriptors, or reset before it was accepted.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let at = Moment::now();
                routes::answer(Arc::clone(&shared), request, at)
            });
            // A function that breaks off mid-request is the instance's matter.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// `Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0`.
fn trace_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let seconds = crate::clock::unix_ms() / 1000;
    let parent = uuid::Uuid::new_v4().simple().to_string();
    format!(
        "Root=1-{seconds:08x}-{};Parent={};Sampled=0",
        &random[..24],
        &parent[..16]
    )
}
