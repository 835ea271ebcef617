"""Writes tests/data/tiny: a tiny random checkpoint of each family, and what transformers makes of it.

Each folder is an ordinary Hugging Face folder with a tokenizer of the family's kind, and
expected.jsonl: posts written here, their token ids and their logits in float32, one post at a
time. The weights are random, so the logits mean nothing; what they hold is every detail of a
forward pass. The service's tests compare both engines with them. Sizes are small and odd on
purpose (no multiples of 16), and the weights large enough for attention to attend. Seeded: the
same library versions (model/train/requirements.txt) write the same files.

    python tests/parity/tiny_models.py            write the folders
    python tests/parity/tiny_models.py --check    score the folders again, change nothing
"""

import argparse
import itertools
import json
import math
import re
import shutil
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

FOLDER = Path(__file__).resolve().parents[1] / "data/tiny"

# Other CPUs and library versions add in another order.
LOGIT_TOLERANCE = 1e-4

# What the tokenizers' pieces come from.
CORPUS = """
the coffee here is really good and the people are friendly
i waited forty minutes for a cold coffee, never again
my phone battery dies before lunch every single day
new update is out and the battery lasts much longer now, thank you!
why is the train always late on a monday? why??
best concert of my life, i cannot stop smiling
the match starts at eight, doors open at seven
honestly not sure what to think about the new season
le café est très bon et les gens sont gentils
j'ai attendu quarante minutes, plus jamais ça
el concierto fue increíble, gracias a todos
der zug kommt schon wieder zu spät, wie immer
questo telefono è lento, che delusione
今日はとても楽しかった
""".strip().splitlines()

POSTS = [
    "good",
    "The coffee was GOOD!",
    "never again... 40 minutes of waiting for a cold coffee",
    "why is my phone so slow after the new update???",
    "best day of my life 😍😍 #blessed",
    "train late again. thanks for nothing @railways",
    "le café est très bon, j'ai adoré",
    "el concierto fue increíble",
    "今日はとても楽しかった",
    "doors open at seven, the match starts at eight",
    "a  b\tc\nd",
    "i waited and waited and waited and the people were friendly but honestly the coffee was cold "
    "and the train was late and my battery died and nobody said thank you so i am never going back",
]

THREE = ["negative", "neutral", "positive"]
# So many that they fill more than one panel of output channels.
MANY = [f"emotion_{i}" for i in range(28)]


def most_common(pieces, n):
    """The n most common ones; of equals, the first in the alphabet."""
    counts = Counter(pieces)
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:n]


def words():
    return [word for line in CORPUS for word in re.findall(r"\w+", line)]


# The vocabularies are made here and not by the library's trainers, whose choice among equally
# common pieces differs from run to run.


def wordpiece():
    """As BERT's: lower case, no accents."""
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz!?.,'@#") | set("今日楽しかった"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{letter}" for letter in letters if letter.isalpha()]
    pieces += ["##ed", "##ing", "##er", "##ways"]
    pieces += [word for word in most_common(words(), 70) if word.isascii() and len(word) > 1]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    return with_special(tokenizer, pieces[:5])


def byte_pairs(special, start, end):
    """As RoBERTa's: byte-level pairs, so that every text has tokens."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [list(piece) for line in CORPUS for piece, _ in split.pre_tokenize_str(line)]
    merges = []
    while len(merges) < 40:
        pair = most_common((pair for text in texts for pair in itertools.pairwise(text)), 1)[0]
        merges.append(pair)
        texts = [merge(text, pair) for text in texts]
    pieces = special + sorted(split.alphabet()) + [a + b for a, b in merges]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    start, end = [(token, vocab[token]) for token in (start, end)]
    if start[0] == "<s>":
        tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    else:
        tokenizer.post_processor = surround(start, end)
    return with_special(tokenizer, special)


def merge(text, pair):
    merged = []
    for piece in text:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def unigram(special, unknown, start, end):
    """As SentencePiece makes them for XLM-RoBERTa, CamemBERT and DeBERTa."""
    texts = ["\u2581" + line.replace(" ", "\u2581") for line in CORPUS]
    counts = Counter(
        text[i : i + n] for text in texts for n in range(1, 8) for i in range(len(text) - n + 1)
    )
    # A piece begins a word or stands in one.
    counts = {piece: n for piece, n in counts.items() if "\u2581" not in piece[1:]}
    longer = [piece for piece in counts if len(piece) > 1]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    pieces = sorted(piece for piece in counts if len(piece) == 1) + longer[:100]
    total = sum(counts[piece] for piece in pieces)
    vocab = [(token, 0.0) for token in special]
    vocab += [(piece, round(math.log(counts[piece] / total), 4)) for piece in pieces]
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocab, special.index(unknown)))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    start, end = [(token, special.index(token)) for token in (start, end)]
    tokenizer.post_processor = surround(start, end)
    return with_special(tokenizer, special)


def with_special(tokenizer, special):
    tokenizer.add_special_tokens(special)
    return tokenizer


def surround(start, end):
    return processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}", special_tokens=[start, end]
    )


ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def roberta_pairs():
    return byte_pairs(ROBERTA_SPECIAL, "<s>", "</s>")


def roberta_unigram():
    return unigram(ROBERTA_SPECIAL, "<unk>", "<s>", "</s>")


def deberta_unigram():
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    return unigram(special, "[UNK]", "[CLS]", "[SEP]")


def modernbert_pairs():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return byte_pairs(special, "[CLS]", "[SEP]")


class BertWithoutPooler(torch.nn.Module):
    """A bare encoder whose classifier reads the first token's hidden state.

    Its weights have the names that BertModel itself gives them, without a prefix.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids):
        hidden_states = self.bert(input_ids).last_hidden_state
        return transformers.modeling_outputs.SequenceClassifierOutput(
            logits=self.classifier(hidden_states[:, 0])
        )


