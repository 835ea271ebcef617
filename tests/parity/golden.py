"""Writes tests/data/golden.jsonl: what transformers makes of our own posts.

The posts are tests/data/golden_posts.jsonl, written for this project. For each
the file gets the normalised text, its token ids and its logits in float32, one
post at a time so that no padding can touch them. The service's tests hold both
engines to it. Run it again whenever model/default changes, with the Python that
model/train/requirements.txt describes:

    python tests/parity/golden.py            write the file
    python tests/parity/golden.py --check    compare with it, change nothing
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSTS = ROOT / "tests/data/golden_posts.jsonl"
GOLDEN = ROOT / "tests/data/golden.jsonl"
MAX_TOKENS = 512

# Other CPUs and library versions add in another order.
LOGIT_TOLERANCE = 1e-4

sys.path.insert(0, str(ROOT / "model/train"))

from normalize import Normalizer  # noqa: E402


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(model_folder):
    """Every golden post with its normalised text, token ids and logits."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    normalize = Normalizer.from_folder(model_folder).normalize
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, dtype=torch.float32)
    model.eval()
    results = []
    with torch.inference_mode():
        for post in read_lines(POSTS):
            normalized = normalize(post["text"])
            inputs = tokenizer(
                normalized, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            logits = model(**inputs).logits[0].tolist()
            results.append(
                {
                    "text": post["text"],
                    "normalized": normalized,
                    "input_ids": inputs["input_ids"][0].tolist(),
                    # Nine digits give a float32 back exactly.
                    "logits": [float(f"{logit:.9g}") for logit in logits],
                }
            )
    return results


def difference(found, golden):
    """What differs between two results of one post, None if nothing does."""
    for field in ("text", "normalized", "input_ids"):
        if found[field] != golden[field]:
            return field
    pairs = list(zip(found["logits"], golden["logits"], strict=True))
    worst = max(abs(a - b) for a, b in pairs)
    return f"logits by {worst:.2g}" if worst > LOGIT_TOLERANCE else None


def check(results):
    """Compares with the committed file; the exit status."""
    golden = read_lines(GOLDEN)
    failures = abs(len(results) - len(golden))
    if failures:
        print(f"{len(results)} posts, but {len(golden)} golden ones")
    for number, pair in enumerate(zip(results, golden), start=1):
        what = difference(*pair)
        if what:
            failures += 1
            print(f"line {number}: {what}")
    print(f"{len(golden)} golden posts, {failures} failures")
    return 1 if failures else 0


def write(results):
    partial = GOLDEN.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8", newline="") as out:
        out.writelines(json.dumps(result) + "\n" for result in results)
    os.replace(partial, GOLDEN)
    longest = max(len(result["input_ids"]) for result in results)
    print(f"{len(results)} golden posts, the longest {longest} tokens")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    parser.add_argument("--model", type=Path, default=ROOT / "model/default", help="model folder")
    options = parser.parse_args()
    results = score(options.model)
    return check(results) if options.check else write(results)


if __name__ == "__main__":
    sys.exit(main())
