//! One thread of the client: its connections, its part of the requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::{Notify, Semaphore};
use tokio::task::LocalSet;

use super::client::Client;
use super::load::Load;
use super::pacer::Pacer;
use super::record::ThreadRecord;
use crate::interrupt;

/// Requests that wait for a connection or a response, at most; more say that the
/// server has stopped, and would only fill memory.
const MOST_PENDING: usize = 100_000;
/// Connections that are opened at once: after a stall, one that becomes free is sooner
/// there than a hundred new ones, whose opening would make the client still later.
const MOST_CONNECTING: usize = 8;
/// Due requests sent before the answers get their turn.
const IN_A_ROW: u32 = 32;

/// Which thread of a run it is.
#[derive(Clone, Copy)]
pub(super) struct Thread {
    /// Counted from zero.
    pub(super) index: usize,
    /// Seed of the whole run's arrivals.
    pub(super) seed: u64,
    /// When the run starts.
    pub(super) start: Instant,
}

/// Runs one thread of the client until `load` is done.
pub(super) fn run(
    client: &Client,
    load: &Load,
    thread: Thread,
    progress: &AtomicU64,
) -> Result<ThreadRecord> {
    let Thread { index, seed, start } = thread;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let worker = Rc::new(Worker {
        client: client.clone(),
        record: RefCell::new(ThreadRecord::new()),
        idle: RefCell::new(Vec::new()),
        permits: Semaphore::new((client.connections / client.threads).max(1)),
        connecting: Cell::new(0),
        freed: Notify::new(),
        pending: Cell::new(0),
        done: Notify::new(),
        next_body: Cell::new(index),
        answered: Cell::new(0),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let shown = progress;
        let work = async {
            match load {
                Load::Open(schedule) => {
                    let times = schedule.times(seed).skip(index).step_by(client.threads);
                    worker.clone().open_loop(times, start).await
                }
                Load::Closed { callers, length } => {
                    let share = (index..*callers).step_by(client.threads).count();
                    worker.clone().closed_loop(share, start, *length).await;
                    Ok(())
                }
            }
        };
        let report = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                shown.fetch_add(worker.answered.take(), Ordering::Relaxed);
            }
        };
        tokio::select! {
            result = work => result,
            () = report => Ok(()),
        }
    })?;
    let mut record = worker.record.replace(ThreadRecord::new());
    record.elapsed = start.elapsed();
    Ok(record)
}

struct Worker {
    client: Client,
    record: RefCell<ThreadRecord>,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    permits: Semaphore,
    connecting: Cell<usize>,
    /// Told when a connection is free or one more may be opened.
    freed: Notify,
    pending: Cell<usize>,
    done: Notify,
    next_body: Cell<usize>,
    answered: Cell<u64>,
}

impl Worker {
    async fn open_loop(
        self: Rc<Self>,
        times: impl Iterator<Item = u64>,
        start: Instant,
    ) -> Result<()> {
        let pacer = Pacer::new()?;
        let mut in_a_row = 0;
        for time in times {
            let due = start + Duration::from_nanos(time);
            if due > Instant::now() {
                in_a_row = 0;
                if !pacer.until(due).await? {
                    break;
                }
            } else {
                in_a_row += 1;
                if in_a_row % IN_A_ROW == 0 {
                    tokio::task::yield_now().await;
                }
                if interrupt::asked() {
                    break;
                }
            }
            if self.pending.get() >= MOST_PENDING {
                let mut record = self.record.borrow_mut();
                record.sent += 1;
                record.fault(format!("not sent, {MOST_PENDING} waiting"));
                continue;
            }
            self.pending.set(self.pending.get() + 1);
            let worker = self.clone();
            tokio::task::spawn_local(async move {
                // Here and not before: waiting for this task's turn is the client's fault too.
                worker.record.borrow_mut().late(due.elapsed());
                worker.request(due).await;
                worker.pending.set(worker.pending.get() - 1);
                if worker.pending.get() == 0 {
                    worker.done.notify_one();
                }
            });
        }
        while self.pending.get() > 0 {
            self.done.notified().await;
        }
        Ok(())
    }

    async fn closed_loop(self: Rc<Self>, callers: usize, start: Instant, length: Duration) {
        let until = start + length;
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let worker = self.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep_until(start.into()).await;
                    while Instant::now() < until && !interrupt::asked() {
                        if !worker.request(Instant::now()).await {
                            // A server that refuses is not to be hammered.
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            let _ = caller.await;
        }
    }

    /// Sends one request that was due at `due`; whether it was answered with 200.
    async fn request(&self, due: Instant) -> bool {
        let index = self.next_body.get();
        self.next_body.set(index + self.client.threads);
        let body = self.client.bodies.get(index);
        self.record.borrow_mut().sent += 1;
        let deadline = due + self.client.timeout;
        let answer = tokio::time::timeout_at(deadline.into(), self.exchange(body)).await;
        let latency = due.elapsed();
        self.answered.set(self.answered.get() + 1);
        let mut record = self.record.borrow_mut();
        match answer {
            Ok(Ok(StatusCode::OK)) => {
                record.answer(latency);
                return true;
            }
            Ok(Ok(status)) => record.fault(format!("status {}", status.as_u16())),
            Ok(Err(kind)) => record.fault(kind),
            Err(_elapsed) => record.fault("no response in time".to_owned()),
        }
        false
    }

    /// One exchange on a free or a new connection.
    async fn exchange(&self, body: Bytes) -> Result<StatusCode, String> {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let (sender, was_reused) = self.connection().await?;
        match self.send(sender, body.clone()).await {
            // The server closed a kept connection before the request reached it.
            Err(error) if was_reused && error.is_canceled() => {
                let sender = self.connect().await?;
                self.send(sender, body).await
            }
            result => result,
        }
        .map_err(|_| "connection broken".to_owned())
    }

    /// A free connection, or a new one; and whether it was used before.
    async fn connection(&self) -> Result<(SendRequest<Full<Bytes>>, bool), String> {
        loop {
            if let Some(sender) = self.ready_connection() {
                return Ok((sender, true));
            }
            if self.connecting.get() < MOST_CONNECTING {
                return Ok((self.connect().await?, false));
            }
            self.freed.notified().await;
        }
    }

    fn ready_connection(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let _connecting = Connecting::new(self);
        self.record.borrow_mut().connections += 1;
        self.client
            .endpoint
            .connect()
            .await
            .map_err(|unreachable| unreachable.to_string())
    }

    async fn send(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        body: Bytes,
    ) -> hyper::Result<StatusCode> {
        let request = self.client.endpoint.request(body);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        // Free again once the connection's task has seen the end of the body.
        if sender.ready().await.is_ok() {
            self.idle.borrow_mut().push(sender);
            self.freed.notify_one();
        }
        Ok(status)
    }
}

/// Counts a connection that is being opened, also when its request has timed out.
struct Connecting<'a>(&'a Worker);

impl<'a> Connecting<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.connecting.set(worker.connecting.get() + 1);
        Self(worker)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
        self.0.freed.notify_one();
    }
}
