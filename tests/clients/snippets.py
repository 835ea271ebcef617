#!/usr/bin/env python3
"""The README's clients, as they stand there, against the binary.

    cargo test --no-run
    python3 tests/clients/snippets.py [--binary target/debug/coldread]

Starts a server on a free port, runs each snippet of the section "Clients" with that port
in the place of 8080, and holds what it prints to what the server answers. The Rust one is
examples/client.rs, which is built beside the binary. Needs curl, Node.js and Python 3.9.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT = "http://localhost:8080"
POSTS = ["I love this phone", "battery died after two days"]
WAIT_SECONDS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/coldread")
    binary = parser.parse_args().binary.resolve()

    section = (ROOT / "README.md").read_text().split("### Clients")[1].split("\n### ")[0]
    snippets = dict(re.findall(r"^```(\w+)\n(.*?)^```", section, re.S | re.M))
    example = (ROOT / "examples" / "client.rs").read_text()
    assert example.split("\n\n", 1)[1] == snippets["rust"], "examples/client.rs is not the README's"
    with server(binary) as base:
        expected = [(r["label"], r["score"]) for r in ask(base)]
        for language, command in {
            "bash": ["bash", "-c"],
            "python": [sys.executable, "-c"],
            "javascript": ["node", "--input-type=module", "--eval"],
            "rust": [binary.parent / "examples" / "client", base],
        }.items():
            if language != "rust":
                assert DEFAULT in snippets[language], language
                command.append(snippets[language].replace(DEFAULT, base))
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=WAIT_SECONDS)
            assert printed(done.stdout) == expected, f"{language}: {done.stdout} instead of {expected}"
            print(f"{language}: as the server answers")


def ask(base):
    body = json.dumps({"texts": POSTS}).encode()
    request = urllib.request.Request(f"{base}/v1/sentiment", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as reply:
        return json.load(reply)["results"]


def printed(output):
    """Labels and scores, from the answer itself or from lines."""
    if output.startswith("{"):
        return [(r["label"], r["score"]) for r in json.loads(output)["results"]]
    lines = [line.split() for line in output.splitlines()]
    return [(label.strip('"'), float(score)) for label, score in lines]


@contextlib.contextmanager
def server(binary):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_LAMBDA_", "COLDREAD_"))}
    command = [binary, "serve", "--addr", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().strip().removeprefix("listening on ")
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
