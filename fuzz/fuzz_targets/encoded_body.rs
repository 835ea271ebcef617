//! Arbitrary bytes as a compressed body, and compressed ones as bodies: nothing beyond the
//! limit is kept, and what was compressed comes out as it went in.
#![no_main]

use coldread_fuzz::{Service, in_pieces};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::sync::LazyLock;

static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::start(&[]));

fn encode(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    if encoding == "zstd" {
        return zstd::encode_all(bytes, 1).expect("in memory");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("in memory");
    gzip.finish().expect("in memory")
}

fuzz_target!(|data: &[u8]| {
    let [kind, length, body @ ..] = data else { return };
    let encoding = if kind % 2 == 0 { "gzip" } else { "zstd" };
    let media = if kind & 2 == 0 { "text/plain" } else { "application/x-ndjson" };
    let headers = [("content-type", media), ("content-encoding", encoding)];
    let length = usize::from(*length);
    if kind & 4 == 0 {
        SERVICE.post(&headers, in_pieces(body, length));
    } else {
        let plain = SERVICE.post(&headers[..1], body.to_vec());
        let encoded = SERVICE.post(&headers, in_pieces(&encode(encoding, body), length));
        assert_eq!(plain, encoded);
    }
});
