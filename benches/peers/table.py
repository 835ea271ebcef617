"""The Markdown report of one measuring run."""

import statistics

CASES = ("single 24", "single 64", "single 128", "uniform 8x24", "uniform 32x24", "mixed")
ORT = ("ort-int8", "ort-int8-fused")
# Case, against whom, how many times faster coldread is to be.
GOALS = (
    ("single 24", "ONNX Runtime int8", ORT, 3.5),
    ("single 128", "ONNX Runtime int8", ORT, 2.0),
    ("mixed", "ONNX Runtime int8", ORT, 2.3),
    ("uniform 32x24", "rten int8", ("rten-int8",), 2.4),
)
FASTEST_INT8 = (*ORT, "ort-int8-reduced", "rten-int8", "ctranslate2-int8", "openvino-int8", "llama-q8")
AVX2_GOALS = (
    ("single 24", "the fastest int8 peer", FASTEST_INT8, 1.7),
    ("mixed", "the fastest int8 peer", FASTEST_INT8, 1.7),
    ("uniform 32x24", "the fastest int8 peer", FASTEST_INT8, 1.6),
)


def markdown(result):
    """The report: goals, speeds, ratios, then what they were measured on."""
    keys = [key for key in result["titles"] if any(key in figures for figures in result["rounds"])]
    keys.sort(key=lambda key: not key.startswith("coldread"))
    where = ", AVX2" if result["avx2"] else ", on a processor that has AVX2 only"
    sections = [
        "# coldread beside other engines" + (where if on_avx2(result) else ""),
        introduction(result),
        "## Goals\n\n" + goals(result),
        "## Speed\n\n" + speeds(result, keys),
        "## How many times faster coldread is\n\n" + ratios(result, keys),
    ]
    if result["missing"]:
        rows = [[f"`{key}`", reason.replace("|", "\\|")] for key, reason in result["missing"].items()]
        sections.append("## Missing\n\n" + table(["what", "why"], rows))
    sections.append("## Measured on\n\n" + circumstances(result))
    return "\n\n".join(sections) + "\n"


def on_avx2(result):
    """Whether that is all the processor has, or all that was used of it."""
    return {bench["isa"] for bench in result["coldread"]} == {"avx2"}


def introduction(result):
    tokens = set(result["tokens"].values())
    same = f"{max(tokens):,} tokens in every engine"
    if len(tokens) > 1:
        same = "**tokens differ**: " + ", ".join(f"{k} {n:,}" for k, n in result["tokens"].items())
    mean = max(tokens) / result["posts"]
    held = (
        " Every engine was held to AVX2: ONNX Runtime and the Rust peers by hiding newer instructions from them "
        "(`avx2.py`), the others by their own switches."
    )
    return (
        "One thread of each engine, all pinned to the same core, taking turns for "
        f"{len(result['rounds'])} rounds; medians over rounds, ± half the range. *single* and *uniform* "
        "are token ids to logits. *mixed* is text to labels, tokenization included, of "
        f"{result['posts']:,} posts ({same}, mean {mean:.1f}): peers get normalized text, sort it by length "
        "and pad batches of the size that suits each best; coldread normalizes, and keeps the order of arrival."
    ) + (held if result["avx2"] else "")


def goals(result):
    rounds, rows = result["rounds"], []
    for case, name, peers, goal in AVX2_GOALS if on_avx2(result) else GOALS:
        found = per_round(rounds, case, peers)
        shown = f"{ratio(found)}, {'met' if statistics.median(found) >= goal else 'not met'}" if found else "not measured"
        rows.append([case, name, f"{goal} times", shown])
    for case in CASES:
        everyone = {key for figures in rounds for key in figures if not key.startswith("coldread")}
        found = per_round(rounds, case, everyone)
        if found:
            rows.append([case, "the fastest peer of each round", "", ratio(found)])
    return table(["case", "against", "goal", "coldread is faster by"], rows)


def per_round(rounds, case, peers):
    """Time of the fastest of `peers` over coldread's, in every round that has both."""
    return [
        min(figures[key][case] for key in peers if case in figures.get(key, {}))
        / figures["coldread"][case]
        for figures in rounds
        if case in figures.get("coldread", {})
        and any(case in figures.get(key, {}) for key in peers)
    ]


def ratio(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def speeds(result, keys):
    head = ["engine", "1 x 24, ms", "1 x 64, ms", "1 x 128, ms", "8 x 24, tokens/s",
            "32 x 24, tokens/s", "mixed, posts/s", "batch", "load, ms", "peak MB", "labels as f32"]
    rows = []
    for key in keys:
        times = {
            case: [figures[key][case] for figures in result["rounds"] if case in figures.get(key, {})]
            for case in (*CASES, "load")
        }
        row = [result["titles"][key]]
        row += [spread(times[case], 2) for case in CASES[:3]]
        row += [spread([1e3 * tokens / ms for ms in times[case]]) for case, tokens in zip(CASES[3:5], (192, 768))]
        row.append(spread([1e3 * result["posts"] / ms for ms in times["mixed"]]))
        row.append(str(result["batches"].get(key, "as they come")))
        row.append(f"{statistics.median(times['load']):.1f}")
        memory = result["peak_memory_mb"].get(key)
        row.append(f"{memory:.0f}" if memory else "")
        agreement = result["agreement"].get(key)
        row.append(f"{agreement:.2%}" if agreement is not None else "")
        rows.append(row)
    return table(head, rows)


def spread(values, digits=0):
    if not values:
        return "not measured"
    median = statistics.median(values)
    half = 50 * (max(values) - min(values)) / median
    return f"{median:,.{digits}f} ±{half:.0f}%"


def ratios(result, keys):
    rows = []
    for key in keys:
        found = [per_round(result["rounds"], case, (key,)) for case in CASES]
        if key != "coldread" and any(found):
            rows.append([result["titles"][key]] + [f"{statistics.median(f):.2f}" if f else "" for f in found])
    if not rows:
        return "coldread was not measured."
    return table(["engine", *CASES], rows)


def circumstances(result):
    machine = result["machine"]
    before, after = machine["before"], machine["after"]
    jiffies = max(1, after["jiffies"] - before["jiffies"])
    isas = list(dict.fromkeys(bench["isa"] for bench in result["coldread"]))
    flags = [flag if has else f"no {flag}" for flag, has in machine["flags"].items()]
    lines = [
        f"{machine['cpu']} ({machine['family']}), {machine['cores']} cores, {machine['system']}, {machine['date']}.",
        f"CPU features: {', '.join(flags)}. ONNX Runtime and oneDNN (PyTorch) choose their kernels "
        "by these themselves; with amx_int8 or amx_bf16 they may use AMX.",
        f"coldread chose {isas[0] if isas else 'nothing'}; instruction sets measured: {', '.join(isas) or 'none'}.",
        f"Load average {before['load']:.1f} before and {after['load']:.1f} after (1 is this run alone); the "
        f"hypervisor took {(after['steal'] - before['steal']) / jiffies:.1%} of the time.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + ".",
        "`candle QMatMul` is BERT with the encoder's linears in Q8_0; embeddings, attention and head are f32. "
        "*fused* is the graph after onnxruntime's transformers optimizer; the other is fused by the session alone.",
        f"Agreement is with {result['titles'].get(result['agreement'].get('reference'), 'nothing')}, on the same posts.",
        f"Model `{result['model']['name']}` {result['model']['hash']}, commit {result['commit']}, `{result['command']}`.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
