"""Accuracy over speed on one core: coldread, its peers and simpler methods, as a picture and a table.

    benches/peers/run accuracy --train train.tsv --input val.tsv --out docs/benchmark/accuracy
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

import export
import peers
import table

LABELS = ("negative", "neutral", "positive")
# Strengths of regularization to choose from; every so manieth training post chooses.
STRENGTHS = (1e-6, 1e-5, 1e-4)
TUNE_EVERY = 10
# The bound of VADER's authors.
VADER_NEUTRAL = 0.05
# So much larger a model needs no more posts to be measured.
SHAPE_POSTS = 64
ORT = ("ort-int8", "ort-int8-fused", "ort-int8-reduced")


@dataclasses.dataclass
class System:
    # Of systems with the same title, the fastest is shown.
    title: str
    kind: str
    posts: int
    # Text to labels of so many posts, in seconds.
    time: Callable
    # Labels of all posts; None where the weights are random.
    label: Callable | None
    note: str = ""
    seconds: list = dataclasses.field(default_factory=list)
    found: np.ndarray | None = None

    def speed(self):
        return self.posts / statistics.median(self.seconds)

    def full_title(self):
        """The title, with the note where that says more than the title's last part."""
        last = self.title.rpartition(", ")[2]
        if self.note.startswith(last):
            return self.title + self.note.removeprefix(last)
        return f"{self.title}: {self.note}" if self.note else self.title


class Linear:
    """Logistic regression on features of a text."""

    def __init__(self, features, texts, labels):
        from sklearn.linear_model import SGDClassifier

        self.features = features
        vectors = features(texts)
        is_held_out = np.arange(len(labels)) % TUNE_EVERY == 0

        def fit(strength, rows):
            # Classes count alike in macro recall.
            model = SGDClassifier("log_loss", alpha=strength, class_weight="balanced", average=True,
                                  max_iter=10, tol=None, random_state=0)
            return model.fit(vectors[rows], labels[rows])

        def held_out_recall(strength):
            found = fit(strength, ~is_held_out).predict(vectors[is_held_out])
            return macro_recall(found, labels[is_held_out])

        self.model = fit(max(STRENGTHS, key=held_out_recall), slice(None))

    def __call__(self, texts):
        return self.model.predict(self.features(texts))


def hashed_ngrams():
    """Words and pairs of words by their hashes, as in fastText's classifier."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=2**18, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]").transform


def mean_embeddings(model):
    """The mean of the word embeddings of a text's tokens, without the transformer."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = load_file(model / "model.safetensors")["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    # Regularization presumes features of one size.
    words = (words - words.mean(axis=0)) / words.std(axis=0)

    def features(texts):
        found = tokenizer.encode_batch_fast(texts)
        return np.stack([words[text.ids].mean(axis=0) for text in found])

    return features


def vader():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()

    def label(posts):
        scores = np.array([analyzer.polarity_scores(post)["compound"] for post in posts])
        return 1 + (scores >= VADER_NEUTRAL) - 1 * (scores <= -VADER_NEUTRAL)

    return label


def macro_recall(found, labels):
    return float(np.mean([np.mean(found[labels == label] == label) for label in range(len(LABELS))]))


def interval(found, labels, draws=1000):
    """95% of the macro recalls of posts drawn with replacement."""
    generator = np.random.default_rng(0)
    rows = generator.integers(len(labels), size=(draws, len(labels)))
    return np.quantile([macro_recall(found[drawn], labels[drawn]) for drawn in rows], (0.025, 0.975))


