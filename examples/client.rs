//! A client in a dozen lines: `cargo run --example client`, while `coldread` serves.

use serde_json::{Value, json};

fn main() -> Result<(), ureq::Error> {
    let server = std::env::args()
        .nth(1)
        .unwrap_or("http://localhost:8080".into());
    let posts = json!({ "texts": ["I love this phone", "battery died after two days"] });
    let mut reply = ureq::post(format!("{server}/v1/sentiment")).send_json(posts)?;
    let scored: Value = reply.body_mut().read_json()?;
    for result in scored["results"].as_array().into_iter().flatten() {
        println!("{} {}", result["label"], result["score"]);
    }
    Ok(())
}
