"""Figures of a model folder, as in its card.

    python evaluate.py --model DIR --data DIR [--sets NAME ...] [--int8]

Loads the folder with transformers in float32, normalizes posts by the folder's
profile, and prints a table and the same as JSON.  `--int8` adds how
a simulated 8-bit model compares on the validation tweets.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from normalize import Normalizer
from prepare import read_posts

SETS = {"tweeteval/val": "tweeteval/val.tsv", "goemotions/dev": "goemotions/dev.tsv"}
SELECTION = "tweeteval/val"


class Posts:
    """A labelled file, ready for a model folder's network."""

    def __init__(self, path, folder):
        rows = read_posts(path)
        self.labels = torch.tensor([int(label) for label, _ in rows])
        normalize = Normalizer.from_folder(folder).normalize
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = [normalize(post) for _, post in rows]
        self.ids = tokenizer(texts, truncation=True, max_length=512)["input_ids"]

    @torch.no_grad()
    def logits(self, model):
        order = sorted(range(len(self.ids)), key=lambda row: len(self.ids[row]))
        result = torch.empty(len(order), 3)
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            longest = max(len(self.ids[row]) for row in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.int64)
            mask = torch.zeros(len(rows), longest, dtype=torch.int64)
            for place, row in enumerate(rows):
                ids[place, : len(self.ids[row])] = torch.tensor(self.ids[row])
                mask[place, : len(self.ids[row])] = 1
            result[rows] = model(input_ids=ids, attention_mask=mask).logits
        return result


def load_model(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()


def figures(logits, labels, temperature=None):
    """Accuracy, macro-averaged recall and F1, calibration error."""
    predicted = logits.argmax(1)
    recalls, f1s = [], []
    for c in range(3):
        hits = int(((predicted == c) & (labels == c)).sum())
        recalls.append(hits / int((labels == c).sum()))
        f1s.append(2 * hits / (int((predicted == c).sum()) + int((labels == c).sum())))
    result = {
        "posts": len(labels),
        "accuracy": float((predicted == labels).float().mean()),
        "macro_recall": sum(recalls) / 3,
        "macro_f1": sum(f1s) / 3,
        "recall": recalls,
        "ece_uncalibrated": calibration_error(logits, labels),
    }
    if temperature is not None:
        result["ece"] = calibration_error(logits / temperature, labels)
    return result


def calibration_error(logits, labels, bins=15):
    """Expected calibration error over equal-width bins of confidence."""
    confidence, predicted = logits.softmax(1).max(1)
    correct = (predicted == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for b in which.unique():
        inside = which == b
        error += float(inside.float().mean() * (confidence[inside].mean() - correct[inside].mean()).abs())
    return error


def fit_temperature(logits, labels):
    """The temperature of least negative log-likelihood, by golden section."""
    low, high = 0.05, 10.0
    ratio = (math.sqrt(5) - 1) / 2

    def loss(temperature):
        return float(F.cross_entropy(logits.double() / temperature, labels))

    while high - low > 1e-6:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def round_weight(weight):
    """int8 with one scale per row."""
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().clamp(-127, 127) * scale


class RoundedLinear(nn.Module):
    """A linear map with int8 weights and each input row rounded to 8 bits."""

    def __init__(self, linear):
        super().__init__()
        self.weight, self.bias = round_weight(linear.weight.data), linear.bias.data

    def forward(self, x):
        low = x.amin(-1, keepdim=True).clamp(max=0)
        scale = ((x.amax(-1, keepdim=True).clamp(min=0) - low) / 255).clamp(min=1e-12)
        zero = (-low / scale).round()
        x = ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale
        return F.linear(x, self.weight, self.bias)


def quantize(model):
    """Simulates the 8-bit model in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, RoundedLinear(child))
            elif isinstance(child, nn.Embedding):
                child.weight.data = round_weight(child.weight.data)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()

    temperature = json.loads((args.model / "calibration.json").read_text())["temperature"]
    report = {"temperature": temperature}
    model = load_model(args.model)
    for name in args.sets:
        posts = Posts(args.data / SETS[name], args.model)
        logits = posts.logits(model)
        report[name] = figures(logits, posts.labels, temperature)
        if name == SELECTION:
            selection, exact = posts, logits
    if args.int8 and SELECTION in args.sets:
        rounded = selection.logits(quantize(load_model(args.model)))
        report["int8_val"] = figures(rounded, selection.labels, temperature) | {
            "same_label": float((rounded.argmax(1) == exact.argmax(1)).float().mean())
        }
    print_table(report)
    print(json.dumps(report, indent=1))


def print_table(report):
    columns = ["accuracy", "macro_recall", "macro_f1", "ece_uncalibrated", "ece"]
    print("| set | posts | " + " | ".join(columns) + " |")
    for name in (*SETS, "int8_val"):
        if name in report:
            row = report[name]
            print(f"| {name} | {row['posts']} | " + " | ".join(f"{row[c]:.4f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
