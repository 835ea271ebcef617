//! The program coldread: command line, server and Lambda function on
//! [`coldread_engine`], which turns posts into scores.
//!
//! The problem: a server that is always on costs money while it is idle, and a
//! serverless function with a transformer in it usually takes seconds to start.
//! coldread loads its model in some milliseconds, so that scoring can live where it
//! costs nothing while nobody asks.
//!
//! # The life of a post
//!
//! [`serve`] receives it from a socket or from the Lambda Runtime API, [`http`]
//! checks it, [`batcher`] queues it for a worker thread, and the engine's classifier
//! scores it. `ARCHITECTURE.md` has the map and the invariants.

#![forbid(unsafe_code)]

pub mod batcher;
pub mod config;
pub mod environment;
pub mod error;
pub mod events;
pub mod http;
#[cfg(feature = "hub")]
pub mod hub;
mod json;
pub mod language;
#[cfg(feature = "candle")]
mod memory;
pub mod model;
pub mod platform;
pub mod rows;
pub mod scorer;
pub mod serve;
pub mod telemetry;
pub mod timings;
mod wire;

/// The examples of the documentation compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/embed.md")]
struct EmbedPage;
