"""Trains the network on with the labels of teachers, and on posts that nobody labelled.

    python distil.py --data DIR --work DIR --start DIR [--seed 1]

`teach.sh` writes what the teachers say: WORK/<corpus>.<teacher>.jsonl, a line per post of
WORK/<corpus>.txt. START is the model folder to go on from, whose profile normalizes the posts. A post's
label is what the teachers' mean logarithms of probabilities give; a tweet that annotators labelled too
gets the mean of both. Now and then a post is changed in a way that leaves its sentiment as
it is, under the label of the unchanged post. Goes on from its checkpoint, and writes the mean of the
weights that it began and ended with (arXiv:2109.01903) to WORK/distil.<seed>.pt. No bias is fitted.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F

from evaluate import calibration_error
from model import COMPUTE, LAYERS, Classifier
from normalize import Normalizer
from prepare import MAX_TOKENS, read_posts
from train import WORDS, batches, fit, macro_recall, padded, save

TEACHERS = ("default", "multilingual")
LABELS = ("negative", "neutral", "positive")
PLAN = {"epochs": 1.0, "rate": 6e-5, "final": 0.0, "warmup": 0.06, "ema": 0.998, "ema_every": 8}
# How much of a labelled tweet's target the annotators decide.
ANNOTATORS = 0.5


def misspelled(word, chance):
    """Two letters swapped, one missing, or one drawn out."""
    at = chance.randrange(1, len(word) - 1)
    return chance.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] * 3 + word[at + 1 :],
        )
    )


def augmented(post, chance):
    """Spelling, punctuation, handles and links change; the sentiment does not."""
    if chance.random() < 0.15:
        post = post.replace("'", "")
    if chance.random() < 0.1:
        post = re.sub(r"@user ?", "", post)
    elif chance.random() < 0.1:
        post = f"@user {post}"
    if chance.random() < 0.1:
        post = re.sub(r"\bhttp\b ?", "", post)
    elif chance.random() < 0.1:
        post = f"{post} http"
    words = post.split(" ")
    if chance.random() < 0.3:
        place = chance.randrange(len(words))
        word = words[place]
        if word.isascii() and word.isalpha() and len(word) > 3 and word != "http":
            words[place] = misspelled(word, chance)
    return " ".join(words) or post


def taught(work, corpus):
    """The teachers' mean logarithms of probabilities, a row per post."""
    total = 0
    for teacher in TEACHERS:
        with open(work / f"{corpus}.{teacher}.jsonl", encoding="utf-8") as lines:
            rows = [json.loads(line)["scores"] for line in lines]
        total = total + torch.tensor([[row[label] for label in LABELS] for row in rows]).clamp(min=1e-6).log()
    return total / len(TEACHERS)


class Corpus:
    """Normalized posts, their tokens and targets; `log_prior` is what the targets' classes favour."""

    def __init__(self, posts, targets, log_prior, tokenizer):
        self.posts, self.targets, self.log_prior, self.tokenizer = posts, targets, log_prior, tokenizer
        self.ids = [encoding.ids for encoding in tokenizer.encode_batch(posts)]
        self.lengths = np.array([len(ids) for ids in self.ids])

    def batch(self, rows, chance=None):
        """Token ids and mask; with `chance`, of augmented posts."""
        ids = [self.ids[r] for r in rows]
        if chance is not None:
            changed = [augmented(self.posts[r], chance) for r in rows]
            ids = [encoding.ids for encoding in self.tokenizer.encode_batch(changed)]
        return padded(ids, np.array([len(i) for i in ids]))


def load_corpora(args, tokenizer):
    """The labelled tweets, the unlabelled posts and the validation tweets."""
    normalize = Normalizer.from_folder(args.start).normalize
    eye = torch.eye(3)

    def labelled(name):
        rows = read_posts(args.data / f"tweeteval/{name}.tsv")
        return [normalize(post) for _, post in rows], eye[[int(label) for label, _ in rows]]

    def chosen(posts, targets, log_prior):
        keep = [n for n, post in enumerate(posts) if post.lower() not in judged]
        return Corpus([posts[n] for n in keep], targets[keep], log_prior, tokenizer)

    val_posts, val_targets = labelled("val")
    judged = {normalize(p).lower() for _, p in read_posts(args.data / "goemotions/dev.tsv")}
    judged |= {post.lower() for post in val_posts}
    posts, hard = labelled("train")
    prior = hard.mean(0).log()
    soft = (taught(args.work, "tweets") + prior).softmax(1)
    tweets = chosen(posts, ANNOTATORS * hard + (1 - ANNOTATORS) * soft, prior)
    with open(args.work / "free.txt", encoding="utf-8", newline="\n") as lines:
        posts = [normalize(line.rstrip("\n")) for line in lines]
    free = chosen(posts, taught(args.work, "free").softmax(1), torch.zeros(3))
    return [tweets, free], Corpus(val_posts, val_targets, None, tokenizer)


@torch.no_grad()
def predict(values, corpus):
    """Logits."""
    model = Classifier(dropout=0.0)
    model.load_state_dict(values)
    model.to(COMPUTE)
    logits = torch.empty(len(corpus.ids), 3)
    order = np.argsort(corpus.lengths, kind="stable")
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        ids, mask = corpus.batch(rows)
        x = model.embed(F.embedding(ids, values[WORDS]).to(COMPUTE))
        logits[rows] = model.classify(model.encode(x, mask, 0, LAYERS))
    return logits


def report(name, values, val):
    logits = predict(values, val)
    recall = macro_recall(logits.argmax(1), val.targets)
    error = calibration_error(logits, val.targets.argmax(1))
    print(f"{name}: macro recall {recall:.4f}, calibration error {error:.4f}", flush=True)


def train(args, corpora, values, val, result):
    order = np.random.default_rng(args.seed)
    steps = [(c, rows) for c in corpora for rows in batches(c.lengths, order)]
    steps = [steps[n] for n in order.permutation(len(steps))]

    def loss_of_step(step, forward):
        corpus, rows = steps[step]
        logits = forward(*corpus.batch(rows, random.Random(args.seed * 1_000_003 + step)))
        return -(corpus.targets[rows] * F.log_softmax(logits + corpus.log_prior, -1)).sum(-1).mean()

    end = args.work / f"end.{args.seed}.pt"
    if not end.exists():
        fit(values, Classifier(), PLAN, args.seed, end, len(steps), loss_of_step)
    trained = torch.load(end)
    report("end", trained, val)
    save({name: torch.lerp(values[name], trained[name], 0.5) for name in values}, result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("data", "work", "start"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(args.start / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    corpora, val = load_corpora(args, tokenizer)
    values = {name: value.float() for name, value in load_file(args.start / "model.safetensors").items()}
    result = args.work / f"distil.{args.seed}.pt"
    if not result.exists():
        report("start", values, val)
        train(args, corpora, values, val, result)
    report(result.stem, torch.load(result), val)


if __name__ == "__main__":
    main()
