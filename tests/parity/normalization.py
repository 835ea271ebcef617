"""Holds model/train/normalize.py to tests/data/normalization_vectors.jsonl.

The service's own tests hold its Rust twin to the same file, so that training
and serving cannot drift apart. Needs nothing beyond Python:

    python3 tests/parity/normalization.py
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests/data/normalization_vectors.jsonl"

sys.path.insert(0, str(ROOT / "model/train"))

from normalize import Normalizer  # noqa: E402


def main():
    normalize = Normalizer.from_folder(ROOT / "model/default").normalize
    vectors = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
    failures = 0
    for number, vector in enumerate(vectors, start=1):
        found = normalize(vector["text"])
        if found != vector["normalized"]:
            failures += 1
            print(f"line {number}: {vector['text']!a}")
            print(f"  expected {vector['normalized']!a}")
            print(f"  found    {found!a}")
    print(f"{len(vectors)} vectors, {failures} failures")
    return 1 if failures or not vectors else 0


if __name__ == "__main__":
    sys.exit(main())
