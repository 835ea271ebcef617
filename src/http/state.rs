//! What all handlers share.

use super::error::ApiError;
use super::memory_limit::MemoryLimiter;
use super::web_engine::WebEngine;
use crate::batcher::Batcher;
use crate::config::{Access, Compat, Limits};
use crate::telemetry::Emf;
use coldread_engine::polarity::Polarities;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every handler shares. Clones are handles to the same state.
#[derive(Clone)]
pub struct AppState(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) batcher: Batcher,
    pub(super) limits: Limits,
    pub(super) access: Access,
    pub(super) compat: Compat,
    /// The polarities of the model's labels, if they are sentiments.
    pub(super) polarities: Option<Polarities>,
    pub(super) emf: Option<Emf>,
    pub(super) compress: bool,
    pub(super) web_engine: Option<WebEngine>,
    /// For bodies that are being read, and for posts that wait for their results.
    pub(super) memory: MemoryLimiter,
    pub(super) draining: AtomicBool,
}

/// The options of the router.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// The limits for requests.
    pub limits: Limits,
    /// Who may send requests.
    pub access: Access,
    /// The formats of other services.
    pub compat: Compat,
    /// CloudWatch metrics, if any.
    pub emf: Option<Emf>,
    /// Whether responses are compressed for clients that accept it.
    pub compress: bool,
    /// What the page needs to score in the browser, if it may.
    pub web_engine: Option<WebEngine>,
}

impl From<Limits> for AppOptions {
    fn from(limits: Limits) -> Self {
        Self {
            limits,
            access: Access::default(),
            compat: Compat::default(),
            emf: None,
            compress: true,
            web_engine: None,
        }
    }
}

impl AppState {
    /// A state that is ready for requests, because a [`Batcher`] has a loaded model.
    pub fn new(batcher: Batcher, options: impl Into<AppOptions>) -> Self {
        let AppOptions {
            limits,
            access,
            compat,
            emf,
            compress,
            web_engine,
        } = options.into();
        Self(Arc::new(Shared {
            polarities: Polarities::from_model(batcher.model()),
            batcher,
            memory: MemoryLimiter::from_limits(&limits),
            limits,
            access,
            compat,
            emf,
            compress,
            web_engine,
            draining: AtomicBool::new(false),
        }))
    }

    /// The limits for requests.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Makes `/readyz` fail from now on, so that new traffic goes elsewhere. Requests that still
    /// arrive are served until the server stops.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// The batcher, which also has the metrics.
    pub(crate) fn batcher(&self) -> &Batcher {
        &self.0.batcher
    }

    /// CloudWatch metrics, if any.
    pub(crate) fn emf(&self) -> Option<&Emf> {
        self.0.emf.as_ref()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// During a graceful shutdown, replaces "overloaded" with "shutting down": waiting for this
    /// instance does not help, but another one may have room.
    pub(super) fn adjust_for_shutdown(&self, error: ApiError) -> ApiError {
        match error {
            ApiError::Overloaded { .. } if self.is_draining() => ApiError::ShuttingDown,
            other => other,
        }
    }
}
