"""Writes tests/data/gguf: a tiny random language model of each architecture in GGUF, and what
llama.cpp and transformers make of it.

Each model has an ordinary vocabulary of its family's kind and NAME.jsonl beside it: texts with
llama.cpp's token ids (special tokens in them are text), and transformers' logits in float32 of the
same quantized weights after those tokens. The weights are random, so the logits mean nothing; what
they hold is every detail of a forward pass. Seeded.

In an environment of its own, for llama-cpp-python is compiled:

    pip install torch transformers accelerate gguf llama-cpp-python
    python tests/parity/language_models.py
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from llama_cpp import Llama
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel

FOLDER = Path(__file__).resolve().parents[1] / "data/gguf"

CORPUS = """
Is the sentiment of each post negative, neutral or positive?
Post: the coffee here is really good and the people are friendly
Sentiment: positive
Post: i waited forty minutes for a cold coffee, never again
Sentiment: negative
Post: the match starts at eight, doors open at seven
Category: neutral
user model assistant
""".strip().splitlines()

TEXTS = [
    "good",
    "The coffee was GOOD!",
    "never again... 40 minutes of waiting for a cold coffee, and it wasn't even good",
    "Post: the match starts at 8\nSentiment:",
    "le café est très bon 😍😍",
    " two  spaces ",
    "<end_of_turn>\n<start_of_turn>model\npositive<eos>",
    "<|im_end|>\n<|im_start|>assistant\n<think>positive</s>",
]

# Logits of so many tokens of the vocabulary are kept.
KEPT = 48

HIDDEN, HEADS, KV_HEADS, INNER = 32, 4, 2, 32
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6


def sentencepiece(writer, specials, bos, eos, line_breaks):
    """A vocabulary of pieces with scores: specials, bytes, characters, merged pieces. In Gemma's,
    runs of line breaks are tokens as well, and no space is put before a text."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200))
    pieces = sorted(model.get_vocab(), key=model.get_vocab().get)
    tokens = specials + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    types = [CONTROL] * len(specials) + [BYTE] * 256 + [NORMAL] * len(pieces)
    scores = [0.0] * (len(specials) + 256) + [-float(rank) for rank in range(len(pieces))]
    if line_breaks:
        tokens += ["\n", "\n\n"]
        types += [USER_DEFINED] * 2
        scores += [-1000.0] * 2
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(specials.index("<unk>"))
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(not line_breaks)
    return len(tokens)


def bpe(writer, specials):
    """A vocabulary of bytes and merges."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=ByteLevel.alphabet())
    model.train_from_iterator(CORPUS, trainer)
    data = json.loads(model.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + specials)
    writer.add_token_types([NORMAL] * len(tokens) + [CONTROL] * len(specials))
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_eos_token_id(len(tokens))
    writer.add_add_bos_token(False)
    return len(tokens) + len(specials)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
GEMMA = "<start_of_turn>user\n{{ messages[0].content }}<end_of_turn>\n<start_of_turn>model\n"


def write(name):
    random = np.random.default_rng(sum(name.encode()))
    path = FOLDER / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, name)
    is_gemma = name == "gemma3"
    layers = 7 if is_gemma else 2
    writer.add_name(f"tiny random {name}")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    # Heads of newer models need not add up to the hidden size.
    head_dim = 16 if name == "qwen3" else HIDDEN // HEADS
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6 if is_gemma else 1e4)
    if is_gemma:
        # Shorter than the texts, so that the windows of the layers below the sixth matter.
        writer.add_sliding_window(8)
    if name == "llama":
        writer.add_rope_dimension_count(head_dim)
        vocab = sentencepiece(writer, ["<unk>", "<s>", "</s>"], 1, 2, line_breaks=False)
        writer.add_vocab_size(vocab)
    elif is_gemma:
        specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
        vocab = sentencepiece(writer, specials, 2, 1, line_breaks=True)
        writer.add_chat_template(GEMMA)
    else:
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        if name == "qwen3":
            specials += ["<think>", "</think>"]
            writer.add_chat_template(CHATML + "<think>\n\n</think>")
        else:
            writer.add_chat_template(CHATML)
        vocab = bpe(writer, specials)

    def matrix(tensor, rows, columns):
        kind = gguf.GGMLQuantizationType.Q8_0
        values = random.normal(0, 1.5 / columns**0.5, (rows, columns)).astype(np.float32)
        writer.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(tensor, length, mean):
        writer.add_tensor(tensor, random.normal(mean, 0.3, length).astype(np.float32))

    matrix("token_embd.weight", vocab, HIDDEN)
    if name in ("llama", "qwen2"):
        matrix("output.weight", vocab, HIDDEN)
    vector("output_norm.weight", HIDDEN, 1)
    queries, keys = HEADS * head_dim, KV_HEADS * head_dim
    for layer in range(layers):
        part = f"blk.{layer}."
        for tensor, rows, columns in [
            ("attn_q", queries, HIDDEN),
            ("attn_k", keys, HIDDEN),
            ("attn_v", keys, HIDDEN),
            ("attn_output", HIDDEN, queries),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ]:
            matrix(f"{part}{tensor}.weight", rows, columns)
            if name == "qwen2" and tensor in ("attn_q", "attn_k", "attn_v"):
                vector(f"{part}{tensor}.bias", rows, 0)
        vector(f"{part}attn_norm.weight", HIDDEN, 1)
        vector(f"{part}ffn_norm.weight", HIDDEN, 1)
        if name in ("qwen3", "gemma3"):
            vector(f"{part}attn_q_norm.weight", head_dim, 1)
            vector(f"{part}attn_k_norm.weight", head_dim, 1)
        if is_gemma:
            vector(f"{part}post_attention_norm.weight", HIDDEN, 1)
            vector(f"{part}post_ffw_norm.weight", HIDDEN, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expect(name, path, vocab, head_dim)


def expect(name, path, vocab, head_dim):
    tokenizer = Llama(str(path), vocab_only=True, verbose=False)
    config = transformers.AutoConfig.from_pretrained(FOLDER, gguf_file=path.name)
    # What transformers does not read from the file.
    config.head_dim = head_dim
    if name == "gemma3":
        config.query_pre_attn_scalar = head_dim
    model = transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER,
        gguf_file=path.name,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
    )
    with open(FOLDER / f"{name}.jsonl", "w", encoding="utf-8") as lines:
        for text in TEXTS:
            tokens = tokenizer.tokenize(text.encode(), add_bos=False, special=False)
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, -1]
            kept = np.linspace(0, vocab - 1, KEPT, dtype=int).tolist()
            line = {
                "text": text,
                "tokens": tokens,
                "of": kept,
                "logits": [round(logits[i].item(), 5) for i in kept],
            }
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(name, path.stat().st_size, "bytes")


FOLDER.mkdir(exist_ok=True)
for architecture in ["llama", "qwen2", "qwen3", "gemma3"]:
    write(architecture)
