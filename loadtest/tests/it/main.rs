//! The harness against functions that do not do as they should.

mod command_line;
mod faults;
mod lifecycle;
mod load;
mod runtime_api;
mod snapstart;
mod support;
mod texts;
#[cfg(feature = "tls")]
mod tls;
