//! What the connections of an instance's server and their owner share.

use crate::clock::Moment;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Largest response that is accepted: 6 MB and what the emulator grants beyond them.
pub const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024 + 100;

/// Largest streamed response: Lambda's 200 MB.
pub const MAX_STREAMED_BYTES: usize = 200 * 1024 * 1024;

/// How an invocation ended, in the function's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvocationOutcome {
    /// Posted to `response`.
    Response(Bytes),
    /// Posted to `response` in streaming mode.
    Streamed {
        /// Whether the content type says that status and headers go ahead of the body.
        is_http: bool,
        /// All of it.
        body: Bytes,
    },
    /// Posted to `error`: the type its header names, and the body.
    Error(String, Bytes),
    /// A response above [`MAX_RESPONSE_BYTES`], or a streamed one above [`MAX_STREAMED_BYTES`].
    TooLarge,
}

/// One answered invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedInvocation {
    /// When the event was given to a poll.
    pub delivered: Moment,
    /// When the response's last byte had been read.
    pub answered: Moment,
    /// What it said.
    pub outcome: InvocationOutcome,
}

/// How the init phase ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// The first poll of `next`.
    Ready(Moment),
    /// The poll of `restore/next`: a snapshot may be taken.
    Snapshot(Moment),
    /// A report to `init/error`: when, its type and the body.
    Failed(Moment, String, Bytes),
}

/// How the restore of a snapshot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restore {
    /// The first poll of `next` after it.
    Ready(Moment),
    /// A report to `restore/error`: when, its type and the body.
    Failed(Moment, String, Bytes),
}

/// What an instance is at, as far as its start is concerned.
pub(super) enum Phase {
    /// Its init phase, at whose end a snapshot is taken or is not.
    Init {
        ended: oneshot::Sender<Init>,
        snapshot: bool,
    },
    /// It is a snapshot.
    Snapshot,
    /// It has been restored and works off its hooks.
    Restoring(oneshot::Sender<Restore>),
    /// Its start is over.
    Running,
}

impl Phase {
    /// As AWS's error bodies name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Init { .. } => "Initializing",
            Self::Snapshot => "Snapshot",
            Self::Restoring(_) => "Restoring",
            Self::Running => "Running",
        }
    }
}

/// What identifies the function towards its instances.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `arn:aws:lambda:...`, as on each event.
    pub function_arn: String,
}

/// An event that waits for a poll, or for its response.
pub(super) struct Invocation {
    pub(super) request_id: String,
    pub(super) trace_id: String,
    pub(super) timeout: Duration,
    pub(super) event: Bytes,
}

pub(super) struct InFlight {
    pub(super) delivered: Option<Moment>,
    pub(super) answer: oneshot::Sender<CompletedInvocation>,
}

/// By request id.
#[derive(Default)]
pub(super) struct Invocations {
    pub(super) in_flight: HashMap<String, InFlight>,
    /// A second answer to it is rejected in other words than one to an unknown id.
    pub(super) last_answered: Option<String>,
}

/// What the server's connections and its owner share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    pub(super) invocations: Mutex<Invocations>,
    pub(super) phase: Mutex<Phase>,
    /// Whether a snapshot is taken of it: without one there are no routes for restores.
    pub(super) snapshot: bool,
    /// Whether a snapshot has been restored.
    pub(super) restored: watch::Sender<bool>,
    pub(super) polls: watch::Sender<usize>,
}

/// A map entry is inserted or removed whole: a panic elsewhere leaves it sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