def main():
    arguments = parse_arguments()
    cache = arguments.cache.resolve()
    work = cache / "accuracy"
    work.mkdir(parents=True, exist_ok=True)
    default = peers.ROOT / "model/default"
    normalize = peers.normalizer(default)
    posts, texts, labels = read(arguments.input, normalize)
    files = {}
    timed = {"timed": arguments.posts, "shape": min(SHAPE_POSTS, arguments.posts)}
    for name, end in {"all": None, **timed}.items():
        files[name] = work / f"{name}.txt", work / f"{name}.json"
        files[name][0].write_text("".join(f"{post}\n" for post in posts[:end]), encoding="utf-8")
        files[name][1].write_text(json.dumps(texts[:end]), encoding="utf-8")

    roberta = peers.random_roberta_base(cache / "roberta-base-random")
    onnx = {model: cache / "onnx" / peers.model_hash(model) for model in (default, roberta)}
    engines = {engine.key: engine for engine in peers.ENGINES}
    wanted = [*arguments.engines, "ort-f32"]
    failed = export.export(default, onnx[default], texts, {engines[key].variant for key in wanted})
    failed |= export.export(roberta, onnx[roberta], texts, {engines[key].variant for key in ORT})
    arguments.engines, int8 = wanted, arguments.engines
    binaries = peers.build(cache, arguments, failed)
    if failed:
        raise SystemExit(f"cannot be measured: {failed}")
    packed_roberta = peers.pack(binaries["coldread"], roberta, cache / "packed")

    peers.say("training the baselines")
    # What a model is judged by must not be trained on.
    judged = {text.lower() for text in texts}
    rows = [row for row in zip(*read(arguments.train, normalize)[1:], strict=True) if row[0].lower() not in judged]
    training = [text for text, _ in rows], np.array([label for _, label in rows])
    ngrams = Linear(hashed_ngrams(), *training)
    means = Linear(mean_embeddings(default), *training)

    core = max(os.sched_getaffinity(0)) if arguments.core is None else arguments.core
    os.sched_setaffinity(0, {core})
    one_thread = {"OMP_NUM_THREADS": "1", "RTEN_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= one_thread | {"CUDA_VISIBLE_DEVICES": "", "PEERS_MAX_TOKENS": "512"}

    def coldread(title, model, kind="coldread"):
        programs = {name: peers.Coldread(binaries["coldread"], model, file, os.environ) for name, (file, _) in files.items()}
        part = "shape" if kind == "shape" else "timed"

        def seconds():
            return timed[part] / programs[part].bench("")["mixed"]["posts_per_second"]

        label = None if kind == "shape" else lambda: programs["all"].labels(LABELS)
        return System(title, kind, timed[part], seconds, label)

    def peer(key, model, title, kind="peer"):
        engine = engines[key]
        program = [str(binaries["peers"])] if engine.language == "rust" else [sys.executable, str(peers.HERE / "worker.py")]
        inputs = [engine.kind, str(export.file_of(onnx[model], engine.variant)), str(model)]

        def start(name):
            worker = peers.Worker([*program, *inputs, str(files[name][1])], os.environ, work / f"{key}-{kind}.log")
            worker.ask("load")
            return worker

        part = "shape" if kind == "shape" else "timed"
        worker = start(part)
        batch = peers.search_batch(worker)

        def seconds():
            return worker.ask(f"mixed {batch}")["ms"] / 1e3

        def label():
            other = start("all")
            other.ask(f"mixed {batch}")
            return other.ask("labels")

        return System(title, kind, timed[part], seconds, None if kind == "shape" else label, engine.title)

    def baseline(title, label, inputs):
        def seconds():
            start = time.perf_counter()
            label(inputs[: arguments.posts])
            return time.perf_counter() - start

        return System(title, "baseline", arguments.posts, seconds, lambda: label(inputs))

    peers.say("starting the engines")
    systems = [
        coldread("coldread", default),
        *(peer(key, default, "the fastest int8 peer") for key in int8),
        peer("ort-f32", default, "ONNX Runtime f32"),
        coldread("coldread, multilingual", peers.ROOT / "model/multilingual/multilingual.coldread"),
        baseline("hashed n-grams", ngrams, texts),
        baseline("mean of word embeddings", means, texts),
        baseline("VADER", vader(), posts),
        coldread("RoBERTa-base's shape, coldread", packed_roberta, "shape"),
        *(peer(key, roberta, "RoBERTa-base's shape, ONNX Runtime int8", "shape") for key in ORT),
    ]
    load = [peers.machine_load()]
    for number in range(arguments.rounds):
        # Every other round goes backwards, so that a machine that drifts favours nobody.
        for system in systems[:: -1 if number % 2 else 1]:
            system.seconds.append(system.time())
            peers.say(f"round {number + 1}, {system.title} {system.note}: {system.posts / system.seconds[-1]:.0f} posts/s")
    load.append(peers.machine_load())

    fastest = {}
    for system in sorted(systems, key=System.speed, reverse=True):
        fastest.setdefault(system.title, system)
    shown = [system for system in systems if system is fastest[system.title]]
    for system in shown:
        system.found = np.array(system.label()) if system.label else None
    for path, text in (
        (arguments.out.with_suffix(".svg"), picture(shown, labels)),
        (arguments.out.with_suffix(".md"), page(shown, labels, arguments, len(training[0]), core, load)),
    ):
        path.write_text(text, encoding="utf-8")
        peers.say(f"written: {path}")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="benches/peers/run accuracy", description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="label<TAB>post, labels 0 to 2: what the baselines learn from")
    parser.add_argument("--input", type=Path, required=True, help="the same, to measure accuracy and speed on")
    parser.add_argument("--posts", type=int, default=300, help="how many of --input to take the time of (default 300)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--out", type=Path, default=peers.ROOT / "target/peers/accuracy", help="where .md and .svg go")
    parser.add_argument("--engines", nargs="+", choices=table.FASTEST_INT8, default=table.FASTEST_INT8,
                        help="int8 peers, of which the fastest is shown (default: all)")
    parser.add_argument("--coldread", type=Path, help="a binary to use instead of building one")
    parser.add_argument("--core", type=int, help="which core (default: the last)")
    parser.add_argument("--cache", type=Path, default=peers.ROOT / "target/peers",
                        help="where ONNX files and the Rust peers are kept (default target/peers)")
    parser.set_defaults(avx2=False)
    return parser.parse_args()


