//! Arbitrary bytes as rows of NDJSON or CSV: the answer is the same however they are cut
//! into pieces, and its rows are counted without a gap.
#![no_main]

use coldread_fuzz::{Service, in_pieces};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::start(&[]));

fuzz_target!(|data: &[u8]| {
    let [kind, length, body @ ..] = data else { return };
    let media = if kind % 2 == 0 { "application/x-ndjson" } else { "text/csv" };
    let headers = [("content-type", media), ("accept", "application/x-ndjson")];
    let (status, whole) = SERVICE.post(&headers, body.to_vec());
    assert_eq!(status, 200);
    let (_, pieces) = SERVICE.post(&headers, in_pieces(body, usize::from(*length)));
    assert_eq!(whole, pieces);
    let lines = whole.split(|&byte| byte == b'\n').filter(|it| !it.is_empty());
    let rows: Vec<Value> = lines
        .map(|line| serde_json::from_slice(line).expect("a JSON value a line"))
        .collect();
    for (i, row) in rows.iter().enumerate() {
        // A body that cannot be read as rows ends with an error that is no row's.
        let is_refusal = i + 1 == rows.len() && row["row"].is_null() && row["error"].is_object();
        assert!(is_refusal || row["row"] == i + 1);
        assert!(row["label"].is_string() != row["error"].is_object());
    }
});
