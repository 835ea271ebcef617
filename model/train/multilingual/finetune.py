"""Fine-tunes the network of multilingual-e5-small on posts in eight languages.

    python finetune.py --work DIR --model DIR [--plan mixed|last] [--seed 1]

MODEL holds tokenizer.json and rows.npy of `vocabulary.py`; WORK/posts.json is of
`corpora.py`. The plan `mixed` goes from the backbone over all corpora, `last` on
from its result over tweets alone. Goes on from its checkpoint, writes
WORK/<plan>.<seed>.pt, and prints macro F1 and recall on each validation set.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from backbone import Backbone, packaged
from corpora import LANGUAGES
from model import COMPUTE, Classifier
from train import WORDS, batches, fit, loss_of, padded

LAYERS, MAX_TOKENS = 12, 96
# How often each corpus is read, and the first of its three outputs.
PLANS = {
    "mixed": {
        "rate": 1e-4, "final": 0.2, "warmup": 0.06, "ema": 0.998, "ema_every": 8,
        "corpora": {"english": (1, 0), "extraction": (1, 3), **{name: (2, 0) for name in LANGUAGES}},
    },
    "last": {
        "rate": 5e-5, "final": 0.0, "warmup": 0.06, "ema": 0.998, "ema_every": 8,
        "corpora": {"english": (0.3, 0), **{name: (2, 0) for name in LANGUAGES}, "hindi": (5, 0)},
    },
}
OUTPUTS = 6


def network(vocabulary, dropout=0.1, layers=LAYERS, outputs=OUTPUTS):
    return Classifier(outputs=outputs, dropout=dropout, layers=layers, vocabulary=vocabulary)


def shape(values):
    """The number of layers and of outputs of a network, from its weights."""
    layers = [int(name.split(".")[3]) for name in values if name.startswith("bert.encoder.layer.")]
    return {"layers": 1 + max(layers), "outputs": len(values["classifier.bias"])}


def backbone_values(path, rows):
    """The backbone's weights, and a pooler and classifier drawn at random."""
    torch.manual_seed(1)
    model = network(len(rows))
    weights = {name: torch.from_numpy(np.array(w)) for name, w in Backbone(path).weights(rows).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("pooler" in m or "classifier" in m for m in missing)
    with torch.no_grad():
        for linear, std in ((model.bert.pooler.dense, 0.05), (model.classifier, 0.02)):
            linear.weight.normal_(0.0, std)
            linear.bias.zero_()
    return model.state_dict()


class Corpus:
    def __init__(self, rows, tokenizer):
        self.ids = [encoding.ids for encoding in tokenizer.encode_batch([post for post, _ in rows])]
        self.lengths = np.array([len(ids) for ids in self.ids])
        self.targets = torch.tensor([target for _, target in rows])
        self.log_prior = self.targets.mean(0).log()

    def batch(self, rows):
        return padded([self.ids[r] for r in rows], self.lengths[rows])


@torch.no_grad()
def predict(values, corpus):
    """Logits of the first three outputs."""
    model = network(len(values[WORDS]), dropout=0.0, **shape(values))
    model.load_state_dict(values)
    model.to(COMPUTE)
    logits = torch.empty(len(corpus.ids), 3)
    order = np.argsort(corpus.lengths, kind="stable")
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        ids, mask = corpus.batch(rows)
        x = model.embed(F.embedding(ids, values[WORDS]).to(COMPUTE))
        logits[rows] = model.classify(model.encode(x, mask, 0, len(model.bert.encoder.layer)))[:, :3]
    return logits


def scores(logits, targets):
    """Macro F1 and macro recall."""
    predicted, wanted = logits.argmax(1), targets.argmax(1)
    f1 = recall = 0.0
    for c in range(3):
        hits = float(((predicted == c) & (wanted == c)).sum())
        f1 += 2 * hits / float((predicted == c).sum() + (wanted == c).sum()) / 3
        recall += hits / float((wanted == c).sum()) / 3
    return f1, recall


def train(args, corpora, values, result):
    plan = PLANS[args.plan]
    random = np.random.default_rng(args.seed)
    steps = []
    for corpus, (share, _) in plan["corpora"].items():
        left = share
        while left > 0:
            turn = [(corpus, rows) for rows in batches(corpora[corpus].lengths, random)]
            steps += turn[: int(len(turn) * min(left, 1))]
            left -= 1
    steps = [steps[n] for n in random.permutation(len(steps))]

    def loss_of_step(step, forward):
        which, rows = steps[step]
        corpus, head = corpora[which], plan["corpora"][which][1]
        logits = forward(*corpus.batch(rows))[:, head : head + 3]
        return loss_of(logits, corpus.targets[rows], corpus.log_prior)

    fit(values, network(len(values[WORDS])), plan, args.seed, result, len(steps), loss_of_step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--plan", choices=PLANS, default="mixed")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    posts = json.loads((args.work / "posts.json").read_text(encoding="utf-8"))
    result = args.work / f"{args.plan}.{args.seed}.pt"
    if not result.exists():
        if args.plan == "mixed":
            values = backbone_values(packaged(), np.load(args.model / "rows.npy"))
        else:
            values = torch.load(args.work / f"mixed.{args.seed}.pt")
        corpora = {name: Corpus(posts[name], tokenizer) for name in PLANS[args.plan]["corpora"]}
        train(args, corpora, values, result)
    values = torch.load(result)
    for name in ("english", *LANGUAGES):
        corpus = Corpus(posts[f"{name}_val"], tokenizer)
        print(f"{name}: macro F1 %.3f, macro recall %.3f" % scores(predict(values, corpus), corpus.targets), flush=True)


if __name__ == "__main__":
    main()
