#!/usr/bin/env python3
"""The local Lambda beside AWS's own: the same functions under both, the same answers.

    cargo build --package coldread-loadtest --bins
    python3 loadtest/compare/rie.py [--harness FILE] [--function FILE] [--rie FILE]

A probe sends every kind of request, also the forbidden ones, and notes status codes,
headers and error types; the two notes must be equal. Then a real function (hello-function,
or the one given) must give the same answer to a recorded event under both.

Needs Python 3.9 and, on its first run, PyPI: the emulator comes with aws-sam-cli, of
which nothing else is installed. Everything listens on 127.0.0.1 and is stopped at the end.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAM = "aws-sam-cli==1.170.0"
EVENT = ROOT / "tests" / "data" / "events" / "function_url.json"
INVOCATIONS = 5  # what the probe answers
WAIT_SECONDS = 60
TOO_LARGE = 6 * 1024 * 1024 + 200

# Not compared: the emulator leaves tracing out, and the rest is the HTTP server's own.
IGNORED = {"date", "content-length", "x-content-type-options", "lambda-runtime-trace-id"}
# Headers of an answer that are new each time.
VOLATILE = ("date", "x-request-id", "x-amzn-trace-id", "server-timing")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    debug = ROOT / "target" / "debug"
    parser.add_argument("--harness", type=pathlib.Path, default=debug / "coldread-loadtest")
    parser.add_argument("--function", type=pathlib.Path, default=debug / "hello-function")
    parser.add_argument("--rie", type=pathlib.Path, help="use this one, download none")
    parser.add_argument("--probe", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        return probe(args.probe)
    rie = (args.rie or download()).resolve()

    event = json.loads(EVENT.read_text())
    with tempfile.TemporaryDirectory() as folder:
        notes = [pathlib.Path(folder) / name for name in ("rie", "ours")]
        me = [sys.executable, str(pathlib.Path(__file__).resolve()), "--probe"]
        theirs = under_rie(rie, [*me, str(notes[0])], [event] * INVOCATIONS)
        ours = under_harness(args.harness, [*me, str(notes[1])], [event] * INVOCATIONS)
        compare_notes(*(json.loads(path.read_text()) for path in notes))
        for number, (expected, answer) in enumerate(zip(theirs, ours)):
            assert expected == answer, f"answer {number}: {answer} instead of {expected}"
    print(f"probe: {INVOCATIONS} answers equal")

    function = [str(args.function.resolve())]
    theirs = under_rie(rie, function, [event])
    ours = under_harness(args.harness, function, [event])
    assert theirs == ours, f"{ours} instead of {theirs}"
    print(f"{args.function.name}: the answer is equal")


def compare_notes(theirs, ours):
    assert len(theirs) == len(ours), (len(theirs), len(ours))
    for expected, found in zip(theirs, ours):
        assert expected == found, f"\n  emulator {expected}\n  harness  {found}"
        print(f"{expected['request']}: {expected['status']} {expected['error'] or ''}".rstrip())


def probe(notes):
    """A function that tries what functions may and may not do."""
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    seen = []

    def request(method, path, body=None, headers={}, known=""):
        api.request(method, "/2018-06-01/" + path, body, headers)
        reply = api.getresponse()
        content = reply.read()
        names = {name.lower() for name, _ in reply.getheaders()} - IGNORED
        try:
            error = json.loads(content).get("errorType")
        except (ValueError, AttributeError):
            error = None
        seen.append(
            {
                "request": f"{method} {path.replace(known, 'ID') if known else path}",
                "status": reply.status,
                "headers": sorted(names),
                "type": reply.getheader("content-type"),
                "error": error,
            }
        )
        return reply

    def invocation():
        reply = request("GET", "runtime/invocation/next")
        arn = reply.getheader("lambda-runtime-invoked-function-arn")
        assert arn.startswith("arn:aws:lambda:"), arn
        left_ms = int(reply.getheader("lambda-runtime-deadline-ms")) - time.time() * 1e3
        assert -60_000 < left_ms < 1_000_000, left_ms
        return reply.getheader("lambda-runtime-aws-request-id")

    request("GET", "ping")
    request("GET", "nothing")
    request("POST", "runtime/invocation/next")
    request("GET", "runtime/invocation/x/response")
    request("POST", "runtime/invocation/x/response", "{}")
    # Routes of SnapStart, which the emulator plays as little as the harness without it.
    request("GET", "runtime/restore/next")
    request("POST", "runtime/restore/error", "{}")

    id = invocation()
    request("POST", "runtime/invocation/unknown/response", "{}")
    request("POST", "runtime/init/error", "{}")
    path = f"runtime/invocation/{id}/response"
    request("POST", path, '{"answer": 1}', known=id)
    request("POST", path, '{"answer": 2}', known=id)

    id = invocation()
    failure = '{"errorMessage":"broken","errorType":"Broken"}'
    headers = {"lambda-runtime-function-error-type": "Function.Broken"}
    request("POST", f"runtime/invocation/{id}/error", failure, headers, known=id)

    id = invocation()
    request("POST", f"runtime/invocation/{id}/response", "1" * TOO_LARGE, known=id)

    id = invocation()
    request("POST", f"runtime/invocation/{id}/response", '"text"', known=id)

    id = invocation()
    notes.write_text(json.dumps(seen))
    request("POST", f"runtime/invocation/{id}/response", "[]", known=id)
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    api.getresponse()


def under_rie(rie, command, events):
    """The answers under AWS's emulator, each as bytes."""
    port, api_port = free_port(), free_port()
    rie_command = [
        str(rie),
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{port}",
        "--runtime-api-address",
        f"127.0.0.1:{api_port}",
        *command,
    ]
    with running(rie_command):
        wait_for(port)
        return [invoke(port, event) for event in events]


def invoke(port, event):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
    return parsed(connection.getresponse().read())


def under_harness(harness, command, events):
    lines = "".join(json.dumps(event) + "\n" for event in events)
    done = subprocess.run(
        [str(harness.resolve()), "invoke", "--", *command],
        input=lines.encode(),
        stdout=subprocess.PIPE,
        timeout=WAIT_SECONDS,
    )
    return [parsed(line) for line in done.stdout.splitlines()]


def parsed(answer):
    """An error without its message, which each words in its own way, and without what is new each time."""
    answer = json.loads(answer)
    if isinstance(answer, dict):
        answer.pop("errorMessage", None)
        for headers in ("headers", "multiValueHeaders"):
            for name in VOLATILE:
                (answer.get(headers) or {}).pop(name, None)
    return answer


@contextlib.contextmanager
def running(command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def download():
    folder = ROOT / "target" / "rie"
    arch = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    rie = folder / f"aws-lambda-rie-{arch}"
    if not rie.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        with tempfile.TemporaryDirectory() as wheels:
            subprocess.run([*pip, wheels, SAM], check=True)
            (wheel,) = pathlib.Path(wheels).glob("*.whl")
            content = zipfile.ZipFile(wheel).read(f"samcli/local/rapid/{rie.name}")
        folder.mkdir(parents=True, exist_ok=True)
        rie.write_bytes(content)
        rie.chmod(0o755)
    return rie


if __name__ == "__main__":
    main()
