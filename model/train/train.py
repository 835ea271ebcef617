"""The training stages.

    python train.py first  --work DIR --backbone DIR --rank 0|1
    python train.py freeze --work DIR --rank 0|1|2
    python train.py second --work DIR --round 1|2 --seed 1|2|3
    python train.py third  --work DIR --seed 1|2|3

`first`: one epoch over all corpora together, each with its own three outputs,
because their annotators drew the line between neutral and the rest elsewhere.
Two processes, one core each, train on halves of the data and average their
weights now and then: cheaper than two threads meeting after every product.

`freeze`: what the lowest layers, final from here on, make of every tweet,
written once so that the second stage need not compute it per seed and epoch.

`second`: the layers above on tweets alone, once per seed.  Its second round goes
on, more briefly, from the mean of the weights that the first left.

`third`: the whole network on tweets, once per seed, from the mean of the second
round's weights: what the frozen layers kept it from learning.

Every stage goes on from its checkpoint, and does nothing once its result exists.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.nn import functional as F

from model import COMPUTE, HIDDEN, LAYERS, Classifier

CORPORA = ["tweets", "extraction", "reddit", "valence"]
FROZEN_LAYERS = 3
FREEZE_WORKERS = 3
BATCH = 32
SMOOTHING = 0.05
CHECKPOINT_SECONDS = 120
WORDS = "bert.embeddings.word_embeddings.weight"

FIRST = {"rate": 1.5e-4, "final": 0.25, "warmup": 0.06, "workers": 2, "average_every": 40}
SEEDS = (1, 2, 3)
ROUNDS = {
    1: {"epochs": 1.0, "rate": 8e-5, "final": 0.0, "warmup": 0.09, "ema": 0.997, "ema_every": 4},
    2: {"epochs": 0.4, "rate": 5e-5, "final": 0.0, "warmup": 0.09, "ema": 0.99, "ema_every": 4},
}
THIRD = {"epochs": 1.0, "rate": 8e-5, "final": 0.0, "warmup": 0.06, "ema": 0.998, "ema_every": 8}


class Corpus:
    """Tokenized posts with targets and the frequency of each class."""

    def __init__(self, work, name):
        with np.load(work / f"{name}.npz") as stored:
            self.ids = stored["ids"].astype(np.int64)
            self.offsets = stored["offsets"]
            self.targets = torch.from_numpy(stored["targets"])
        self.lengths = np.diff(self.offsets)
        self.log_prior = self.targets.mean(0).log()

    def __len__(self):
        return len(self.lengths)

    def tokens(self, row):
        return self.ids[self.offsets[row] : self.offsets[row + 1]]


def batches(lengths, random):
    """Row numbers in batches of similar lengths, in random order."""
    order = random.permutation(len(lengths))
    result = []
    for start in range(0, len(order), BATCH * 40):
        chunk = order[start : start + BATCH * 40]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        result += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    return [result[i] for i in random.permutation(len(result))]


def attention_mask(lengths):
    """What to add to attention scores: nothing at tokens, -10,000 at padding."""
    padding = torch.arange(int(lengths.max()))[None, :] >= torch.as_tensor(lengths)[:, None]
    return (padding * -1e4).to(COMPUTE)[:, None, None, :]


def padded(posts, lengths):
    """Token ids as a matrix, and the attention mask."""
    ids = np.zeros((len(posts), int(lengths.max())), dtype=np.int64)
    for row, post in enumerate(posts):
        ids[row, : len(post)] = post
    return torch.from_numpy(ids), attention_mask(lengths)


def loss_of(logits, targets, log_prior):
    """Cross entropy against smoothed targets.  Adding the log of the class
    frequencies while training makes the bare logits fit balanced classes,
    which is what macro-averaged recall rewards."""
    smoothed = targets * (1 - SMOOTHING) + SMOOTHING / 3
    return -(smoothed * F.log_softmax(logits + log_prior, -1)).sum(-1).mean()


def macro_recall(predicted, targets):
    wanted = targets.argmax(1)
    return sum(float((predicted[wanted == c] == c).float().mean()) for c in range(3)) / 3


class WordRows:
    """Adam for the rows of the word embeddings that a batch uses."""

    def __init__(self, weight):
        self.weight = weight.detach().clone().float()
        self.mean = torch.zeros_like(self.weight)
        self.square = torch.zeros_like(self.weight)

    def gather(self, ids):
        """The embeddings of `ids`, and what `step` needs."""
        rows, inverse = torch.unique(ids, return_inverse=True)
        used = self.weight[rows].to(COMPUTE).requires_grad_()
        return F.embedding(inverse, used), (rows, used)

    def step(self, handle, rate, count):
        rows, used = handle
        gradient = used.grad.float()
        mean = self.mean[rows].lerp_(gradient, 0.1)
        square = self.square[rows].lerp_(gradient * gradient, 0.02)
        self.mean[rows], self.square[rows] = mean, square
        corrected = (square / (1 - 0.98**count)).sqrt_().add_(1e-8)
        self.weight[rows] -= rate * (mean / (1 - 0.9**count)) / corrected


class Trainer:
    """A model in `COMPUTE` to compute with and its float32 weights to update."""

    def __init__(self, model, names, plan, steps):
        self.model, self.plan, self.steps = model, plan, steps
        self.live = [p for n, p in model.named_parameters() if n in names]
        self.masters = [p.detach().clone().float() for p in self.live]
        model.to(COMPUTE)
        decayed = [m for m in self.masters if m.dim() > 1]
        others = [m for m in self.masters if m.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
            lr=plan["rate"], betas=(0.9, 0.98), fused=True,
        )

    def rate(self, step):
        """Warm up, then fall in a line to a share of the highest rate."""
        progress = step / self.steps
        warmup, final = self.plan["warmup"], self.plan["final"]
        if progress < warmup:
            return self.plan["rate"] * (progress / warmup + 1e-3)
        return self.plan["rate"] * (final + (1 - final) * (1 - progress) / (1 - warmup))

    def step(self, step):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        for master, live in zip(self.masters, self.live):
            master.grad = live.grad.float()
            live.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        self.publish()

    @torch.no_grad()
    def publish(self):
        for master, live in zip(self.masters, self.live):
            live.copy_(master)

    def state(self):
        return {"masters": self.masters, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def restore(self, state):
        for master, stored in zip(self.masters, state["masters"]):
            master.copy_(stored)
        self.optimizer.load_state_dict(state["optimizer"])
        self.publish()


def save(value, path):
    """Write a file whole or not at all."""
    partial = path.with_suffix(".tmp")
    torch.save(value, partial)
    partial.replace(path)


@torch.no_grad()
def predict(model, words, corpus, first=0):
    """Logits of a corpus by the whole network."""
    order = np.argsort(corpus.lengths, kind="stable")
    logits = torch.empty(len(corpus), 3)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        ids, mask = padded([corpus.tokens(r) for r in rows], corpus.lengths[rows])
        x = model.embed(F.embedding(ids, words).to(COMPUTE))
        logits[rows] = model.classify(model.encode(x, mask, 0, LAYERS))[:, :3]
    return logits


def first(work, backbone, rank):
    result = work / "first.pt"
    if result.exists():
        return
    torch.manual_seed(100 + rank)
    workers = FIRST["workers"]
    distributed.init_process_group(
        "gloo", init_method=f"file://{work.resolve()}/first.meet", rank=rank, world_size=workers
    )
    corpora = [Corpus(work, name) for name in CORPORA]
    model = Classifier(outputs=3 * len(corpora))
    model.load_backbone(backbone / "model.safetensors", torch.Generator().manual_seed(1))
    words = WordRows(model.bert.embeddings.word_embeddings.weight)
    names = {n for n, _ in model.named_parameters() if "word_embeddings" not in n}

    # All posts in one numbering: (corpus, row).
    where = np.concatenate([[(c, r) for r in range(len(x))] for c, x in enumerate(corpora)])
    lengths = np.concatenate([x.lengths for x in corpora])
    plan = batches(lengths, np.random.default_rng(1))
    steps = len(plan) // workers
    trainer = Trainer(model, names, FIRST, steps)
    checkpoint = work / f"first.{rank}.part"
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        trainer.restore(state["trainer"])
        words.weight, words.mean, words.square = state["words"]
        done = state["done"]
    log_priors = torch.stack([x.log_prior for x in corpora])

    def average():
        """The same weights in every worker again."""
        flat = torch.cat([m.reshape(-1) for m in trainer.masters])
        distributed.all_reduce(flat)
        for master, part in zip(trainer.masters, flat.split([m.numel() for m in trainer.masters])):
            master.copy_(part.view_as(master) / workers)
        distributed.all_reduce(words.weight)
        words.weight /= workers
        trainer.publish()

    started = time.monotonic()
    posts = running = 0
    for step in range(done, steps):
        batch = plan[step * workers + rank]
        which, rows = torch.from_numpy(where[batch, 0]), where[batch, 1]
        ids, mask = padded([corpora[c].tokens(r) for c, r in where[batch]], lengths[batch])
        targets = torch.stack([corpora[c].targets[r] for c, r in where[batch]])
        embedded, handle = words.gather(ids)
        x = model.encode(model.embed(embedded), mask, 0, LAYERS)
        logits = model.classify(x).view(len(rows), len(corpora), 3)[torch.arange(len(rows)), which]
        loss = loss_of(logits, targets, log_priors[which])
        loss.backward()
        trainer.step(step)
        words.step(handle, trainer.rate(step), step + 1)
        posts += len(rows)
        running = float(loss.detach()) * 0.02 + running * 0.98 if running else float(loss.detach())
        if (step + 1) % FIRST["average_every"] == 0 or step + 1 == steps:
            with torch.no_grad():
                average()
            # Both workers must stop at the same step to be able to go on.
            if (step + 1) % (10 * FIRST["average_every"]) == 0:
                state = {"trainer": trainer.state(), "done": step + 1}
                save(state | {"words": (words.weight, words.mean, words.square)}, checkpoint)
            speed = posts / (time.monotonic() - started)
            print(f"first {step + 1}/{steps} loss {running:.4f} {speed:.1f} posts/s", flush=True)
    if rank == 0:
        values = dict(zip((n for n, _ in model.named_parameters() if n in names), trainer.masters))
        values[WORDS] = words.weight
        values["classifier.weight"] = values["classifier.weight"][:3].clone()
        values["classifier.bias"] = values["classifier.bias"][:3].clone()
        save(values, result)
        val = Corpus(work, "val")
        recall = macro_recall(predict(model, words.weight, val).argmax(1), val.targets)
        print(f"first: val macro recall {recall:.4f}", flush=True)
    distributed.barrier()


def shares(corpus):
    """Row numbers between the workers' shares of a corpus."""
    return np.linspace(0, len(corpus), FREEZE_WORKERS + 1).astype(int)


