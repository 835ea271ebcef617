//! The harness against functions that do not do as they should.

mod faults;
mod lifecycle;
mod load;
mod runtime_api;
mod support;
