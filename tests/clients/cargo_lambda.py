#!/usr/bin/env python3
"""A Lambda client and emulator that are not ours: cargo-lambda against the binary.

Starts `cargo lambda watch` (its Runtime API emulator) and the binary on it, sends the
recorded HTTP events with `cargo lambda invoke`, and one request to the emulated Function
URL. The scores must equal, digit for digit, those of the same post over plain HTTP and
on the command line.

    cargo build --release
    python3 tests/clients/cargo_lambda.py [--binary target/release/coldread]

Needs Python 3.9 and, on its first run, PyPI: cargo-lambda goes into a virtual
environment under target/. Everything listens on 127.0.0.1 and is stopped at the end.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

CARGO_LAMBDA = "cargo-lambda==1.9.2"
ROOT = pathlib.Path(__file__).resolve().parents[2]
EVENTS = ROOT / "tests" / "data" / "events"
TEXT = "I love this airline, the crew was wonderful!"  # what the recorded events hold
WAIT_SECONDS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/coldread")
    parser.add_argument("--cargo-lambda", type=pathlib.Path, help="use this one, install none")
    args = parser.parse_args()
    binary = args.binary.resolve()
    cargo_lambda = args.cargo_lambda or install()

    expected = scores_on_command_line(binary)
    print(f"command line    {json.dumps(expected)}")
    check("plain HTTP", scores_over_http(binary), expected)
    with emulator(cargo_lambda, binary) as port:
        for path in sorted(EVENTS.glob("*.json")):
            if TEXT not in path.read_text() and "base64" not in path.stem:
                continue
            if "requestContext" not in path.read_text():
                continue
            reply = invoke(cargo_lambda, port, path)
            assert reply["statusCode"] == 200, (path.stem, reply)
            check(f"invoke {path.stem}", json.loads(reply["body"])["scores"], expected)
        # A queue's event has no sink here and fails, and the next one is served.
        failed = invoke(cargo_lambda, port, EVENTS / "sqs.json", check=False)
        assert failed is None, failed
        url = f"http://127.0.0.1:{port}/lambda-url/_/v1/sentiment"
        check("Function URL", post(url)["scores"], expected)
    print("cargo-lambda, plain HTTP and the command line agree")


def install():
    venv = ROOT / "target" / "cargo-lambda-venv"
    tool = venv / "bin" / "cargo-lambda"
    if not tool.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", CARGO_LAMBDA], check=True)
    return tool


def check(way, scores, expected):
    assert scores == expected, f"{way}: {scores} instead of {expected}"
    print(f"{way}: equal")


def environment(**more):
    """Ours, without what would make the binary take this for Lambda or listen elsewhere."""
    unwanted = ("AWS_LAMBDA_", "COLDREAD_ADDR", "PORT")
    env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    return {**env, **more}


def scores_on_command_line(binary):
    command = [binary, "score", "--output", "jsonl", TEXT]
    out = subprocess.run(command, env=environment(), check=True, capture_output=True).stdout
    return json.loads(out)["scores"]


def scores_over_http(binary):
    env = environment(COLDREAD_ADDR="127.0.0.1:0")
    with process([binary, "serve"], env=env, stdout=subprocess.PIPE, text=True) as server:
        base = server.stdout.readline().strip().removeprefix("listening on ")
        return post(f"{base}/v1/sentiment")["scores"]


def post(url):
    body = json.dumps({"text": TEXT}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as reply:
        return json.load(reply)


@contextlib.contextmanager
def process(command, **options):
    running = subprocess.Popen(command, **options)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def emulator(cargo_lambda, binary):
    """The emulator with the binary connected to it, so that nothing is built again."""
    port = free_port()
    watch = [cargo_lambda, "lambda", "watch", "--only-lambda-apis", "--quiet"]
    watch += ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    with process(watch, cwd=ROOT, stdout=subprocess.DEVNULL):
        wait_for(port)
        env = environment(
            AWS_LAMBDA_RUNTIME_API=f"http://127.0.0.1:{port}/.rt",
            AWS_LAMBDA_FUNCTION_NAME="_",
            AWS_LAMBDA_FUNCTION_MEMORY_SIZE="1769",
            AWS_LAMBDA_FUNCTION_VERSION="1",
        )
        with process([binary], env=env):
            yield port


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def invoke(cargo_lambda, port, event, check=True):
    command = [cargo_lambda, "lambda", "invoke", "--invoke-address", "127.0.0.1"]
    command += ["--invoke-port", str(port), "_", "--data-file", event]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=WAIT_SECONDS)
    if done.returncode != 0:
        assert not check, done.stderr.decode()
        return None
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
