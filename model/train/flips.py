"""How often a small change of a post turns its label, and what it costs: the card's table.

    python flips.py --coldread PROGRAM --data DIR MODEL...

Each MODEL is a packed model. Changes the posts of two labelled sets, one change at a time, always in the same
way, and prints the share of changed posts that get another label, and the macro recall of all.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

from distil import LABELS, misspelled
from prepare import read_posts

SETS = ("tweeteval/val", "goemotions/dev")


def one_typo(post, chance):
    words = post.split(" ")
    places = [n for n, word in enumerate(words) if word.isascii() and word.isalpha() and len(word) > 3]
    if places:
        place = chance.choice(places)
        words[place] = misspelled(words[place], chance)
    return " ".join(words)


CHANGES = {
    "none": lambda post, _: post,
    "one word misspelled": one_typo,
    "no apostrophes": lambda post, _: post.replace("'", ""),
    "a link at the end": lambda post, _: f"{post} https://t.co/ab12",
    "a handle at the start": lambda post, _: f"@someone {post}",
    "lower case, no full stop": lambda post, _: post.lower().rstrip("."),
}


def labels_of(program, model, posts):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", suffix=".txt") as file:
        file.writelines(f"{post}\n" for post in posts)
        file.flush()
        command = [program, "score", "--model", model, "--input", file.name, "--format", "text", "--output", "jsonl"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(posts)
    scores = [json.loads(line)["scores"] for line in lines]
    return [max(LABELS, key=row.__getitem__) for row in scores]


def macro_recall(wanted, found):
    hits = [sum(w == f == label for w, f in zip(wanted, found)) / wanted.count(label) for label in LABELS]
    return sum(hits) / len(hits)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--coldread", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    args = parser.parse_args()
    print("| model | set | change | posts changed | other label | macro recall |\n|---|---|---|---|---|---|")
    for name in SETS:
        rows = read_posts(args.data / f"{name}.tsv")
        wanted, posts = [LABELS[int(label)] for label, _ in rows], [post for _, post in rows]
        for change, function in CHANGES.items():
            chance = random.Random(3)
            changed = [function(post, chance) for post in posts]
            where = [n for n, post in enumerate(posts) if changed[n] != post]
            for model in args.models:
                found = labels_of(args.coldread, model, changed)
                if change == "none":
                    shares = ""
                else:
                    before = labels_of(args.coldread, model, posts)
                    shares = f"{sum(found[n] != before[n] for n in where) / len(where):.1%}"
                print(f"| {Path(model).stem} | {name} | {change} | {len(where):,} | {shares} | {macro_recall(wanted, found):.4f} |", flush=True)


if __name__ == "__main__":
    main()
