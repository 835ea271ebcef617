"""Normalizes and tokenizes the corpora once.

    python prepare.py --data DIR --work DIR --backbone DIR --profile DIR

writes WORK/<corpus>.npz with `ids` (all posts, concatenated), `offsets` and
`targets` (probabilities of negative, neutral, positive), and prints its size.
"""

import argparse
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from normalize import Normalizer

MAX_TOKENS = 96

CORPORA = {
    "tweets": "tweeteval/train.tsv",
    "val": "tweeteval/val.tsv",
    "extraction": "tweet_extraction/train.tsv",
    "reddit": "goemotions/train.tsv",
    "reddit_dev": "goemotions/dev.tsv",
    "valence": "vader_tweets/tweets.tsv",
}


def read_posts(path):
    """(label field, post) of every line."""
    with open(path, encoding="utf-8", newline="\n") as lines:
        return [tuple(line.rstrip("\n").split("\t", 1)) for line in lines]


def target_of(corpus, field):
    """Label -> probabilities; a mean rating of 2 or more counts as certain."""
    if corpus == "valence":
        strength = max(-1.0, min(1.0, float(field) / 2))
        return [max(-strength, 0.0), 1 - abs(strength), max(strength, 0.0)]
    return np.eye(3)[int(field)].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "work", "backbone", "profile"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    normalize = Normalizer.from_folder(args.profile).normalize
    tokenizer = Tokenizer.from_file(str(args.backbone / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    posts = {
        corpus: [(field, normalize(post)) for field, post in read_posts(args.data / path)]
        for corpus, path in CORPORA.items()
    }
    # What a model is judged by must not be trained on, in whatever spelling.
    judged = {post.lower() for name in ("val", "reddit_dev") for _, post in posts[name]}
    for corpus, rows in posts.items():
        if corpus not in ("val", "reddit_dev"):
            rows = [row for row in rows if row[1].lower() not in judged]
        ids = [encoding.ids for encoding in tokenizer.encode_batch([post for _, post in rows])]
        lengths = np.array([len(post) for post in ids])
        partial = args.work / f"{corpus}.tmp.npz"
        np.savez(
            partial,
            ids=np.concatenate(ids).astype(np.uint16),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            targets=np.array([target_of(corpus, field) for field, _ in rows], dtype=np.float32),
        )
        partial.replace(args.work / f"{corpus}.npz")
        print(f"{corpus}: {len(rows)} of {len(posts[corpus])} posts, {lengths.mean():.1f} tokens")


if __name__ == "__main__":
    main()
