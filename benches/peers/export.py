"""Makes the ONNX files that ONNX Runtime and rten are measured on.

    python export.py MODEL OUT

Writes into OUT, each once:

    f32.onnx, f32-fused.onnx     the graph as exported, and after onnxruntime's transformers optimizer
    int8.onnx, int8-fused.onnx   both quantized dynamically: int8 weights per channel, uint8 activations
    int8-reduced.onnx            the same with weights of 7 bits, whose sums AVX2's kernels do not saturate
    ctranslate2                  the encoder as a CTranslate2 model in int8
    openvino.xml                 quantized by nncf, activations calibrated on the posts that are measured
    llama.gguf                   llama.cpp's Q8_0: int8 weights, a scale for every 32 inputs
"""

import collections
import os
import sys
import warnings
from pathlib import Path

# 17 is the first opset with LayerNormalization as one operator.
OPSET = 17


CALIBRATION_POSTS = 300


def export(model, out, texts, wanted):
    """Writes the files of the variants in `wanted` that `out` lacks; returns {variant: why it could not be made}."""
    import json

    config = json.loads((model / "config.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    failed = {}
    wanted = {"f32", *wanted, *(["f32-fused"] if "int8-fused" in wanted else [])}
    steps = {
        "f32": lambda to: export_f32(model, to),
        "f32-fused": lambda to: fuse(out / "f32.onnx", to, config),
        "int8": lambda to: quantize(out / "f32.onnx", to, config),
        "int8-fused": lambda to: quantize(out / "f32-fused.onnx", to, config),
        "int8-reduced": lambda to: quantize(out / "f32.onnx", to, config, reduce_range=True),
        "ctranslate2": lambda to: convert_to_ctranslate2(model, to),
        "openvino": lambda to: calibrate_openvino(out / "f32.onnx", to, model, texts),
        "llama": lambda to: write_gguf(model, to, config),
    }
    for variant, make in steps.items():
        path = file_of(out, variant)
        if variant not in wanted or path.exists():
            continue
        # Under another name until it is whole: a killed run must not leave a broken cache.
        scratch = path.with_name(f"new-{path.name}")
        try:
            make(scratch)
            os.replace(scratch, path)
        except Exception as error:  # noqa: BLE001 - a variant that fails is reported, not fatal
            failed[variant] = f"{type(error).__name__}: {error}"
    return failed


def file_of(out, variant):
    """Where `export` puts a variant."""
    return out / {"ctranslate2": "ctranslate2", "openvino": "openvino.xml", "llama": "llama.gguf"}.get(
        variant, f"{variant}.onnx"
    )


def load_torch(model):
    """The model folder as a float32 PyTorch module in inference mode."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    module = transformers.AutoModelForSequenceClassification.from_pretrained(
        model, dtype=torch.float32, attn_implementation="sdpa"
    )
    return module.eval()


def export_f32(model, to):
    import onnx
    import torch

    class Graph(torch.nn.Module):
        """Ids and mask in, logits out, and nothing between them that the scores do not need."""

        def __init__(self):
            super().__init__()
            self.model = load_torch(model)
            # Becomes plain MatMul and Softmax, which every runtime knows and can fuse.
            self.model.set_attn_implementation("eager")

        def forward(self, input_ids, attention_mask):
            encoder = self.model.base_model
            # transformers' own mask is a dozen operators that no runtime folds.
            mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -1e9
            inputs = {"input_ids": input_ids, "token_type_ids": torch.zeros_like(input_ids)}
            if self.model.config.model_type == "roberta":
                # The same numbers for every row: where a row is padded, they are masked.
                first = self.model.config.pad_token_id + 1
                positions = torch.arange(input_ids.shape[1], device=input_ids.device)
                inputs["position_ids"] = (positions + first).expand_as(input_ids)
            hidden = encoder.embeddings(**inputs)
            hidden = encoder.encoder(hidden, attention_mask=mask).last_hidden_state
            pooler = getattr(encoder, "pooler", None)
            return self.model.classifier(pooler(hidden) if pooler else hidden)

    ids = torch.randint(1000, 2000, (2, 24))
    names = ["input_ids", "attention_mask"]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (ids, torch.ones_like(ids)),
            str(to),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
            opset_version=OPSET,
            # The older exporter's graphs are what onnxruntime's attention fusion recognizes.
            dynamo=False,
        )
    whole = onnx.load(to)
    divide_scores(whole.graph)
    # Notes on shapes, which contradict what quantization makes of the classifier.
    del whole.graph.value_info[:]
    onnx.checker.check_model(whole)
    onnx.save(whole, to)


def divide_scores(graph):
    """Attention scores divided by sqrt(d) instead of multiplied by its inverse.

    The same to a runtime, but the only form in which onnxruntime fuses attention.
    """
    import numpy as np
    from onnx import numpy_helper

    constants = {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    constants |= {initializer.name: initializer for initializer in graph.initializer}
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Mul" and node.input[0] in products and node.input[1] in constants:
            inverse = np.asarray(1 / numpy_helper.to_array(constants[node.input[1]]))
            name = f"{node.name}/divisor"
            graph.initializer.append(numpy_helper.from_array(inverse, name))
            node.op_type = "Div"
            node.input[1] = name


def fuse(source, to, config):
    from onnxruntime.transformers import optimizer

    fused = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        opt_level=0,
    )
    if not sum(fused.get_fused_operator_statistics().values()):
        raise ValueError("the optimizer fused nothing")
    del fused.model.graph.value_info[:]
    fused.save_model_to_file(str(to))


def quantize(source, to, config, reduce_range=False):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(to),
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=reduce_range,
        # Products of two activations (attention) stay f32: quantizing them costs accuracy.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1},
    )
    check_int8(to, config["num_hidden_layers"])


def check_int8(path, layers):
    """Refuses files whose int8 weights would be turned back into floats: they run at f32 speed."""
    import onnx

    graph = onnx.load(path).graph
    types = {i.name: i.data_type for i in graph.initializer}
    int8 = [
        node
        for node in graph.node
        if node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul", "QAttention")
        and types.get(node.input[1]) == onnx.TensorProto.INT8
    ]
    found = collections.Counter(node.op_type for node in int8)
    # Q, K and V are three products a layer, or one QAttention; three more follow.
    want = layers * (4 if found["QAttention"] else 6)
    if sum(found.values()) < want:
        raise ValueError(f"of at least {want} int8 products only {dict(found)} are there")
    float_weights = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm", "Attention")
        and types.get(node.input[1]) == onnx.TensorProto.FLOAT
    ]
    # The classifier and the layer before it are one row each; nothing larger may be left.
    if len(float_weights) > 2:
        raise ValueError(f"products left in float: {float_weights}")


def convert_to_ctranslate2(model, to):
    """The encoder and the pooler; the classifier stays in PyTorch's hands and takes no time."""
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(model)).convert(str(to), quantization="int8", force=True)


def calibrate_openvino(source, to, model, texts):
    import nncf
    import numpy as np
    import openvino
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)

    def feed(text):
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    quantized = nncf.quantize(
        openvino.convert_model(str(source)),
        nncf.Dataset(texts[:CALIBRATION_POSTS], feed),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=CALIBRATION_POSTS,
    )
    # The weights' file is written beside, under the final name.
    openvino.save_model(quantized, str(to))
    os.replace(to.with_suffix(".bin"), to.with_name("openvino.bin"))


