"""Engines used from Python, one a process, driven by lines.

    python worker.py ENGINE WEIGHTS MODEL_FOLDER POSTS

Speaks what src/main.rs describes, so that every engine is measured the same way.
"""

import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

# For how long a shape is repeated.
MEASURE_SECONDS = 0.6
MIN_RUNS = 5


class OnnxRuntime:
    def __init__(self, weights, model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )

    def logits(self, input_ids, attention_mask):
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.session.run(["logits"], feed)[0]


class Torch:
    """transformers' own class with its fastest attention, in f32 or bfloat16."""

    def __init__(self, weights, model, dtype="float32"):
        import torch

        from export import load_torch

        torch.set_num_threads(1)
        self.torch = torch
        self.module = load_torch(Path(model)).to(getattr(torch, dtype))

    def logits(self, input_ids, attention_mask):
        torch = self.torch
        # Without padding the mask says nothing, and attention is faster without it.
        mask = None if attention_mask.all() else torch.from_numpy(attention_mask)
        with torch.inference_mode():
            output = self.module(input_ids=torch.from_numpy(input_ids), attention_mask=mask)
            return output.logits.float().numpy()


class CTranslate2:
    """The encoder with its pooler; the classifier's few products are NumPy's."""

    def __init__(self, weights, model):
        import ctranslate2
        from safetensors.numpy import load_file

        self.encoder = ctranslate2.Encoder(weights, compute_type="int8", inter_threads=1, intra_threads=1)
        values = load_file(Path(model) / "model.safetensors")
        self.weight, self.bias = (values[f"classifier.{name}"].astype(np.float32) for name in ("weight", "bias"))

    def logits(self, input_ids, attention_mask):
        lengths = attention_mask.sum(axis=1)
        posts = [row[:length].tolist() for row, length in zip(input_ids, lengths)]
        pooled = np.array(self.encoder.forward_batch(posts).pooler_output)
        return pooled @ self.weight.T + self.bias


class OpenVino:
    def __init__(self, weights, model):
        import openvino

        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
        self.request = openvino.Core().compile_model(weights, "CPU", settings).create_infer_request()

    def logits(self, input_ids, attention_mask):
        found = self.request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
        return next(iter(found.values()))


class LlamaCpp:
    """llama.cpp's reranking: encoder, pooler and classifier, of token ids."""

    # Of one pass. Attention is over all of its tokens, with other posts masked.
    TOKENS = 2048

    def __init__(self, weights, model):
        import llama_cpp

        if os.environ.get("PEERS_AVX2") and b"AVX512 = 1" in llama_cpp.llama_print_system_info():
            raise ValueError("llama-cpp-python is compiled for AVX-512; README.md has the command for AVX2")
        llama_cpp.llama_backend_init()
        self.api = llama_cpp
        self.model = llama_cpp.llama_model_load_from_file(weights.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise ValueError(f"{weights}: llama.cpp does not load it")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = self.TOKENS
        settings.n_seq_max = 64
        settings.kv_unified = True
        settings.n_threads = settings.n_threads_batch = 1
        settings.embeddings = True
        # Twice as slow on posts of 24 to 128 tokens.
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_RANK
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.labels = llama_cpp.llama_model_n_cls_out(self.model)

    def __del__(self):
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def logits(self, input_ids, attention_mask):
        lengths = attention_mask.sum(axis=1)
        # As many posts a pass as it has room for.
        step = max(1, self.TOKENS // input_ids.shape[1])
        passes = [self.encode(input_ids[i : i + step], lengths[i : i + step]) for i in range(0, len(lengths), step)]
        return np.concatenate(passes)

    def encode(self, input_ids, lengths):
        is_token = np.arange(input_ids.shape[1]) < lengths[:, None]
        posts, positions = (numbers.astype(np.int32) for numbers in np.nonzero(is_token))
        tokens = input_ids[is_token].astype(np.int32)
        # An array of pointers, each to the number of a token's post.
        pointers = posts.ctypes.data + posts.itemsize * np.arange(len(posts), dtype=np.uintp)
        ones, wanted = np.ones_like(posts), np.ones(len(posts), np.int8)
        fields = dict(self.api.llama_batch._fields_)
        arrays = {"token": tokens, "pos": positions, "n_seq_id": ones, "seq_id": pointers, "logits": wanted}
        batch = self.api.llama_batch(
            n_tokens=len(tokens),
            **{name: ctypes.cast(array.ctypes.data, fields[name]) for name, array in arrays.items()},
        )
        if code := self.api.llama_encode(self.context, batch):
            raise ValueError(f"llama_encode returned {code}")
        get = self.api.llama_get_embeddings_seq
        return np.array([get(self.context, post)[: self.labels] for post in range(len(lengths))])


ENGINES = {
    "ort": OnnxRuntime,
    "ctranslate2": CTranslate2,
    "openvino": OpenVino,
    "llama": LlamaCpp,
    "torch-f32": Torch,
    "torch-bf16": lambda weights, model: Torch(weights, model, "bfloat16"),
}


class Worker:
    def __init__(self, engine, weights, model, posts):
        self.make_engine = lambda: ENGINES[engine](weights, model)
        self.model = Path(model)
        self.texts = json.loads(Path(posts).read_text(encoding="utf-8"))
        self.last_labels = []
        # What a process pays once for Python's own sake is not the engine's load time.
        module = {"ort": "onnxruntime", "ctranslate2": "ctranslate2", "openvino": "openvino",
                  "llama": "llama_cpp"}
        __import__(module.get(engine, "transformers"))

    def load(self):
        self.engine = None
        start = time.perf_counter()
        self.tokenizer = Tokenizer.from_file(str(self.model / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(int(os.environ["PEERS_MAX_TOKENS"]))
        self.engine = self.make_engine()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def single(self, tokens):
        return self.uniform(1, tokens)

    def uniform(self, posts, tokens):
        # Arbitrary tokens: what they are does not change the work.
        ids = 1000 + np.arange(posts * tokens, dtype=np.int64).reshape(posts, tokens) * 7919 % 20000
        mask = np.ones_like(ids)
        self.engine.logits(ids, mask)
        times = []
        begin = time.perf_counter()
        while len(times) < MIN_RUNS or time.perf_counter() - begin < MEASURE_SECONDS:
            start = time.perf_counter()
            self.engine.logits(ids, mask)
            times.append(time.perf_counter() - start)
        return {"ms": 1e3 * statistics.median(times)}

    def mixed(self, batch, every=1):
        texts = self.texts[::every]
        start = time.perf_counter()
        posts = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(posts)), key=lambda post: len(posts[post]))
        labels = np.zeros(len(posts), np.int64)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            ids = np.zeros((len(chosen), len(posts[chosen[-1]])), np.int64)
            mask = np.zeros_like(ids)
            for row, post in enumerate(chosen):
                ids[row, : len(posts[post])] = posts[post]
                mask[row, : len(posts[post])] = 1
            labels[chosen] = self.engine.logits(ids, mask).argmax(axis=1)
        milliseconds = 1e3 * (time.perf_counter() - start)
        self.last_labels = labels.tolist()
        return {"ms": milliseconds, "posts": len(posts), "tokens": sum(map(len, posts))}

    def labels(self):
        return self.last_labels


def main():
    # Libraries print what they like; standard output is for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(*sys.argv[1:])
    for line in sys.stdin:
        command, *numbers = line.split()
        try:
            answer = getattr(worker, command)(*map(int, numbers))
        except Exception as error:  # noqa: BLE001 - the driver reports it and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
