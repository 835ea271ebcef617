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
