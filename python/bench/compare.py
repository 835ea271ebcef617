"""Compares the package with what people use instead, on the same posts, one thread each.

    python bench/compare.py POSTS.txt [--model ../model/default] [--rounds 3]

POSTS.txt has a post a line. Each candidate that is installed (`transformers` with `torch`,
`vaderSentiment`, `textblob`) runs in a process of its own, in turns, and the best round counts.
`program` is the package's own command line. Import and first score are from the start of the import, and
peak memory is the whole process's.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def coldread_(model):
    from coldread import Classifier

    imported = time.perf_counter()
    return imported, Classifier().score


def transformers_(model):
    from transformers import pipeline

    imported = time.perf_counter()
    classify = pipeline("text-classification", model=model, device="cpu", torch_dtype="float32", batch_size=32)
    return imported, lambda posts: classify(posts, truncation=True)


def vader(model):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    imported = time.perf_counter()
    score = SentimentIntensityAnalyzer().polarity_scores
    return imported, lambda posts: [score(post) for post in posts]


def textblob(model):
    from textblob import TextBlob

    return time.perf_counter(), lambda posts: [TextBlob(post).sentiment for post in posts]


CANDIDATES = {
    "coldread": (coldread_, "coldread"),
    "transformers": (transformers_, "transformers"),
    "VADER": (vader, "vaderSentiment"),
    "TextBlob": (textblob, "textblob"),
}


def measure(name, path, model):
    """One candidate, in this process."""
    posts = Path(path).read_text(encoding="utf-8").splitlines()
    started = time.perf_counter()
    imported, score = CANDIDATES[name][0](model)
    score([posts[0]])
    first = time.perf_counter()
    # A slow candidate runs on fewer posts, which changes little but the wait.
    score(posts[:100])
    pace = 100 / (time.perf_counter() - first)
    posts = posts[: max(200, int(20 * pace))]
    begun = time.perf_counter()
    score(posts)
    seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"import_ms": 1e3 * (imported - started), "first_ms": 1e3 * (first - imported),
            "posts_s": len(posts) / seconds, "memory_mib": memory}


def program(path):
    """The command line, by the difference of all posts and one."""
    command = [Path(sys.executable).with_name("coldread"), "score", "--output", "csv", "--input"]
    one = path + ".one"
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    Path(one).write_text(lines[0] + "\n", encoding="utf-8")
    seconds = []
    for posts in (one, path):
        begun = time.perf_counter()
        subprocess.run([*command, posts], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    os.unlink(one)
    return {"posts_s": (len(lines) - 1) / (seconds[1] - seconds[0])}


def processor():
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("posts")
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "model/default"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return print(json.dumps(measure(args.measure, args.posts, args.model)))
    names = [name for name, (_, module) in CANDIDATES.items() if find_spec(module)]
    best = {}
    for _ in range(args.rounds):
        for name in names:
            command = [sys.executable, __file__, args.posts, "--model", args.model, "--measure", name]
            run = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | THREADS)
            keep(best, name, json.loads(run.stdout.splitlines()[-1]))
        keep(best, "program", program(args.posts))
    print(f"{processor()}, Python {platform.python_version()}, one thread, best of {args.rounds} rounds\n")
    print("| | posts/s | to coldread's | import | first score after it | peak memory |\n|---|---|---|---|---|---|")
    for name, row in best.items():
        cells = [f"{row['posts_s']:.0f}", f"{row['posts_s'] / best['coldread']['posts_s']:.2f}"]
        cells += [f"{row[key]:.0f} {unit}" if key in row else ""
                  for key, unit in [("import_ms", "ms"), ("first_ms", "ms"), ("memory_mib", "MiB")]]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\ngoals: import 50 ms, first score 20 ms, 0.95 of the program's posts/s, 5 times transformers' (f32, AVX2)")


def keep(best, name, row):
    known = best.setdefault(name, row)
    for key, value in row.items():
        known[key] = (max if key == "posts_s" else min)(known[key], value)


if __name__ == "__main__":
    main()
