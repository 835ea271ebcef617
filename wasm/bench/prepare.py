"""Writes what wasm/bench/bench.mjs measures on: ONNX files and posts with their token ids."""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "model/default"
sys.path.insert(0, str(ROOT / "benches/peers"))

import export  # noqa: E402
import peers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("--input", type=Path, help="label<TAB>post or one post a line; the golden posts if left out")
parser.add_argument("--posts", type=int, default=200)
parser.add_argument("--rounds", type=int, default=5)
arguments = parser.parse_args()

failed = export.export(MODEL, arguments.out / peers.model_hash(MODEL), [], {"int8", "int8-fused"})
if failed:
    sys.exit(f"no ONNX files: {failed}")
posts, texts = peers.read_posts(arguments.input, arguments.posts, MODEL)
tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(128)
ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
(arguments.out / "posts.json").write_text(json.dumps({
    "posts": posts, "ids": ids, "rounds": arguments.rounds, "onnx": peers.model_hash(MODEL),
}))
(arguments.out / "posts.txt").write_text("\n".join(posts) + "\n", encoding="utf-8")