def labels(names, **more):
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        **more,
    }


def sizes(hidden, heads, intermediate, names, **more):
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "num_hidden_layers": 2,
        "max_position_embeddings": 48,
        **labels(names, **more),
    }


def as_vocab_txt(folder, tokenizer):
    """BERT's own files, of a model that tells upper case from lower."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    text = "".join(piece + "\n" for piece, _ in pieces)
    (folder / "vocab.txt").write_text(text, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512})


def as_vocab_and_merges(folder, tokenizer):
    """RoBERTa's own files."""
    model = json.loads(tokenizer.to_str())["model"]
    write_json(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    roles = dict(zip(("bos", "pad", "eos", "unk"), ROBERTA_SPECIAL, strict=False))
    roles |= {"cls": roles["bos"], "sep": roles["eos"]}
    tokens = {f"{role}_token": token for role, token in roles.items()}
    mask = {"content": "<mask>", "lstrip": True, "normalized": False}
    write_json(folder / "special_tokens_map.json", tokens | {"mask_token": mask})


def as_sentencepiece(folder, tokenizer):
    """The file that SentencePiece writes, whose own special tokens come first."""
    protobuf = transformers.convert_slow_tokenizer.import_protobuf()
    vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
    is_deberta = vocab[0][0] == "[PAD]"
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"] if is_deberta else ["<unk>", "<s>", "</s>"]
    proto = protobuf.ModelProto()
    kinds = protobuf.ModelProto.SentencePiece.Type
    for piece in special:
        kind = "UNKNOWN" if "unk" in piece.lower() else "CONTROL"
        proto.pieces.add(piece=piece, score=0.0, type=kinds.Value(kind))
    for piece, score in vocab[5:]:
        proto.pieces.add(piece=piece, score=score)
    proto.trainer_spec.model_type = protobuf.TrainerSpec.ModelType.Value("UNIGRAM")
    proto.trainer_spec.unk_id = special.index("[UNK]" if is_deberta else "<unk>")
    proto.trainer_spec.unk_piece = "[UNK]" if is_deberta else "<unk>"
    proto.normalizer_spec.name = "identity"
    name = "spm.model" if is_deberta else "sentencepiece.bpe.model"
    (folder / name).write_bytes(proto.SerializeToString())


def as_shards(folder, state):
    """Two files and an index."""
    names = sorted(state)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    files = {}
    for i, half in enumerate(halves, 1):
        file = f"model-{i:05}-of-00002.safetensors"
        save_file({name: state[name] for name in half}, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(half, file)
    size = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    write_json(folder / "model.safetensors.index.json", index)


def as_pytorch(folder, state):
    """A state_dict as PyTorch pickles it."""
    torch.save(OrderedDict(state), folder / "pytorch_model.bin")


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


# Folder -> what writes its tokenizer in place of tokenizer.json, and what reads it.
TOKENIZER_FILES = {
    "bert-stars": (as_vocab_txt, transformers.BertTokenizer),
    "camembert-sentencepiece": (as_sentencepiece, transformers.CamembertTokenizer),
    "deberta-v3-sentencepiece": (as_sentencepiece, transformers.DebertaV2Tokenizer),
    "roberta-binary": (as_vocab_and_merges, transformers.RobertaTokenizer),
    "xlm-roberta-sentencepiece": (as_sentencepiece, transformers.XLMRobertaTokenizer),
}
# Folder -> what writes its weights in place of model.safetensors.
WEIGHT_FILES = {"bert-stars": as_shards, "roberta-binary": as_pytorch}
# CamemBERT has special tokens of its own before SentencePiece's.
MORE_TOKENS = {"camembert-sentencepiece": 3}


# Folder -> (model class, config class, tokenizer, dtype of the file, sizes).
T = transformers
FAMILIES = {
    "bert": (
        T.BertForSequenceClassification, T.BertConfig, wordpiece, torch.float32,
        sizes(40, 4, 100, THREE),
    ),
    "bert-stars": (
        T.BertForSequenceClassification, T.BertConfig, wordpiece, torch.float16,
        sizes(24, 2, 40, [f"{n} star{'s' * (n > 1)}" for n in range(1, 6)]),
    ),
    "bert-without-pooler": (
        BertWithoutPooler, T.BertConfig, wordpiece, torch.float16,
        sizes(32, 2, 64, ["no", "yes"], hidden_act="relu"),
    ),
    "bert-tanh-gelu": (
        T.BertForSequenceClassification, T.BertConfig, wordpiece, torch.bfloat16,
        sizes(40, 5, 90, THREE, hidden_act="gelu_pytorch_tanh"),
    ),
    "distilbert-multi-label": (
        T.DistilBertForSequenceClassification, T.DistilBertConfig, wordpiece, torch.float16,
        labels(MANY, problem_type="multi_label_classification")
        | {"dim": 36, "n_heads": 3, "hidden_dim": 70, "n_layers": 2, "max_position_embeddings": 48},
    ),
    "roberta": (
        T.RobertaForSequenceClassification, T.RobertaConfig, roberta_pairs, torch.float16,
        sizes(40, 2, 72, THREE, type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "roberta-binary": (
        T.RobertaForSequenceClassification, T.RobertaConfig, roberta_pairs, torch.float32,
        sizes(24, 2, 40, ["NEGATIVE", "POSITIVE"], type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "roberta-emotions": (
        T.RobertaForSequenceClassification, T.RobertaConfig, roberta_pairs, torch.float16,
        sizes(
            24, 2, 40, MANY, type_vocab_size=1, problem_type="multi_label_classification"
        ),
    ),
    "xlm-roberta-sentencepiece": (
        T.XLMRobertaForSequenceClassification, T.XLMRobertaConfig, roberta_unigram, torch.float16,
        sizes(24, 2, 40, THREE, type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "xlm-roberta": (
        T.XLMRobertaForSequenceClassification, T.XLMRobertaConfig, roberta_unigram, torch.float16,
        sizes(32, 4, 50, THREE, type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "camembert": (
        T.CamembertForSequenceClassification, T.CamembertConfig, roberta_unigram, torch.float16,
        sizes(44, 2, 66, ["1 star", "5 stars"], type_vocab_size=1, hidden_act="gelu_new"),
    ),
    "camembert-sentencepiece": (
        T.CamembertForSequenceClassification, T.CamembertConfig, roberta_unigram, torch.float16,
        sizes(24, 2, 40, ["neg", "neu", "pos"], type_vocab_size=1),
    ),
    "deberta-v3-sentencepiece": (
        T.DebertaV2ForSequenceClassification, T.DebertaV2Config, deberta_unigram, torch.float16,
        sizes(
            16, 2, 24, ["NEGATIVE", "POSITIVE"], type_vocab_size=0, relative_attention=True,
            position_biased_input=False, pos_att_type=["p2c", "c2p"], share_att_key=True,
            norm_rel_ebd="layer_norm", position_buckets=8, max_relative_positions=-1,
            pooler_hidden_size=16,
        ),
    ),
    "electra-one-label": (
        T.ElectraForSequenceClassification, T.ElectraConfig, wordpiece, torch.float32,
        sizes(40, 4, 80, ["toxic"], embedding_size=20),
    ),
    "deberta-v2": (
        T.DebertaV2ForSequenceClassification, T.DebertaV2Config, deberta_unigram, torch.float16,
        # As in DeBERTa-v3.
        sizes(
            32, 2, 64, THREE, type_vocab_size=0, layer_norm_eps=1e-7, relative_attention=True,
            position_biased_input=False, pos_att_type=["p2c", "c2p"], share_att_key=True,
            norm_rel_ebd="layer_norm", position_buckets=8, max_relative_positions=-1,
            pooler_hidden_size=32,
        ),
    ),
    "modernbert": (
        T.ModernBertForSequenceClassification, T.ModernBertConfig, modernbert_pairs, torch.float16,
        # Three layers: one attends to everything, two within a window.
        sizes(32, 2, 48, THREE, local_attention=16) | {"num_hidden_layers": 3},
    ),
}  # fmt: skip


# Those that came later stand behind the others, whose seeds stay what they were.
LATER = [
    "bert-stars", "roberta-binary", "roberta-emotions", "xlm-roberta-sentencepiece",
    "camembert-sentencepiece", "deberta-v3-sentencepiece",
]  # fmt: skip
SEEDS = sorted(set(FAMILIES) - set(LATER)) + LATER


def randomize(model):
    """Weights with which each part of the network shows in the logits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and parameter.dim() == 1:
                base = 1.0 if name.endswith("weight") else 0.0
                parameter.normal_(base, 0.2)
            elif parameter.dim() == 1:
                parameter.normal_(0.0, 0.1)
            elif "embeddings" in name and "project" not in name:
                parameter.normal_(0.0, 0.7)
            else:
                parameter.normal_(0.0, 1.2 / math.sqrt(parameter.shape[1]))


def write(name):
    """Makes a family's folder anew."""
    model_class, config_class, make_tokenizer, dtype, options = FAMILIES[name]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    if name in TOKENIZER_FILES:
        TOKENIZER_FILES[name][0](folder, tokenizer)
    else:
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    special = {
        f"{role}_token_id": tokenizer.token_to_id(token)
        for roles, tokens in {
            ("pad",): ["[PAD]", "<pad>"],
            ("bos", "cls"): ["[CLS]", "<s>"],
            ("eos", "sep"): ["[SEP]", "</s>"],
        }.items()
        for role in roles
        for token in tokens
        if tokenizer.token_to_id(token) is not None
    }
    vocab_size = tokenizer.get_vocab_size() + MORE_TOKENS.get(name, 0)
    config = config_class(vocab_size=vocab_size, **special, **options)
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    torch.manual_seed(SEEDS.index(name))
    model = model_class(config)
    randomize(model)
    state = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()
             if value.is_floating_point()}  # fmt: skip
    if model_class is BertWithoutPooler:
        state = {key.removeprefix("bert."): value for key, value in state.items()}
    if name in WEIGHT_FILES:
        WEIGHT_FILES[name](folder, state)
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for file in folder.iterdir():
        file.chmod(0o644)


def load_weights(folder):
    pickled = folder / "pytorch_model.bin"
    if pickled.exists():
        return torch.load(pickled, weights_only=True)
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def load_tokenizer(name):
    """tokenizer.json as it is, or what transformers makes of other files."""
    if name in TOKENIZER_FILES:
        return TOKENIZER_FILES[name][1].from_pretrained(FOLDER / name).backend_tokenizer
    return tokenizers.Tokenizer.from_file(str(FOLDER / name / "tokenizer.json"))


def score(name):
    """Each post with its token ids and logits, from the folder as it stands."""
    model_class, config_class, *_ = FAMILIES[name]
    folder = FOLDER / name
    config = config_class.from_pretrained(folder)
    tokenizer = load_tokenizer(name)
    if hasattr(config, "_attn_implementation"):
        config._attn_implementation = "eager"
    model = model_class(config)
    state = {key: value.float() for key, value in load_weights(folder).items()}
    if model_class is BertWithoutPooler:
        state = {
            key if key.startswith("classifier.") else f"bert.{key}": value
            for key, value in state.items()
        }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(".position_ids" in key for key in missing), (missing, unexpected)
    model.eval()
    positions = config.max_position_embeddings
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= config.pad_token_id + 1
    tokenizer.enable_truncation(positions)
    results = []
    with torch.inference_mode():
        for text in POSTS:
            ids = tokenizer.encode(text).ids
            logits = model(input_ids=torch.tensor([ids])).logits[0].tolist()
            # Nine digits give a float32 back exactly.
            logits = [float(f"{logit:.9g}") for logit in logits]
            results.append({"text": text, "input_ids": ids, "logits": logits})
    return results


def check(name, results):
    """Compares with the committed file; whether they agree."""
    lines = (FOLDER / name / "expected.jsonl").read_text(encoding="utf-8").splitlines()
    worst = 0.0
    for found, line in zip(results, lines, strict=True):
        expected = json.loads(line)
        if (found["text"], found["input_ids"]) != (expected["text"], expected["input_ids"]):
            print(f"{name}: other tokens")
            return False
        pairs = zip(found["logits"], expected["logits"], strict=True)
        worst = max([worst, *(abs(a - b) for a, b in pairs)])
    print(f"{name}: logits differ by {worst:.2g}")
    return worst <= LOGIT_TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    parser.add_argument("names", nargs="*", help="folders; left out, all of them")
    options = parser.parse_args()
    names = options.names or list(FAMILIES)
    torch.set_num_threads(1)
    if options.check:
        return 0 if all([check(name, score(name)) for name in names]) else 1
    for name in names:
        write(name)
        with open(FOLDER / name / "expected.jsonl", "w", encoding="utf-8", newline="") as out:
            results = score(name)
            out.writelines(json.dumps(result) + "\n" for result in results)
        print(f"{name}: {results[1]['logits'][:3]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
