#!/usr/bin/env python3
"""The README's clients and the commands of docs/, as they are there, with the binary.

    cargo test --no-run
    python3 tests/clients/snippets.py [--binary target/debug/coldread]

Starts a server on a free port, runs each snippet of the section "Clients" with that port
in the place of 8080, and compares what it prints with the server's response. The Rust one is
examples/client.rs, which is built beside the binary.

In docs/, every line that begins with `$ ` in a block after the comment `<!-- run -->` is run, the
lines of a page in one folder, with the binary as `coldread` and with the server's port in the place
of 8080. Each must succeed; JSON that the page shows below a command must be what it prints.
Needs curl, gzip, Node.js and Python 3.9.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
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
            print(f"{language}: as the server responds")
        for page in sorted((ROOT / "docs").rglob("*.md")):
            run_page(page, binary, base)


def run_page(page, binary, base):
    blocks = re.findall(r"^<!-- run -->\n```console\n(.*?)^```", page.read_text(), re.S | re.M)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(binary, pathlib.Path(folder, "coldread"))
        environment = {**clean_environment(), "PATH": f"{folder}:{os.environ['PATH']}"}
        for step in re.split(r"^\$ ", "".join(blocks), flags=re.M)[1:]:
            command, _, shown = step.partition("\n")
            script = "set -o pipefail; " + command.replace("localhost:8080", base.removeprefix("http://"))
            done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=WAIT_SECONDS)
            name = f"{page.relative_to(ROOT)}: {command}"
            assert done.returncode == 0 and '"error":{' not in done.stdout.split('"results"')[0], f"{name}: {done}"
            if shown.startswith("{") and "..." not in shown:
                assert alike(json.loads(shown), json.loads(done.stdout)), f"{name}: {done.stdout} instead of {shown}"
            print(name)


def alike(shown, printed):
    """Whether two documents are equal, with scores to two digits: packing the model anew moves the others."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(alike(value, printed[key]) for key, value in shown.items())
    if isinstance(shown, float) and isinstance(printed, float):
        return abs(shown - printed) < 0.005
    return shown == printed


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
    command = [binary, "serve", "--addr", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().strip().removeprefix("listening on ")
    finally:
        process.terminate()
        process.wait(10)


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_LAMBDA_", "COLDREAD_"))}


if __name__ == "__main__":
    main()