def frozen_file(work, corpus, rank, mode):
    """States before the first trained layer, a row per token of one share."""
    begin, end = corpus.offsets[shares(corpus)[rank : rank + 2]]
    path = work / f"frozen.{rank}.{'part' if mode == 'w+' else 'bf16'}"
    return np.memmap(path, dtype=np.int16, mode=mode, shape=(end - begin, HIDDEN))


@torch.no_grad()
def freeze(work, rank):
    if (work / f"frozen.{rank}.bf16").exists():
        return
    values = torch.load(work / "first.pt")
    model = Classifier(dropout=0.0)
    model.load_state_dict(values)
    words = values[WORDS]
    model.to(COMPUTE)
    tweets = Corpus(work, "tweets")
    out = frozen_file(work, tweets, rank, "w+")
    start, stop = shares(tweets)[rank : rank + 2]
    order = start + np.argsort(tweets.lengths[start:stop], kind="stable")
    for place in range(0, len(order), BATCH):
        rows = order[place : place + BATCH]
        ids, mask = padded([tweets.tokens(r) for r in rows], tweets.lengths[rows])
        x = model.embed(F.embedding(ids, words).to(COMPUTE))
        x = model.encode(x, mask, 0, FROZEN_LAYERS).to(torch.bfloat16).contiguous().view(torch.int16).numpy()
        for states, row in zip(x, rows):
            begin, end = tweets.offsets[row : row + 2] - tweets.offsets[start]
            out[begin:end] = states[: end - begin]
    out.flush()
    (work / f"frozen.{rank}.part").replace(work / f"frozen.{rank}.bf16")


