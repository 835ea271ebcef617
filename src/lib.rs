pub mod encoder;
pub mod engine;
pub mod error;
pub mod kernels;
