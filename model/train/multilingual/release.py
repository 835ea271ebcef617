"""Writes the model folder: the mean of the given weights as float16, and the temperature.

    python release.py --weights WEIGHTS.pt [WEIGHTS.pt ...] --work DIR --model DIR

MODEL must hold normalization.json and emoji.tsv of the profile, and the
tokenizer.json of `vocabulary.py`. The temperature is fitted on the validation
posts of all languages together, on the float16 weights as released.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from corpora import LANGUAGES
from evaluate import fit_temperature
from export import CONFIG, write_json
from finetune import MAX_TOKENS, WORDS, Corpus, predict, shape

CODES = ["ar", "de", "en", "es", "fr", "hi", "it", "pt"]
TOKENIZER_CONFIG = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "model_max_length": 512,
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    for name in ("work", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = [torch.load(path) for path in args.weights]
    values = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
    released = {name: value.to(torch.float16) for name, value in values.items()}
    for name in ("classifier.weight", "classifier.bias"):
        released[name] = released[name][:3].clone()
    save_file(
        {name: value.contiguous() for name, value in sorted(released.items())},
        args.model / "model.safetensors",
        metadata={"format": "pt"},
    )
    sizes = {"num_hidden_layers": shape(values)["layers"], "vocab_size": len(values[WORDS]), "pad_token_id": 1}
    write_json(CONFIG | sizes | {"languages": CODES}, args.model / "config.json")
    write_json(TOKENIZER_CONFIG, args.model / "tokenizer_config.json")
    special = {n: t for n, t in TOKENIZER_CONFIG.items() if n.endswith("_token")}
    write_json(special, args.model / "special_tokens_map.json")

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    posts = json.loads((args.work / "posts.json").read_text(encoding="utf-8"))
    rows = [row for name in ("english", *LANGUAGES) for row in posts[f"{name}_val"][:330]]
    corpus = Corpus(rows, tokenizer)
    rounded = {name: value.to(torch.float16).float() for name, value in values.items()}
    temperature = fit_temperature(predict(rounded, corpus), corpus.targets.argmax(1))
    write_json({"temperature": round(float(temperature), 4)}, args.model / "calibration.json")
    print(f"temperature {temperature:.4f}")


if __name__ == "__main__":
    main()