class Frozen:
    """Reads what `freeze` wrote."""

    def __init__(self, work, tweets):
        self.tweets, self.bounds = tweets, shares(tweets)
        self.files = [frozen_file(work, tweets, rank, "r") for rank in range(FREEZE_WORKERS)]

    def states(self, rows):
        """The states of some posts, padded with zeros."""
        offsets, lengths = self.tweets.offsets, self.tweets.lengths[rows]
        x = np.zeros((len(rows), int(lengths.max()), HIDDEN), dtype=np.int16)
        for place, row in enumerate(rows):
            share = np.searchsorted(self.bounds, row, side="right") - 1
            begin, end = offsets[row : row + 2] - offsets[self.bounds[share]]
            x[place, : lengths[place]] = self.files[share][begin:end]
        return torch.from_numpy(x).view(torch.bfloat16).to(COMPUTE)


def mean_weights(paths):
    """The mean of models that set out from the same weights."""
    total = {}
    for path in paths:
        for name, value in torch.load(path).items():
            total[name] = total.get(name, 0) + value.double() / len(paths)
    return {name: value.float() for name, value in total.items()}


@torch.no_grad()
def update_average(averaged, current, plan, step):
    """Takes a step's weights into the moving average of a run, in place."""
    if (step + 1) % plan["ema_every"] == 0:
        # Starts as a plain mean, so that early weights do not linger.
        keep = min(plan["ema"] ** plan["ema_every"], 1 - 1 / (2 + step / plan["ema_every"]))
        torch._foreach_lerp_(averaged, current, 1 - keep)


