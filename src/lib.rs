pub mod batcher;
pub mod classifier;
pub mod engine;
pub mod error;
pub mod reference;
pub mod text;
