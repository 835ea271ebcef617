//! What the parts do together, seen from outside. One binary, so that it is linked
//! once and the model is loaded once.

mod access;
mod allocations;
mod batching;
mod bulk;
mod cli;
mod compat;
mod golden;
mod http_api;
mod http_errors;
mod http_tcp;
mod lambda_events;
mod lambda_runtime;
mod observability;
mod sigv4;
mod support;
mod tiny_models;
