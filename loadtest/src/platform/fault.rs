//! What can go wrong with an invocation. Faults are counted by kind and never enter
//! a latency figure.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// The kinds of fault, told apart by what was seen from outside.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The program could not be started at all.
    Launch,
    /// It exited before it asked for its first event.
    InitCrash,
    /// It reported to `init/error`.
    InitError,
    /// It did not ask for an event within the init limit.
    InitTimeout,
    /// Of a snapshot it asked for an event, and never for its restore.
    NoRestore,
    /// It reported to `restore/error`.
    RestoreError,
    /// It did not ask for an event within the restore limit.
    RestoreTimeout,
    /// It did not answer in time, nor shortly after.
    Hang,
    /// It answered, but after the deadline: on Lambda, its client has disconnected.
    Late,
    /// Its response was not what was asked for.
    Garbage,
    /// Its response was above 6 MB, or above 200 MB if it was streamed.
    TooLarge,
    /// It reported to `invocation/{id}/error`.
    FunctionError,
    /// The kernel killed it at its memory limit.
    OutOfMemory,
    /// It exited before it answered.
    Exit,
    /// No instance was free and none could be added: status 429 on Lambda.
    Throttled,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch => "not started",
            Self::InitCrash => "crash in init",
            Self::InitError => "error in init",
            Self::InitTimeout => "init timeout",
            Self::NoRestore => "no restore asked for",
            Self::RestoreError => "error in restore",
            Self::RestoreTimeout => "restore timeout",
            Self::Hang => "hang",
            Self::Late => "late response",
            Self::Garbage => "invalid response",
            Self::TooLarge => "response too large",
            Self::FunctionError => "function error",
            Self::OutOfMemory => "out of memory",
            Self::Exit => "exit",
            Self::Throttled => "throttled",
        })
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Fault {
    /// Which kind it was.
    pub kind: FaultKind,
    /// What was seen, for people.
    pub detail: String,
    /// What the function itself posted about it.
    pub posted: Option<Bytes>,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: FaultKind, detail: impl fmt::Display) -> Self {
        Self {
            kind,
            detail: detail.to_string(),
            posted: None,
        }
    }

    /// What Lambda gives to the client instead of a response.
    pub fn answer(&self) -> Bytes {
        if let Some(posted) = &self.posted {
            return posted.clone();
        }
        let error_type = match self.kind {
            FaultKind::Launch => "Runtime.InvalidEntrypoint",
            FaultKind::InitError => &self.detail,
            FaultKind::InitCrash | FaultKind::Exit => "Runtime.ExitError",
            FaultKind::InitTimeout | FaultKind::Hang | FaultKind::Late => "Sandbox.Timedout",
            FaultKind::NoRestore | FaultKind::RestoreError => "SnapStartException",
            FaultKind::RestoreTimeout => "SnapStartTimeoutException",
            FaultKind::OutOfMemory => "Runtime.OutOfMemory",
            FaultKind::TooLarge => "Function.ResponseSizeTooLarge",
            FaultKind::Throttled => "TooManyRequestsException",
            FaultKind::Garbage | FaultKind::FunctionError => "Unhandled",
        };
        json!({ "errorType": error_type, "errorMessage": self.to_string() })
            .to_string()
            .into()
    }
}

/// Number of faults by kind; kinds that did not happen are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FaultCounts(pub BTreeMap<FaultKind, u64>);

impl FaultCounts {
    /// Counts one fault.
    pub fn count(&mut self, kind: FaultKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// All faults together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self
            .0
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        f.write_str(&counts.join(", "))
    }
}
