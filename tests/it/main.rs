//! What the parts do together, seen from outside. One binary, so that it is linked
//! once and the model is loaded once.

mod access;
mod allocations;
mod batching;
mod cli;
mod compat;
mod compression;
mod dashboard;
mod events;
mod events_partial;
mod fake_hub;
mod golden;
mod http_api;
mod http_errors;
mod http_tcp;
mod hub;
mod hub_tls;
mod lambda_events;
mod lambda_runtime;
mod language_models;
mod observability;
mod openapi;
mod rows;
mod sigv4;
mod support;
mod texts;
mod tiny_models;
