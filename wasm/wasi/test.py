"""The program in wasmtime beside the native one: test.py BINARY, from the root of the repository, after `wasm/build`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from wasmtime import Engine, ExitTrap, Linker, Module, Store, WasiConfig

binary = sys.argv[1]
module = None


def run(model, posts):
    """(exit code, lines, errors) of the program on these bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "posts").write_bytes(posts)
        config = WasiConfig()
        config.argv = ["coldread-wasi", *([model.name] if model else [])]
        if model:
            config.preopen_dir(str(model.parent), ".")
        config.stdin_file = str(scratch / "posts")
        config.stdout_file = str(scratch / "out")
        config.stderr_file = str(scratch / "err")
        store = Store(engine)
        store.set_wasi(config)
        code = 0
        try:
            linker.instantiate(store, module).exports(store)["_start"](store)
        except ExitTrap as trap:
            code = trap.code
        return code, (scratch / "out").read_bytes().splitlines(), (scratch / "err").read_text()


engine = Engine()
linker = Linker(engine)
linker.define_wasi()
module = Module.from_file(engine, "wasm/target/coldread-wasi.wasm")

with tempfile.TemporaryDirectory() as scratch:
    model = Path("wasm/target/coldread/default.coldread").resolve()
    golden = Path("tests/data/golden_posts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in golden]
    posts = [text for text in texts if not any(end in text for end in "\r\n\x0b\x0c\x85\u2028\u2029")]
    body = "\n".join([*posts, "", "x" * 3_000_000, "so good\r"]).encode() + b"\nnot \xff UTF-8"
    code, lines, errors = run(model, body)
    assert (code, errors) == (0, ""), errors
    rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == list(range(1, len(posts) + 5))
    native = subprocess.run([binary, "score", "--output", "jsonl"], input="\n".join(posts).encode(), check=True, capture_output=True)
    for row, expected in zip(rows, map(json.loads, native.stdout.splitlines())):
        assert row.get("label") == expected.get("label") and row.get("scores") == expected.get("scores"), (row, expected)
        assert row.get("error", {}).get("code") == expected.get("error", {}).get("code")
    empty, long, good, odd = rows[len(posts) :]
    assert (empty["error"]["code"], long["error"]["code"]) == ("empty_text", "text_too_long")
    assert good["label"] == "positive" and "label" in odd

    cut = Path(scratch) / "cut.coldread"
    cut.write_bytes(model.read_bytes()[:5_000_000])
    for wrong in (cut, Path(scratch) / "missing.coldread", None):
        code, lines, errors = run(wrong, b"so good\n")
        assert code == 1 and not lines and errors.startswith("error: "), (wrong, code, errors)
    print(f"{len(posts)} posts in wasmtime: the native program's scores")
