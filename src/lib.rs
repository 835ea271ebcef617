pub mod engine;
pub mod error;
