"""Takes layers out of the trained network, and teaches the others what those did.

    python shorten.py --weights WEIGHTS.pt --work DIR --model DIR [--layers 9] [--seed 1]

Layers go one by one, each time the one without which the outputs change least on posts that were
trained on. The layers above the first gap then learn to give the states and the outputs of the whole
network again, on the training posts and on pieces of them; what lies below stays as it is. Goes on
from its checkpoint and writes WORK/dropped.<layers>.json, the choice, which further seeds share, and
WORK/shorter.<layers>.<seed>.pt.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from corpora import LANGUAGES
from finetune import MAX_TOKENS, Corpus, network, predict, scores, shape
from model import COMPUTE
from train import CHECKPOINT_SECONDS, WORDS, Trainer, batches, padded, save, update_average

PLAN = {"rate": 2e-4, "final": 0.0, "warmup": 0.04, "ema": 0.996, "ema_every": 8}
# How often each corpus is read. From the second time on, posts are cut to pieces.
READ = {"english": 0.5, "extraction": 0.2, **{name: 4 for name in LANGUAGES}, "hindi": 10}
# How much of a whole post's target its annotators decide; the whole network decides the rest.
ANNOTATORS = 0.3
# The first posts of each language, to choose layers by. In Hindi all of them are negative.
CHOICE = 24


def layer_names(values, number):
    return [name for name in values if name.startswith(f"bert.encoder.layer.{number}.")]


def without(values, dropped):
    """The weights of the network that lacks some layers."""
    kept = [n for n in range(shape(values)["layers"]) if n not in dropped]
    result = {name: value for name, value in values.items() if not name.startswith("bert.encoder.layer.")}
    for place, number in enumerate(kept):
        for name in layer_names(values, number):
            result[name.replace(f"layer.{number}.", f"layer.{place}.", 1)] = values[name]
    return result


def distance(wanted, logits):
    """Kullback-Leibler divergence, a figure per post."""
    log_wanted = F.log_softmax(wanted, -1)
    return (log_wanted.exp() * (log_wanted - F.log_softmax(logits, -1))).sum(-1)


def choose(values, layers, corpus):
    """The numbers of the layers to do without."""
    whole, dropped = predict(values, corpus), []
    while shape(values)["layers"] - len(dropped) > layers:
        tried = {}
        for number in range(shape(values)["layers"]):
            if number not in dropped:
                logits = predict(without(values, [*dropped, number]), corpus)
                tried[number] = float(distance(whole, logits).mean())
        best = min(tried, key=tried.get)
        dropped.append(best)
        print(f"without {sorted(dropped)}: divergence {tried[best]:.4f}", flush=True)
    return sorted(dropped)


def states(model, x, mask, first):
    """What each layer from `first` on gives; the last gives the state of [CLS] alone."""
    result = []
    for number in range(first, len(model.bert.encoder.layer)):
        x = model.encode(x, mask, number, number + 1)
        result.append(x)
    return result


def error_of_states(wanted, found, mask):
    """The mean square of the differences at tokens, in units of the mean square of what is wanted."""
    tokens = (mask[:, 0, 0, : wanted.shape[1]] == 0)[..., None]
    return (((wanted - found) ** 2) * tokens).sum() / ((wanted**2) * tokens).sum()


def piece(ids, random):
    """A run of a post's tokens, at least half of them, between its first and last mark."""
    inner = ids[1:-1]
    length = random.integers((len(inner) + 1) // 2, len(inner) + 1)
    begin = random.integers(0, len(inner) - length + 1)
    return [ids[0], *inner[begin : begin + length], ids[-1]]


def plan(corpora, random):
    """Steps in random order: (corpus, rows, whether whole)."""
    steps = []
    for name, share in READ.items():
        for turn in range(int(np.ceil(share))):
            order = batches(corpora[name].lengths, random)
            steps += [(name, rows, turn == 0) for rows in order[: int(len(order) * min(share - turn, 1))]]
    return [steps[n] for n in random.permutation(len(steps))]


def train(args, corpora, values, dropped, result):
    teacher = network(len(values[WORDS]), dropout=0.0, **shape(values))
    teacher.load_state_dict(values)
    teacher.to(COMPUTE)
    short = without(values, dropped)
    student = network(len(values[WORDS]), dropout=0.0, **shape(short))
    student.load_state_dict(short)
    first = dropped[0]
    # The layer of the whole network whose states a layer of the short one has to give.
    kept = [n for n in range(shape(values)["layers"]) if n not in dropped]
    match = [following - 1 for following in kept[first + 1 :]] + [shape(values)["layers"] - 1]
    steps = plan(corpora, np.random.default_rng(args.seed))
    fixed = ("bert.embeddings.", *(f"bert.encoder.layer.{n}." for n in range(first)))
    names = [n for n, _ in student.named_parameters() if not n.startswith(fixed)]
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name in names)
    trainer = Trainer(student, set(names), PLAN, len(steps))
    averaged = [m.clone() for m in trainer.masters]
    checkpoint, done = result.with_suffix(".part"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        trainer.restore(state["trainer"])
        averaged, done = state["averaged"], state["done"]
    saved = started = time.monotonic()
    tokens, means = 0, None
    for step in range(done, len(steps)):
        name, rows, whole = steps[step]
        corpus, random = corpora[name], np.random.default_rng((args.seed, step))
        ids = [corpus.ids[r] if whole else piece(corpus.ids[r], random) for r in rows]
        ids, mask = padded(ids, np.array([len(i) for i in ids]))
        with torch.no_grad():
            below = teacher.encode(teacher.embed(F.embedding(ids, values[WORDS]).to(COMPUTE)), mask, 0, first)
            wanted = states(teacher, below, mask, first)
            logits_wanted = teacher.classify(wanted[-1])
        found = states(student, below, mask, first)
        logits = student.classify(found[-1])
        near = sum(error_of_states(wanted[m - first], f, mask) for m, f in zip(match, found)) / len(found)
        alike = distance(logits_wanted, logits).mean()
        loss = near + alike
        if whole and name != "extraction":
            labels = -(corpus.targets[rows] * F.log_softmax(logits + corpus.log_prior, -1)).sum(-1).mean()
            loss = near + (1 - ANNOTATORS) * alike + ANNOTATORS * labels
        loss.backward()
        trainer.step(step)
        update_average(averaged, trainer.masters, PLAN, step)
        tokens += ids.numel()
        now = np.array([float(near.detach()), float(alike.detach())])
        means = now if means is None else 0.98 * means + 0.02 * now
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step == done + 50:
            saved = time.monotonic()
            save({"trainer": trainer.state(), "averaged": averaged, "done": step + 1}, checkpoint)
            speed = tokens / (saved - started)
            print(f"{step + 1}/{len(steps)} states %.4f outputs %.4f {speed:.0f} tokens/s" % tuple(means), flush=True)
    save(short | dict(zip(names, averaged)), result)
    checkpoint.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("weights", "work", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    posts = json.loads((args.work / "posts.json").read_text(encoding="utf-8"))
    values = torch.load(args.weights)
    for name in ("classifier.weight", "classifier.bias"):
        values[name] = values[name][:3].clone()
    result = args.work / f"shorter.{args.layers}.{args.seed}.pt"
    if not result.exists():
        choice = args.work / f"dropped.{args.layers}.json"
        if not choice.exists():
            few = [row for name in ("english", *LANGUAGES) for row in posts[name][:CHOICE]]
            choice.write_text(json.dumps(choose(values, args.layers, Corpus(few, tokenizer))))
        corpora = {name: Corpus(posts[name], tokenizer) for name in READ}
        train(args, corpora, values, json.loads(choice.read_text()), result)
    for weights in (values, torch.load(result)):
        found = []
        for name in ("english", *LANGUAGES):
            corpus = Corpus(posts[f"{name}_val"], tokenizer)
            found.append(scores(predict(weights, corpus), corpus.targets))
            print(f"{shape(weights)['layers']} layers, {name}: macro F1 %.3f, macro recall %.3f" % found[-1], flush=True)
        print(f"{shape(weights)['layers']} layers, mean but English: macro F1 {np.mean([f for f, _ in found[1:]]):.4f}", flush=True)


if __name__ == "__main__":
    main()
