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
mod languages;
mod multilingual;
mod observability;
mod openapi;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod process_image;
mod rows;
mod sigv4;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod snapshot;
mod support;
mod texts;
mod tiny_models;
mod web_engine;