def write_gguf(model, to, config):
    """What llama.cpp's converter and `llama-quantize` make of a BERT or RoBERTa, with the head that its converter leaves out.

    Without a vocabulary: llama.cpp gets token ids.
    """
    import gguf

    q8 = gguf.GGMLQuantizationType.Q8_0
    layers = config["num_hidden_layers"]
    # Positions of RoBERTa begin behind the padding's.
    first = config["pad_token_id"] + 1 if config["model_type"] == "roberta" else 0
    writer = gguf.GGUFWriter(to, "bert")
    writer.add_context_length(config["max_position_embeddings"] - first)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(layers)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels([config["id2label"][str(i)] for i in range(len(config["id2label"]))])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    head = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}
    module = load_torch(model)
    for name, tensor in module.state_dict().items():
        layer, _, kind = name.removeprefix(f"{module.base_model_prefix}.").rpartition(".")
        values = tensor.numpy()
        if layer == "embeddings.position_embeddings":
            values = values[first:]
        products = layer == "embeddings.word_embeddings" or layer.startswith("encoder.") and values.ndim == 2
        if products:
            values = gguf.quants.quantize(values, q8)
        writer.add_tensor(f"{names.get_name(head.get(layer, layer))}.{kind}", values, raw_dtype=q8 if products else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    problems = export(Path(sys.argv[1]), Path(sys.argv[2]), [], ["f32", "f32-fused", "int8", "int8-fused"])
    for variant, reason in problems.items():
        print(f"{variant}: {reason}", file=sys.stderr)
    sys.exit(bool(problems))