def second(work, seed, turn):
    result = work / f"second.{turn}.{seed}.pt"
    if result.exists():
        return
    config = ROUNDS[turn]
    seed_of_turn = seed + 10 * (turn - 1)
    torch.manual_seed(seed_of_turn)
    if turn == 1:
        values = torch.load(work / "first.pt")
    else:
        values = mean_weights([work / f"second.{turn - 1}.{other}.pt" for other in SEEDS])
    model = Classifier()
    model.load_state_dict(values)
    words = values[WORDS]
    lowest = tuple(f"bert.encoder.layer.{n}." for n in range(FROZEN_LAYERS))
    names = [
        n for n, _ in model.named_parameters()
        if not n.startswith(("bert.embeddings.", *lowest))
    ]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    tweets, val = Corpus(work, "tweets"), Corpus(work, "val")
    frozen = Frozen(work, tweets)
    random = np.random.default_rng(seed_of_turn)
    plan = [
        batch
        for _ in range(math.ceil(config["epochs"]))
        for batch in batches(tweets.lengths, random)
    ]
    steps = int(config["epochs"] * len(tweets) / BATCH)
    trainer = Trainer(model, set(names), config, steps)
    averaged = [m.clone() for m in trainer.masters]
    checkpoint = work / f"second.{turn}.{seed}.part"
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        trainer.restore(state["trainer"])
        averaged, done = state["averaged"], state["done"]

    saved = started = time.monotonic()
    posts = running = 0
    for step in range(done, steps):
        rows = plan[step]
        lengths = tweets.lengths[rows]
        x = model.encode(frozen.states(rows), attention_mask(lengths), FROZEN_LAYERS, LAYERS)
        loss = loss_of(model.classify(x), tweets.targets[rows], tweets.log_prior)
        loss.backward()
        trainer.step(step)
        update_average(averaged, trainer.masters, config, step)
        posts += len(rows)
        running = float(loss.detach()) * 0.01 + running * 0.99 if running else float(loss.detach())
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            save({"trainer": trainer.state(), "averaged": averaged, "done": step + 1}, checkpoint)
            speed = posts / (saved - started)
            print(f"second {turn} {seed} {step + 1}/{steps} loss {running:.4f} {speed:.1f} posts/s", flush=True)
    live_names = [n for n, _ in model.named_parameters() if n in names]
    save(values | dict(zip(live_names, averaged)), result)
    checkpoint.unlink(missing_ok=True)
    with torch.no_grad():
        for live, value in zip(trainer.live, averaged):
            live.copy_(value)
    recall = macro_recall(predict(model, words, val).argmax(1), val.targets)
    print(f"second {turn} {seed}: val macro recall {recall:.4f}", flush=True)


