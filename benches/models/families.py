"""Random checkpoints of each family at full size.

    python families.py               the names, as JSON
    python families.py NAME FOLDER   writes the folder; what it is, as JSON

A program of its own, so that the one which measures others stays small: a process begins with
the peak memory of the one that started it.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers as T

ROOT = Path(__file__).resolve().parents[2]

THREE = ["negative", "neutral", "positive"]
TWO = ["NEGATIVE", "POSITIVE"]
STARS = [f"{n} star{'s' * (n > 1)}" for n in range(1, 6)]
EMOTIONS = [f"emotion_{i}" for i in range(28)]
ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
DEBERTA_V3 = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "vocab_size": 128_100, "type_vocab_size": 0, "relative_attention": True,
    "position_biased_input": False, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "position_buckets": 256, "max_relative_positions": -1,
    "pooler_hidden_size": 768,
}  # fmt: skip

# Name -> (family, labels, model class, configuration).
MODELS = {
    "BERT-base": ("BERT", STARS, T.BertForSequenceClassification, T.BertConfig()),
    "DistilBERT-base": (
        "DistilBERT", TWO, T.DistilBertForSequenceClassification, T.DistilBertConfig(),
    ),
    "RoBERTa-base": (
        "RoBERTa", THREE, T.RobertaForSequenceClassification, T.RobertaConfig(**ROBERTA),
    ),
    "RoBERTa-base, emotions": (
        "RoBERTa", EMOTIONS, T.RobertaForSequenceClassification,
        T.RobertaConfig(**ROBERTA, problem_type="multi_label_classification"),
    ),
    "CamemBERT-base": (
        "CamemBERT", TWO, T.CamembertForSequenceClassification,
        T.CamembertConfig(**ROBERTA | {"vocab_size": 32_005}),
    ),
    "XLM-RoBERTa-base": (
        "XLM-RoBERTa", THREE, T.XLMRobertaForSequenceClassification,
        T.XLMRobertaConfig(**ROBERTA | {"vocab_size": 250_002}),
    ),
    "ELECTRA-small": ("ELECTRA", TWO, T.ElectraForSequenceClassification, T.ElectraConfig()),
    "DeBERTa-v3-base": (
        "DeBERTa-v2/v3", THREE, T.DebertaV2ForSequenceClassification,
        T.DebertaV2Config(**DEBERTA_V3),
    ),
    "ModernBERT-base": (
        "ModernBERT", THREE, T.ModernBertForSequenceClassification, T.ModernBertConfig(),
    ),
}  # fmt: skip


def make(name, folder):
    """Writes the folder; what the model is."""
    family, labels, model_class, config = MODELS[name]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = model_class(config)
    model.save_pretrained(folder)
    # Every family's vocabulary is larger than that of the default model.
    shutil.copy(ROOT / "model/default/tokenizer.json", folder)
    return {
        "family": family,
        "labels": labels,
        "multi": config.problem_type == "multi_label_classification",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


if __name__ == "__main__":
    T.logging.set_verbosity_error()
    T.logging.disable_progress_bar()
    answer = make(sys.argv[1], Path(sys.argv[2])) if sys.argv[1:] else list(MODELS)
    print(json.dumps(answer))
