//! Sentiment of social posts from a quantized transformer.
//!
//! The problem: a server that is always on costs money while it is idle, and a
//! serverless function with a transformer in it usually takes seconds to start.
//! coldread loads its model in some tens of milliseconds, so that scoring can
//! live where it costs nothing while nobody asks.
//!
//! # The life of a post
//!
//! [`serve`] receives it from a socket or from the Lambda Runtime API, [`http`]
//! checks it, [`batcher`] queues it for a worker thread, [`classifier`] has it
//! turned into token ids ([`text`]), runs an [`engine`] ([`encoder`] on
//! [`kernels`] in int8, or [`mod@reference`] on candle in f32) and makes scores of
//! the logits. `ARCHITECTURE.md` has the map and the invariants.

pub mod batcher;
pub mod classifier;
pub mod config;
pub mod encoder;
pub mod engine;
pub mod error;
pub mod events;
pub mod http;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kernels;
pub mod polarity;
#[cfg(feature = "reference")]
pub mod reference;
pub mod serve;
pub mod telemetry;
pub mod text;
pub mod timings;

use coldread_model::{LoadError, PackedModel};

/// `model/default`, packed by `build.rs`.
#[cfg(feature = "embedded-model")]
fn embedded_model() -> Result<PackedModel, LoadError> {
    /// Aligned as the packed format wants it, and to a page, so that the model
    /// shares none with other data.
    #[repr(C, align(4096))]
    struct Aligned<T: ?Sized>(T);

    static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
        env!("OUT_DIR"),
        "/default.coldread"
    )));
    PackedModel::from_bytes(&MODEL.0)
}

/// A binary without a model has to be told where one is.
#[cfg(not(feature = "embedded-model"))]
fn embedded_model() -> Result<PackedModel, LoadError> {
    Err(LoadError::unsupported(
        std::path::Path::new("coldread"),
        "this binary carries no model; name one with --model or COLDREAD_MODEL",
    ))
}
