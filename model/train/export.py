"""Writes the model folder: the given weights as float16.

    python export.py --weights WEIGHTS.pt --backbone DIR --data DIR --out DIR

OUT must already hold normalization.json and emoji.tsv.  Fits the temperature on
the validation posts, on the float16 weights as released.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from evaluate import SELECTION, SETS, Posts, figures, fit_temperature, load_model
from model import HEADS, HIDDEN, INNER, LAYERS, POSITIONS, VOCABULARY

LABELS = ["negative", "neutral", "positive"]

CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "dtype": "float16",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": HIDDEN,
    "id2label": {str(number): label for number, label in enumerate(LABELS)},
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "label2id": {label: number for number, label in enumerate(LABELS)},
    "languages": ["en"],
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "model_type": "bert",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "problem_type": "single_label_classification",
    "torch_dtype": "float16",
    "type_vocab_size": 2,
    "vocab_size": VOCABULARY,
}

TOKENIZER_CONFIG = {
    "cls_token": "[CLS]",
    "do_lower_case": True,
    "mask_token": "[MASK]",
    "model_max_length": POSITIONS,
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    # Built beside its destination, so that every file appears whole.
    with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=".export") as scratch:
        scratch = Path(scratch)
        for name in ("normalization.json", "emoji.tsv"):
            (scratch / name).write_bytes((args.out / name).read_bytes())
        (scratch / "LICENSE").write_bytes((args.backbone / "LICENSE").read_bytes())
        weights = {
            name: value.to(torch.float16).contiguous()
            for name, value in sorted(torch.load(args.weights).items())
        }
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        write_json(CONFIG, scratch / "config.json")
        write_json(TOKENIZER_CONFIG, scratch / "tokenizer_config.json")
        special = {n: t for n, t in TOKENIZER_CONFIG.items() if n.endswith("_token")}
        write_json(special, scratch / "special_tokens_map.json")
        tokenizer = Tokenizer.from_file(str(args.backbone / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.save(str(scratch / "tokenizer.json"), pretty=False)

        posts = Posts(args.data / SETS[SELECTION], scratch)
        logits = posts.logits(load_model(scratch))
        temperature = fit_temperature(logits, posts.labels)
        write_json({"temperature": round(temperature, 4)}, scratch / "calibration.json")
        for path in scratch.iterdir():
            path.chmod(0o644)
            os.replace(path, args.out / path.name)
    print(json.dumps({"temperature": temperature} | figures(logits, posts.labels, temperature)))


def write_json(value, path):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
