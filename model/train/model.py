"""The network: BERT with a classifier on [CLS], as Hugging Face names it.

`Classifier` computes what transformers' BertForSequenceClassification does and
keeps its parameter names, but is written for training on a CPU: no attention
dropout (fused attention kernels have none) and little else per layer, so that
a compiler can fuse what lies between the matrix products.
"""

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

# Without instructions for bfloat16 it is emulated, at a thirteenth of float32's speed.
CAPABILITIES = torch.cpu.get_capabilities()
FAST_BFLOAT16 = CAPABILITIES.get("avx512_bf16") or CAPABILITIES.get("amx_bf16")
COMPUTE = torch.bfloat16 if FAST_BFLOAT16 else torch.float32
LAYERS, HIDDEN, HEADS, INNER, VOCABULARY, POSITIONS = 6, 384, 12, 1536, 30522, 512


def drop(x, rate):
    """Dropout from one random byte per element: drawing them is what costs."""
    if rate == 0.0 or not torch.is_grad_enabled():
        return x
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= round(rate * 256)
    return x * (keep.to(x.dtype) * (1.0 / (1.0 - round(rate * 256) / 256)))


class Dense(nn.Module):
    """A linear map, and a LayerNorm over its sum with the layer's input."""

    def __init__(self, inputs, outputs, norm):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        if norm:
            self.LayerNorm = nn.LayerNorm(outputs, eps=1e-12)

    def forward(self, x, residual, dropout):
        return self.LayerNorm(drop(self.dense(x), dropout) + residual)


class SelfAttention(nn.Module):
    """Scaled dot-product attention with twelve heads."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x, mask, first_only):
        batch, length, _ = x.shape
        asking = x[:, :1] if first_only else x
        q = self.query(asking).view(batch, -1, HEADS, HIDDEN // HEADS).permute(0, 2, 1, 3)
        kv = F.linear(
            x,
            torch.cat([self.key.weight, self.value.weight]),
            torch.cat([self.key.bias, self.value.bias]),
        )
        k, v = kv.view(batch, length, 2, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q, k.transpose(-1, -2)) * (HIDDEN / HEADS) ** -0.5 + mask
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return mixed.transpose(1, 2).reshape(batch, -1, HIDDEN)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.self = SelfAttention()
        self.output = Dense(HIDDEN, HIDDEN, norm=True)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.intermediate = Dense(HIDDEN, INNER, norm=False)
        self.output = Dense(INNER, HIDDEN, norm=True)

    def forward(self, x, mask, dropout, first_only=False):
        """`first_only`: only the state of [CLS], all that the last layer owes."""
        mixed = self.attention.self(x, mask, first_only)
        x = self.attention.output(mixed, x[:, : mixed.shape[1]], dropout)
        return self.output(F.gelu(self.intermediate.dense(x)), x, dropout)


class Encoder(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(layers))


class Embeddings(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, HIDDEN)
        self.position_embeddings = nn.Embedding(POSITIONS, HIDDEN)
        self.token_type_embeddings = nn.Embedding(2, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, eps=1e-12)


class Bert(nn.Module):
    def __init__(self, layers, vocabulary):
        super().__init__()
        self.embeddings = Embeddings(vocabulary)
        self.encoder = Encoder(layers)
        self.pooler = Dense(HIDDEN, HIDDEN, norm=False)


class Classifier(nn.Module):
    """Token ids -> logits."""

    def __init__(self, outputs=3, dropout=0.1, layers=LAYERS, vocabulary=VOCABULARY):
        super().__init__()
        self.bert = Bert(layers, vocabulary)
        self.classifier = nn.Linear(HIDDEN, outputs)
        self.dropout = dropout

    def embed(self, words):
        """Word embeddings of a batch -> what the first layer sees."""
        e = self.bert.embeddings
        x = words + e.position_embeddings.weight[: words.shape[1]] + e.token_type_embeddings.weight[0]
        return drop(e.LayerNorm(x), self.dropout)

    def encode(self, x, mask, first, last):
        """Layers `first` to before `last`; `mask` is added to attention scores."""
        for number in range(first, last):
            layer = self.bert.encoder.layer[number]
            x = layer(x, mask, self.dropout, first_only=number == len(self.bert.encoder.layer) - 1)
        return x

    def classify(self, x):
        """The state of [CLS] -> logits."""
        pooled = torch.tanh(self.bert.pooler.dense(x[:, 0]))
        return self.classifier(drop(pooled, self.dropout)).float()

    def load_backbone(self, path, generator):
        """The sentence encoder's weights; it never used a pooler, ours is new."""
        weights = load_file(path)
        weights = {f"bert.{name}": w for name, w in weights.items() if "position_ids" not in name}
        for name in ("bert.pooler.dense.weight", "bert.pooler.dense.bias"):
            weights.pop(name)
        missing, unexpected = self.load_state_dict(weights, strict=False)
        assert not unexpected and all("pooler" in m or "classifier" in m for m in missing)
        with torch.no_grad():
            for linear, std in ((self.bert.pooler.dense, 0.05), (self.classifier, 0.02)):
                linear.weight.normal_(0.0, std, generator=generator)
                linear.bias.zero_()
