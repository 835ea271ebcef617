//! The least that a Rust function on Lambda is: `lambda_http`, an axum router and one
//! route. What coldread takes more than this at start is coldread's own.

use axum::routing::any;
use axum::{Json, Router};
use lambda_http::Error;
use serde_json::json;

fn main() -> Result<(), Error> {
    // One event at a time needs one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let router = Router::new().fallback(any(async || Json(json!({ "hello": "world" }))));
    runtime.block_on(lambda_http::run(router))
}