def fit(values, model, plan, seed, result, steps, loss_of_step):
    """Trains the whole network and writes its weights, averaged over the run, to `result`.

    `loss_of_step(step, forward)` is the loss of a step's batch; `forward(ids, mask)` gives the logits. What is drawn
    in a step depends on the seed and the step alone, so that a run that goes on from its checkpoint draws the same."""
    model.load_state_dict(values)
    words = WordRows(values[WORDS])
    names = [n for n, _ in model.named_parameters() if n != WORDS]
    trainer = Trainer(model, set(names), plan, steps)
    current = [*trainer.masters, words.weight]
    averaged = [m.clone() for m in current]
    checkpoint, done = result.with_suffix(".part"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        trainer.restore(state["trainer"])
        for mine, stored in zip((words.weight, words.mean, words.square), state["words"]):
            mine.copy_(stored)
        averaged, done = state["averaged"], state["done"]
    saved = started = time.monotonic()
    running = tokens = 0
    for step in range(done, steps):
        torch.manual_seed(seed * 1_000_003 + step)
        handle = None

        def forward(ids, mask):
            nonlocal handle, tokens
            embedded, handle = words.gather(ids)
            tokens += ids.numel()
            return model.classify(model.encode(model.embed(embedded), mask, 0, len(model.bert.encoder.layer)))

        loss = loss_of_step(step, forward)
        loss.backward()
        trainer.step(step)
        words.step(handle, trainer.rate(step), step + 1)
        update_average(averaged, current, plan, step)
        running = float(loss.detach()) * 0.01 + running * 0.99 if running else float(loss.detach())
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step == done + 50:
            saved = time.monotonic()
            state = {"trainer": trainer.state(), "averaged": averaged, "done": step + 1}
            save(state | {"words": (words.weight, words.mean, words.square)}, checkpoint)
            speed = tokens / (saved - started)
            print(f"{result.stem} {step + 1}/{steps} loss {running:.4f} {speed:.0f} padded tokens/s", flush=True)
    save(values | dict(zip([*names, WORDS], averaged)), result)
    checkpoint.unlink(missing_ok=True)


def third(work, seed):
    """The whole network on tweets, from the mean of the last round's seeds."""
    result = work / f"third.{seed}.pt"
    if result.exists():
        return
    tweets, val = Corpus(work, "tweets"), Corpus(work, "val")
    plan = batches(tweets.lengths, np.random.default_rng(100 + seed))

    def loss_of_step(step, forward):
        rows = plan[step]
        ids, mask = padded([tweets.tokens(r) for r in rows], tweets.lengths[rows])
        return loss_of(forward(ids, mask), tweets.targets[rows], tweets.log_prior)

    values = mean_weights([work / f"second.{max(ROUNDS)}.{other}.pt" for other in SEEDS])
    fit(values, Classifier(), THIRD, 100 + seed, result, int(THIRD["epochs"] * len(plan)), loss_of_step)
    values = torch.load(result)
    model = Classifier()
    model.load_state_dict(values)
    recall = macro_recall(predict(model.to(COMPUTE), values[WORDS], val).argmax(1), val.targets)
    print(f"third {seed}: val macro recall {recall:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["first", "freeze", "second", "third"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--seed", type=int, choices=SEEDS)
    parser.add_argument("--round", type=int, choices=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.stage == "first":
        first(args.work, args.backbone, args.rank)
    elif args.stage == "freeze":
        freeze(args.work, args.rank)
    elif args.stage == "second":
        second(args.work, args.seed, args.round)
    else:
        third(args.work, args.seed)


if __name__ == "__main__":
    main()
