"""Runs the vendors' clients against a server and prints a table: `tests/clients/run`.

The server is a real one with keys, and its overload is real: `overloaded` keeps its queue
full of long posts until the client was refused, which has to come through all the same.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CLIENT_SECONDS = 300
# Posts of one request, and the number from which on others are refused.
QUEUE = 40


class Server:
    """A server of the binary, with keys, until the end of the `with`."""

    key = "a-key-for-these-tests"
    aws_key = "AKIDCONFORMANCE"
    aws_secret = "secret/with+16=or-more"

    def __init__(self, binary):
        env = {
            "PATH": os.environ["PATH"],
            "COLDREAD_ADDR": "127.0.0.1:0",
            "COLDREAD_LOG": "error",
            "COLDREAD_API_KEYS": self.key,
            "COLDREAD_SIGV4_KEYS": f"{self.aws_key}:{self.aws_secret}",
            "COLDREAD_PUBLIC_METRICS": "true",
            "COLDREAD_MAX_POSTS": str(QUEUE),
            "COLDREAD_MAX_PENDING_POSTS": str(QUEUE),
            "COLDREAD_WORKERS": "1",
            "COLDREAD_REQUEST_TIMEOUT_MS": "300000",
        }
        self.process = subprocess.Popen(
            [binary, "serve"], env=env, stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)

    def post(self, path, body, **headers):
        headers = {"content-type": "application/json", "x-api-key": self.key, **headers}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=300) as reply:
            return json.load(reply)

    def native(self, text):
        """The scores that the native API gives a post."""
        return self.post("/v1/sentiment", {"text": text})["scores"]

    def metrics(self):
        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as reply:
            return reply.read().decode()

    def pending(self):
        """How many posts wait."""
        return int(re.search(r"^coldread_pending_posts (\d+)", self.metrics(), re.MULTILINE)[1])

    def refusals(self):
        """How many requests to other routes than the native one were refused."""
        line = r'^coldread_requests_total\{route="(.*?)",status="(\d+)"\} (\d+)'
        counts = re.findall(line, self.metrics(), re.MULTILINE)
        own = ["/v1/sentiment", "/metrics"]
        return sum(int(n) for route, status, n in counts if route not in own and status >= "400")

    @contextlib.contextmanager
    def overloaded(self):
        """Has the queue full until a request was refused, by which time whoever asks should
        try again; then it is worked off. It is the caller's part to be refused: now and
        then a request finds the one place that has just become free."""
        before = self.refusals()
        began = time.monotonic()
        self.native("so good " * 10)
        # Half a second of work, as far as posts can be as short and as long as that.
        words = 0.5 / QUEUE / ((time.monotonic() - began) / 20)
        body = {"texts": [f"{i} " + "so good " * max(4, min(250, int(words / 2))) for i in range(QUEUE)]}
        enough = threading.Event()

        def fill():
            while not enough.is_set():
                try:
                    self.post("/v1/sentiment", body)
                except urllib.error.HTTPError as error:
                    assert error.code == 429, error
                    time.sleep(0.002)

        def watch():
            deadline = time.monotonic() + CLIENT_SECONDS
            while self.refusals() == before and time.monotonic() < deadline:
                time.sleep(0.02)
            enough.set()

        threads = [threading.Thread(target=f) for f in [fill, fill, watch]]
        for thread in threads[:2]:
            thread.start()
        while self.pending() < QUEUE:
            time.sleep(0.01)
        threads[2].start()
        try:
            yield
            assert self.refusals() > before, "the client was never refused"
        finally:
            enough.set()
            for thread in threads:
                thread.join()


def run(name, case):
    """What went wrong in a case, or None."""
    try:
        case()
        return None
    except Exception as error:  # noqa: BLE001 (a client may raise anything)
        return f"{name}: {type(error).__name__}: {str(error)[:400]}"


def python_clients(server):
    import vendors

    for name, client in vendors.CLIENTS:
        faults = [(case, run(case, f)) for case, f in client(server)]
        yield name, vendors.version(name), faults


def other_client(server, command):
    """A client in another language. It prints a line of JSON a case, and `overload` when
    it wants the server to be overloaded until it has printed the next one."""
    env = {
        "PATH": os.environ["PATH"],
        "NODE_NO_WARNINGS": "1",
        "URL": server.url,
        "KEY": server.key,
        "AWS_ACCESS_KEY_ID": server.aws_key,
        "AWS_SECRET_ACCESS_KEY": server.aws_secret,
    }
    process = subprocess.Popen(
        command, env=env, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    timer = threading.Timer(CLIENT_SECONDS, process.kill)
    timer.start()
    found = {}

    def result():
        line = json.loads(process.stdout.readline())
        faults = found.setdefault((line["client"], line["version"]), [])
        faults.append((line["case"], line["fault"] and f"{line['case']}: {line['fault']}"))
        return faults

    def go():
        process.stdin.write("go\n")
        process.stdin.flush()

    try:
        for line in process.stdout:
            if line.strip() == "overload":
                faults = None
                try:
                    with server.overloaded():
                        go()
                        faults = result()
                except AssertionError as error:
                    if faults is None:
                        raise
                    faults[-1] = ("overload", f"overload: {error}")
            elif line.strip() == "result":
                result()
            else:
                print(line, end="", file=sys.stderr)
    finally:
        timer.cancel()
        process.kill()
        code = process.wait()
    if not found:
        raise SystemExit(f"{command[0]} ended with {code} and no result")
    for (name, version), faults in found.items():
        yield name, version, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--rust", help="the built client of the AWS SDK for Rust")
    args = parser.parse_args()
    with Server(args.binary) as server:
        rows = list(python_clients(server))
        rows += other_client(server, ["node", "clients.mjs"])
        if args.rust:
            rows += other_client(server, [args.rust])
    print(f"{'client':<32} {'version':<12} {'cases':>5} {'passed':>6}")
    faults = []
    for name, version, cases in rows:
        failed = [fault for _, fault in cases if fault]
        print(f"{name:<32} {version:<12} {len(cases):>5} {len(cases) - len(failed):>6}")
        faults += [f"{name}: {fault}" for fault in failed]
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