def read(path, normalize):
    """Posts as written, posts normalized, labels."""
    rows = [line.partition("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
    posts = [" ".join(post.split()) for _, _, post in rows]
    return posts, [normalize(post) for post in posts], np.array([int(label) for label, _, _ in rows])


def page(systems, labels, arguments, training_posts, core, load):
    rows = []
    for system in systems:
        speeds = [system.posts / seconds for seconds in system.seconds]
        recall = "not comparable"
        if system.found is not None:
            low, high = interval(system.found, labels)
            recall = f"{macro_recall(system.found, labels):.3f} ({low:.3f} to {high:.3f})"
        rows.append([system.full_title(), recall, f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"])
    machine = peers.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in
                         ("onnxruntime", "ctranslate2", "scikit-learn", "tokenizers", "vaderSentiment"))
    busy = " and ".join(f"{moment['load']:.1f}" for moment in load)
    return f"""# Accuracy and speed

![Macro recall over posts a second on one core; the figures are in the table below]({arguments.out.with_suffix('.svg').name})

`{peers.shown_command()}` draws this and writes the table. Accuracy is macro recall on the {len(labels):,} posts of `{arguments.input.name}`, TweetEval's validation split
for the figures here, with 95% bootstrap intervals. Speed is text to labels of the first {arguments.posts} of them on one core, in turns: medians and ranges of
{arguments.rounds} rounds.

{table.table(["", "macro recall", "posts a second"], rows)}

- **The fastest int8 peer** of {len(arguments.engines) - 1}, and ONNX Runtime in f32, run the weights of coldread's default model. As in [the comparison of engines](peers.md), they get
  normalized text for nothing and sort it by length; coldread does the normalizing.
- **Hashed n-grams** are words and pairs of words, hashed to 2^18 features as in fastText's classifier, and logistic regression. **Mean of word
  embeddings** is logistic regression on the mean of the default model's word embeddings, as in static embedding models. Both learn from the {training_posts:,} posts of
  `{arguments.train.name}` that are not in `{arguments.input.name}`; every tenth chooses the strength of regularization. They run in Python with scikit-learn, and would be faster in C. **VADER** is its lexicon and rules, in Python.
- **RoBERTa-base's shape** is measured with random weights on {min(SHAPE_POSTS, arguments.posts)} posts, in ONNX Runtime on the fastest of three graphs, and stands for the speed of models such as twitter-roberta, whose published accuracy is on
  TweetEval's test split and not comparable with figures on another one.
- A bias of the default model was fitted on the validation split, and the multilingual model's checkpoint and number of runs chosen by it, which flatters both a little
  ([how much](../../model/default/README.md#figures)).

Measured on {machine['cpu']} ({machine['family']}), {machine['cores']} cores, {machine['system']}, {machine['date']}, core {core}; load average {busy} before and after
(1 is this run alone; other work on the machine slows everything, so compare speeds with each other only). {versions}; commit {peers.commit()}.
"""


WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 64, 32, 20, 56


def picture(systems, labels):
    """An SVG with its own background, light or dark as the reader's system is."""
    bounds = {system.title: interval(system.found, labels) for system in systems if system.found is not None}
    low = math.floor(20 * min(low for low, _ in bounds.values())) / 20
    high = math.ceil(20 * max(high for _, high in bounds.values())) / 20
    first = math.floor(math.log10(min(system.speed() for system in systems)))
    last = math.ceil(math.log10(max(system.speed() for system in systems)))

    def x(speed):
        return LEFT + (math.log10(speed) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(recall):
        return HEIGHT - BOTTOM - (recall - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="8"/>']
    for power in range(first, last + 1):
        parts += line("grid", x(10**power), TOP, x(10**power), HEIGHT - BOTTOM)
        parts += text("axis", x(10**power), HEIGHT - BOTTOM + 20, f"{10**power:,}", "middle")
    for step in range(round(20 * low), round(20 * high) + 1):
        parts += line("grid", LEFT, y(step / 20), WIDTH - RIGHT, y(step / 20))
        parts += text("axis", LEFT - 10, y(step / 20) + 4, f"{step / 20:.2f}", "end")
    parts += text("axis", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "posts a second on one core, text to labels", "middle")
    parts.append(f'<text class="axis" text-anchor="middle" transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">macro recall</text>')

    points = [(system, x(system.speed()), y(macro_recall(system.found, labels)))
              for system in systems if system.found is not None]
    # What no label may cover.
    taken = [(px - 8, py - 8, px + 8, py + 8) for _, px, py in points]
    shapes = [system for system in systems if system.found is None]
    for number, system in enumerate(shapes):
        px = x(system.speed())
        parts += line("shape", px, TOP, px, HEIGHT - BOTTOM)
        py = HEIGHT - BOTTOM - 16 - 40 * number
        parts += text("label", px + 6, py, system.title, "start")
        parts += text("axis", px + 6, py + 14, "speed only", "start")
    for system, px, py in points:
        parts += line(f"{system.kind} error", px, y(bounds[system.title][0]), px, y(bounds[system.title][1]))
    for system, px, py in points:
        name = f"{system.title} ({system.note})" if system.note and system.note not in system.title else system.title
        width = 7.4 * len(name)
        # The nearest free place, to the right if there is one.
        for distance, is_left in itertools.product((0, -18, 18, -36, 36, -54, 54, -72, 72), (False, True)):
            left, base = px - 14 - width if is_left else px + 14, py + 4 + distance
            box = left, base - 12, left + width, base + 4
            if LEFT < left and box[2] < WIDTH and not any(overlap(box, other) for other in taken):
                break
        taken.append(box)
        edge = px - 14 if is_left else px + 14
        if distance:
            parts += line("leader", px, py, edge, base - 4)
        parts.append(f'<circle class="{system.kind}" cx="{px:.1f}" cy="{py:.1f}" r="6"/>')
        parts += text("label", edge, base, name, "end" if is_left else "start")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">
<title>Macro recall over posts a second on one core</title>
<style>
.back {{ fill: #ffffff }} text {{ paint-order: stroke; stroke: #ffffff; stroke-width: 4 }} .grid {{ stroke: #e3e6ea }} .axis {{ fill: #57606a }} .label {{ fill: #1f2328 }} .leader {{ stroke: #8c959f }}
.shape {{ stroke: #8250df; stroke-width: 2; stroke-dasharray: 6 4 }} .error {{ stroke-width: 2; opacity: 0.5 }}
.coldread {{ fill: #0969da; stroke: #0969da }} .peer {{ fill: #bc4c00; stroke: #bc4c00 }} .baseline {{ fill: #57606a; stroke: #57606a }}
@media (prefers-color-scheme: dark) {{
.back {{ fill: #0d1117 }} text {{ stroke: #0d1117 }} .grid {{ stroke: #262c34 }} .axis {{ fill: #9198a1 }} .label {{ fill: #f0f6fc }} .leader {{ stroke: #656c76 }}
.shape {{ stroke: #ab7df8 }} .coldread {{ fill: #4493f8; stroke: #4493f8 }} .peer {{ fill: #f0883e; stroke: #f0883e }} .baseline {{ fill: #9198a1; stroke: #9198a1 }}
}}
</style>
{chr(10).join(parts)}
</svg>
"""


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def line(kind, x1, y1, x2, y2):
    return [f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>']


def text(kind, x, y, content, anchor):
    return [f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>']


if __name__ == "__main__":
    main()
