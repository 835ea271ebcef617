"""Normalizes the corpora once, as WORK/posts.json: corpus -> [[post, target]].

    python corpora.py --data DIR --work DIR --profile DIR

Writes PROFILE/emoji.tsv first: English words for the emoji that the vocabulary
of multilingual-e5-small lacks, out of the default model's table. Emoji that are
a piece of it stay.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))

from backbone import Backbone, packaged
from normalize import Normalizer
from prepare import read_posts, target_of

LANGUAGES = ("arabic", "french", "german", "hindi", "italian", "portuguese", "spanish")
CORPORA = {
    "english": "tweeteval/train.tsv",
    "english_val": "tweeteval/val.tsv",
    "extraction": "tweet_extraction/train.tsv",
    "reddit": "goemotions/train.tsv",
    "valence": "vader_tweets/tweets.tsv",
    **{name: f"xlm_t/{name}_train.tsv" for name in LANGUAGES},
    **{f"{name}_val": f"xlm_t/{name}_val.tsv" for name in LANGUAGES},
}

# In XLM-T's Hindi files, as they were read, the labels at the beginning are not those of the
# posts beside them: the default model, which knows the English words of such posts, scores
# "negatives" and "positives" alike there, and not behind. Kept of each class is the part behind,
# of which every fifth post is held out; the validation file is not used.
HINDI_FROM = {0: 0.5, 1: 0.63, 2: 0.75}


def sound_hindi(rows):
    """(train, held out) of the rows whose labels are their own."""
    train, held = [], []
    for label, begin in HINDI_FROM.items():
        own = [row for row in rows if int(row[0]) == label]
        own = own[int(len(own) * begin) :]
        held += own[::5]
        train += [row for n, row in enumerate(own) if n % 5]
    return train, held


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("data", "work", "profile"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    pieces = {piece.strip("▁") for piece, _ in Backbone(packaged()).pieces}
    table = (Path(__file__).parents[2] / "default/emoji.tsv").read_text(encoding="utf-8")
    lines = [line for line in table.splitlines() if line.split("\t")[0].replace("\ufe0f", "") not in pieces]
    (args.profile / "emoji.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"words for {len(lines)} of {len(table.splitlines())} emoji")

    normalize = Normalizer.from_folder(args.profile).normalize
    rows = {corpus: read_posts(args.data / path) for corpus, path in CORPORA.items()}
    rows["hindi"], rows["hindi_val"] = sound_hindi(rows["hindi"])
    posts = {
        corpus: [(normalize(post), target_of(corpus, field)) for field, post in labelled]
        for corpus, labelled in rows.items()
    }
    # What a model is judged by must not be trained on, in whatever spelling.
    judged = {post.lower() for name, rows in posts.items() if name.endswith("_val") for post, _ in rows}
    for name, rows in posts.items():
        if not name.endswith("_val"):
            kept = [row for row in rows if row[0].lower() not in judged]
            print(f"{name}: {len(kept)} of {len(rows)} posts")
            posts[name] = kept
    (args.work / "posts.json").write_text(json.dumps(posts), encoding="utf-8")


if __name__ == "__main__":
    main()
