"""Chooses the pieces of SentencePiece's vocabulary that eight languages need.

    python vocabulary.py --work DIR --out DIR [--size 60000]

Writes OUT/tokenizer.json, and OUT/rows.npy: each kept piece's id in the whole
vocabulary. Kept are all pieces that the posts of WORK use,
single letters and signs, and then the most frequent pieces in Arabic, Devanagari and
the letters of the Latin alphabets. A word whose piece was cut is made of smaller ones.
"""

import argparse
import base64
import json
import re
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from backbone import Backbone, packaged

LATIN = set("abcdefghijklmnopqrstuvwxyzáàâãäåæçéèêëíìîïñóòôõöøœúùûüýÿß")
# Letters of Persian, Urdu, Kurdish, Uyghur and Sindhi that Arabic lacks.
NOT_ARABIC = set("پچژگکیےہھںڑڈٹۀۂۃۇۆۈۋېەۓڭھڤێڵڕٺٻٽڀٿڃڄڇڌڍڎڏڙڦڪڱڳڻڽ")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def kind(piece):
    """What a piece is written in: latin, arabic, devanagari, sign or other."""
    kinds = set()
    for c in piece.replace("▁", ""):
        if not c.isalpha() and unicodedata.category(c) not in ("Mn", "Mc"):
            continue
        name = unicodedata.name(c, "?")
        if c.lower() in LATIN:
            kinds.add("latin")
        elif name.startswith("ARABIC") and c not in NOT_ARABIC:
            kinds.add("arabic")
        elif name.startswith("DEVANAGARI"):
            kinds.add("devanagari")
        elif not name.startswith(("VARIATION", "COMBINING ENCLOSING")):
            return "other"
    return kinds.pop() if len(kinds) == 1 else "other" if kinds else "sign"


def charsmap():
    """SentencePiece's table `nmt_nfkc`, which is part of every model it trains."""
    with tempfile.TemporaryDirectory() as scratch:
        prefix = f"{scratch}/m"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c d e f g"]), model_prefix=prefix, vocab_size=12,
            normalization_rule_name="nmt_nfkc", minloglevel=2, hard_vocab_limit=False,
        )
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto()
        model.ParseFromString(Path(f"{prefix}.model").read_bytes())
        return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def tokenizer_json(pieces):
    """XLM-RoBERTa's tokenizer, as transformers writes it, with these pieces."""
    special = [
        {"id": n, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for n, s in enumerate(SPECIAL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap()},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": {
                s: {"id": s, "ids": [SPECIAL.index(s)], "tokens": [s]} for s in ("<s>", "</s>")
            },
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=60000)
    args = parser.parse_args()
    backbone = Backbone(packaged())
    pieces = [[p, s] for p, s in backbone.pieces if p != "<mask>"]
    whole = Tokenizer.from_str(json.dumps(tokenizer_json(pieces)))
    corpora = json.loads((args.work / "posts.json").read_text(encoding="utf-8"))
    posts = [post for rows in corpora.values() for post, _ in rows]
    uses = np.zeros(len(pieces), int)
    for encoding in whole.encode_batch(posts, add_special_tokens=False):
        np.add.at(uses, encoding.ids, 1)
    kinds = [kind(p) for p, _ in pieces]
    keep = set(range(len(SPECIAL)))
    keep |= {n for n, k in enumerate(kinds) if uses[n] >= (5 if k == "other" else 1)}
    keep |= {n for n, k in enumerate(kinds) if k != "other" and len(pieces[n][0].strip("▁")) == 1}
    for n in range(len(pieces)):  # in the order of their frequency
        if len(keep) >= args.size:
            break
        if kinds[n] != "other":
            keep.add(n)
    rows = sorted(keep)
    print({k: sum(kinds[n] == k for n in rows) for k in sorted(set(kinds))})
    text = json.dumps(tokenizer_json([pieces[n] for n in rows]), ensure_ascii=False)
    args.out.mkdir(exist_ok=True)
    (args.out / "tokenizer.json").write_text(text, encoding="utf-8")
    np.save(args.out / "rows.npy", np.array(rows))
    cut = Tokenizer.from_str(text)
    before = sum(len(e.ids) for e in whole.encode_batch(posts))
    after = sum(len(e.ids) for e in cut.encode_batch(posts))
    print(f"{len(rows)} pieces; tokens a post {before / len(posts):.2f} before, {after / len(posts):.2f} after")


if __name__ == "__main__":
    main()
