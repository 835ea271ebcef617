# Commands of everyday work; `just` lists them. Each is one line that also works by hand.

_default:
    @just --list

# What CI runs.
check:
    bash .ci/run

# The quick loop: format, lints, tests.
test:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings
    cargo test --workspace

# Speed of this machine: kernels, engine, mixed posts.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Regenerates the golden logits after the model in model/default has changed.
golden:
    python3 tests/parity/golden.py

# The long tests of the server, some minutes: a table of measurements beside goals. Needs two idle cores.
stress *ARGS:
    cargo build --release --bin coldread
    cargo run --release -p coldread-loadtest --example stress -- {{ARGS}}

# schemathesis against a live server, 200 examples an operation; needs Python.
openapi *ARGS:
    tests/openapi/run {{ARGS}}

# The pages in a real browser; needs Node.js and Chromium.
page *ARGS:
    tests/page/run {{ARGS}}

# The documentation: spelling, links, words, and the book in target/book.
docs:
    tests/docs/run

# The Python wheel, and its tests in a fresh environment; needs Python.
wheel *ARGS:
    python/build {{ARGS}}
    python/test

# The npm package, and its tests from the tarball; needs Node.js.
npm:
    cargo build
    wasm/build target/debug/coldread
    wasm/test/run target/debug/coldread

# The program for WASI, and its test in wasmtime; needs Python.
wasi: npm
    wasm/wasi/build
    wasm/wasi/test target/debug/coldread

# The page as a static site in wasm/target/site, which scores in the tab, and its test; needs Node.js and Chromium.
site: npm
    wasm/site/build
    tests/page/run target/debug/coldread

# The npm package beside onnxruntime-web and the native program; needs benches/peers' Python packages and Chromium.
bench-npm *ARGS:
    cargo build --release
    wasm/build target/release/coldread
    wasm/bench/run target/release/coldread {{ARGS}}

# The container image: `just image`, `just image --arch all`; needs docker, or Debian and root.
image *ARGS:
    container/build {{ARGS}}

# The image as each platform runs it: `just smoke`, `just smoke --arch amd64,arm64`.
smoke *ARGS:
    container/smoke {{ARGS}}

# No message of a queue is lost: the AWS build, Moto's SQS and a poller. About 5 minutes, mostly building.
queues *ARGS:
    cargo build --workspace --bin coldread --features coldread/aws --target-dir target/aws
    python3 tests/clients/sqs.py --binary target/aws/debug/coldread {{ARGS}}
