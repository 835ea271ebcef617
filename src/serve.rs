//! The sources of requests: Lambda's Runtime API or a TCP socket. Both are thin adapters around
//! the same [`crate::http::app`].

mod connection_io;
pub mod lambda;
mod lingering_close;
mod peer_state;
mod tcp;
mod write_timeout;

use crate::batcher::Batcher;
use crate::config::{Config, ConfigError};
use crate::http::{AppOptions, AppState, WebEngine};
use crate::telemetry::{Emf, EmfOutput, service_name, stdout_without_waiting};
use std::io;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};

/// Why serving did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings do not make sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is in use or not local.
    #[error("cannot listen on {addr}: {source}; choose another with --addr or COLDREAD_ADDR")]
    Bind {
        /// The configured address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system rejected another operation.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
    /// Lambda's environment is not complete.
    #[error("AWS_LAMBDA_RUNTIME_API is set, but {0} is not; Lambda sets both")]
    LambdaEnv(&'static str),
    /// The Runtime API is unreachable or sent an unexpected response.
    #[error("the Lambda runtime stopped: {0}")]
    Lambda(lambda_runtime::Error),
}

/// Serves until told to stop: on Lambda if this is Lambda, else over HTTP.
///
/// The model is loaded by now, which on Lambda is the init phase.
pub async fn serve(config: &Config, batcher: Batcher) -> Result<(), ServeError> {
    config.check()?;
    let env = |name: &str| std::env::var(name).ok();
    let function_name = || env("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let namespace = config.emf_namespace.clone().filter(|name| !name.is_empty());
    // The guard flushes pending output when serving ends.
    let (emf, _guard) = match namespace {
        None => (None, None),
        Some(namespace) => {
            let (output, guard) = if lambda::is_lambda() {
                (EmfOutput::Stdout, None)
            } else {
                let (writer, guard) = stdout_without_waiting();
                (EmfOutput::Thread(writer), Some(guard))
            };
            let emf = Emf::new(output, namespace, function_name(), service_name(env));
            (Some(emf), guard)
        }
    };
    let web_engine = match config.web_engine.as_deref() {
        Some(folder) if !lambda::is_lambda() => Some(WebEngine::open(folder, batcher.models())?),
        _ => None,
    };
    let options = AppOptions {
        limits: config.limits.clone(),
        access: config.access.resolve()?,
        compat: config.compat.resolve(env)?,
        emf,
        compress: !lambda::is_lambda(),
        web_engine,
    };
    let state = AppState::new(batcher, options);
    if lambda::is_lambda() {
        let options = config.events.resolve()?;
        lambda::run(state, &options, config.lambda_response_mode).await
    } else {
        let addr = config.resolve_addr(env)?;
        tcp::run(addr, state).await
    }
}

/// Handles SIGTERM and SIGINT; the future resolves at the first of either. Without a handler they
/// would be ignored as process 1 of a container, and elsewhere would kill the process.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
