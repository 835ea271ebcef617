"""Measures coldread beside other engines on one core, interleaved, and writes a table.

    benches/peers/run --input posts.tsv --out benches/peers/peers

Every engine runs on one thread, pinned to the same core, on the same texts cut into
the same tokens.  A round runs every engine once on every case; ratios are taken
within a round, because a shared machine is not the same machine a minute later.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import platform
import select
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import avx2
import export
import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BATCHES = (1, 8, 16, 32, 64)
# Of the posts, every so manieth decides on the batch size.
SEARCH_EVERY = 4
SHAPES = {
    "single 24": "single 24",
    "single 64": "single 64",
    "single 128": "single 128",
    "uniform 8x24": "uniform 8 24",
    "uniform 32x24": "uniform 32 24",
}
# Which of these a CPU has, coldread itself says.
ISAS = ("amx-int8", "avx512-vnni", "avx-vnni", "avx2", "neon-i8mm", "neon-dotprod")
# No answer may take longer: the slowest is a search over padded batches in f32.
TIMEOUT_SECONDS = 900


@dataclasses.dataclass
class Engine:
    key: str
    title: str
    # "python" or "rust", and what the worker calls it.
    language: str
    kind: str
    # Which file of `export.py` it reads, if any.
    variant: str | None = None


ENGINES = [
    Engine("ort-int8", "ONNX Runtime int8", "python", "ort", "int8"),
    Engine("ort-int8-fused", "ONNX Runtime int8, fused", "python", "ort", "int8-fused"),
    Engine("ort-int8-reduced", "ONNX Runtime int8, weights of 7 bits", "python", "ort", "int8-reduced"),
    Engine("rten-int8", "rten int8", "rust", "rten", "int8"),
    Engine("ctranslate2-int8", "CTranslate2 int8", "python", "ctranslate2", "ctranslate2"),
    Engine("openvino-int8", "OpenVINO int8, calibrated", "python", "openvino", "openvino"),
    Engine("llama-q8", "llama.cpp Q8_0", "python", "llama", "llama"),
    Engine("ort-f32", "ONNX Runtime f32", "python", "ort", "f32"),
    Engine("ort-f32-fused", "ONNX Runtime f32, fused", "python", "ort", "f32-fused"),
    Engine("rten-f32", "rten f32", "rust", "rten", "f32"),
    Engine("torch-f32", "PyTorch f32", "python", "torch-f32"),
    Engine("torch-bf16", "PyTorch bfloat16", "python", "torch-bf16"),
    Engine("candle-f32", "candle f32", "rust", "candle-f32"),
    Engine("candle-q8", "candle QMatMul Q8_0", "rust", "candle-q8"),
]


class Missing(Exception):
    """Why an engine cannot be measured; the others go on."""


class Worker:
    """An engine's process, and the conversation with it."""

    def __init__(self, command, environment, log):
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, command):
        try:
            print(command, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        if not select.select([self.process.stdout], [], [], TIMEOUT_SECONDS)[0]:
            self.process.kill()
            raise Missing(f"no answer to `{command}` in {TIMEOUT_SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            lines = self.log.read_text().strip().splitlines()
            raise Missing(f"ended at `{command}`: {lines[-1] if lines else 'no message'}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise Missing(f"`{command}`: {answer['error']}")
        return answer

    def peak_memory_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


class Coldread:
    """coldread's own bench command, a new process each round."""

    def __init__(self, binary, model, posts, environment):
        self.command = [str(binary)]
        # The default model is in the binary.
        if model != ROOT / "model/default":
            self.command += ["--model", str(model)]
        self.posts = posts
        self.environment = environment

    def run(self, *arguments):
        command = [*self.command, *arguments]
        try:
            run = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(str(error)) from error
        if run.returncode:
            lines = run.stderr.strip().splitlines()
            raise Missing(lines[-1] if lines else f"exit code {run.returncode}")
        return run.stdout

    def bench(self, isa):
        forced = ["--isa", isa] if isa else []
        output = self.run("bench", "--json", "--threads", "1", "--input", str(self.posts), *forced)
        return json.loads(output)

    def labels(self, names):
        output = self.run("score", "--input", str(self.posts), "--output", "jsonl")
        rows = [json.loads(line) for line in output.splitlines()]
        return [names.index(row["label"]) if "label" in row else -1 for row in rows]


def coldread_times(bench, posts):
    """The bench's figures in milliseconds a case, as the peers give them."""
    times = {f"single {row['tokens']}": row["ms"] for row in bench["single"]}
    for row in bench["uniform"]:
        tokens = row["batch"] * row["tokens"]
        times[f"uniform {row['batch']}x{row['tokens']}"] = 1e3 * tokens / row["tokens_per_second"]
    times["mixed"] = 1e3 * posts / bench["mixed"]["posts_per_second"]
    times["load"] = bench["load_ms"]
    return {case: ms for case, ms in times.items() if case in (*SHAPES, "mixed", "load")}


def main():
    arguments = parse_arguments()
    cache = arguments.cache.resolve()
    if arguments.random_roberta_base:
        arguments.model = random_roberta_base(cache / "roberta-base-random")
    # No figure of this run may come from another one's leftovers.
    work = cache / "work"
    work.mkdir(parents=True, exist_ok=True)
    model = arguments.model.resolve()
    config = json.loads((model / "config.json").read_text())
    names = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
    missing = {}

    posts, normalized = read_posts(arguments.input, arguments.posts, model)
    (work / "posts.txt").write_text("".join(f"{post}\n" for post in posts), encoding="utf-8")
    (work / "normalized.json").write_text(json.dumps(normalized), encoding="utf-8")

    say("exporting the model")
    onnx = cache / "onnx" / model_hash(model)
    variants = {e.variant for e in ENGINES if e.variant and e.key in (arguments.engines or [e.key])}
    no_onnx = export.export(model, onnx, normalized, variants)
    binaries = build(cache, arguments, missing)
    packed = None
    if binaries["coldread"]:
        try:
            packed = pack(binaries["coldread"], model, cache / "packed")
        except Missing as reason:
            missing["coldread"] = str(reason)

    held = {}
    if arguments.avx2:
        say("holding every engine to AVX2")
        held = avx2.environment(cache / "avx2")
        if binaries["peers"]:
            avx2.hold(binaries["peers"], binaries["peers"])

    # From here on everything, this process too, shares one core.
    core = max(os.sched_getaffinity(0)) if arguments.core is None else arguments.core
    os.sched_setaffinity(0, {core})
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PEERS_MAX_TOKENS": str(config["max_position_embeddings"]),
        "RAYON_NUM_THREADS": "1",
        "RTEN_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_OFFLINE": "1",
    } | held

    def start(engine):
        if engine.variant in no_onnx:
            raise Missing(no_onnx[engine.variant])
        if engine.language == "rust" and binaries["peers"] is None:
            raise Missing(missing["build"])
        python = [sys.executable, str(HERE / "worker.py")]
        program = python if engine.language == "python" else [str(binaries["peers"])]
        weights = export.file_of(onnx, engine.variant) if engine.variant else model
        inputs = [engine.kind, str(weights), str(model), str(work / "normalized.json")]
        return Worker([*program, *inputs], environment, work / f"{engine.key}.log")

    titles, workers, batches = {}, {}, {}
    for engine in ENGINES:
        if arguments.engines and engine.key not in arguments.engines:
            continue
        titles[engine.key] = engine.title
        try:
            workers[engine.key] = start(engine)
            batches[engine.key] = search_batch(workers[engine.key])
            say(f"{engine.title}: best in batches of {batches[engine.key]}")
        except Missing as reason:
            drop(engine.key, reason, workers, missing)

    coldread = None
    isas = []
    if arguments.avx2:
        arguments.isas = []
    if packed:
        coldread = Coldread(binaries["coldread"], packed, work / "posts.txt", environment)
        isas = ["", *(ISAS if arguments.isas is None else arguments.isas)]
        for isa in isas:
            key = f"coldread-{isa}" if isa else "coldread"
            titles[key] = f"coldread, {isa}" if isa else "coldread"

    before = machine_load()
    rounds, benches, memory, labels, tokens = [], [], {}, {}, {}

    def measure_coldread(isa, figures):
        key = f"coldread-{isa}" if isa else "coldread"
        if key in missing:
            return
        try:
            bench = coldread.bench("avx2" if arguments.avx2 else isa)
        except Missing as reason:
            missing[key] = str(reason)
            return
        benches.append(bench)
        figures[key] = coldread_times(bench, len(posts))
        memory[key] = bench.get("peak_memory_mb")
        tokens[key] = bench["mixed"]["tokens"]

    def measure_peer(key, figures):
        worker = workers[key]
        try:
            times = {"load": worker.ask("load")["ms"]}
            for case, command in SHAPES.items():
                times[case] = worker.ask(command)["ms"]
            mixed = worker.ask(f"mixed {batches[key]}")
            times["mixed"] = mixed["ms"]
            tokens[key] = mixed["tokens"]
            labels[key] = worker.ask("labels")
            memory[key] = worker.peak_memory_mb()
            figures[key] = times
        except Missing as reason:
            drop(key, reason, workers, missing)

    for number in range(arguments.rounds):
        say(f"round {number + 1} of {arguments.rounds}")
        figures = {}
        # coldread stands between the fastest peers, and every other round goes backwards,
        # so that a machine that drifts favours nobody.
        order = list(workers)
        turns = [(measure_peer, key) for key in order]
        if coldread:
            turns.insert(1, (measure_coldread, ""))
            turns[4:4] = [(measure_coldread, isa) for isa in isas[1:]]
        for turn, what in turns[:: -1 if number % 2 else 1]:
            turn(what, figures)
        rounds.append(figures)
        show_progress(figures)

    if coldread and "coldread" not in missing:
        try:
            labels["coldread"] = coldread.labels(names)
        except (Missing, ValueError, KeyError) as reason:
            missing["coldread's labels"] = f"{type(reason).__name__}: {reason}"
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()

    result = {
        "avx2": arguments.avx2,
        "machine": machine() | {"core": core, "before": before, "after": machine_load()},
        "versions": versions(),
        "commit": commit(),
        "command": shown_command(),
        "model": {"name": model.name, "hash": model_hash(model)},
        "posts": len(posts),
        "tokens": tokens,
        "titles": titles,
        "missing": missing,
        "batches": batches,
        "rounds": rounds,
        "peak_memory_mb": memory,
        "agreement": agreement(labels),
        "coldread": benches,
    }
    markdown = table.markdown(result)
    print(markdown)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(markdown, encoding="utf-8")
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    say(f"written: {arguments.out.with_suffix('.md')} and .json")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__.split("\n")[0])
    parser.add_argument("--input", type=Path, help="posts: label<TAB>post, or one post a line")
    parser.add_argument("--posts", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument("--out", type=Path, default=ROOT / "target/peers/result",
                        help="where .md and .json go (default target/peers/result)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--model", type=Path, default=ROOT / "model/default",
                        help="a BERT or RoBERTa folder (default model/default)")
    parser.add_argument("--random-roberta-base", action="store_true",
                        help="a model of RoBERTa-base's shape with random weights, in place of --model")
    parser.add_argument("--engines", nargs="+", choices=[e.key for e in ENGINES],
                        help="only these peers")
    parser.add_argument("--isas", nargs="*", help="instruction sets to force coldread to "
                        "(default: all that the CPU has)")
    parser.add_argument("--avx2", action="store_true",
                        help="hold every engine to AVX2, on a processor that has more (x86-64 Linux)")
    parser.add_argument("--coldread", type=Path, help="a binary to use instead of building one")
    parser.add_argument("--core", type=int, help="which core (default: the last)")
    parser.add_argument("--cache", type=Path, default=ROOT / "target/peers",
                        help="where ONNX files and the Rust peers are kept (default target/peers)")
    arguments = parser.parse_args()
    if arguments.out.suffix in (".md", ".json"):
        arguments.out = arguments.out.with_suffix("")
    return arguments


def random_roberta_base(folder):
    """125 million parameters, 12 layers of 768; speed does not depend on what they are.

    The tokenizer is the default model's, so that posts have the tokens that posts have.
    """
    if (folder / "model.safetensors").exists():
        return folder
    say("making a RoBERTa-base of random weights")
    import torch
    import transformers

    torch.manual_seed(0)
    names = ["negative", "neutral", "positive"]
    config = transformers.RobertaConfig(
        vocab_size=50_265,
        max_position_embeddings=514,
        type_vocab_size=1,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    shutil.copy(ROOT / "model/default/tokenizer.json", folder)
    return folder


def say(message):
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def drop(key, reason, workers, missing):
    """Goes on without an engine, and keeps the reason."""
    say(f"{key} is missing: {reason}")
    missing[key] = str(reason)
    worker = workers.pop(key, None)
    if worker:
        worker.process.kill()


def read_posts(path, count, model):
    """The posts, and what the model's tokenizer is to see of each.

    Peers get normalized text for nothing; coldread normalizes while the clock runs.
    """
    if path is None:
        golden = [ROOT / "tests/data" / name for name in ("golden.jsonl", "golden_posts.jsonl")]
        path = next(path for path in golden if path.exists())
    lines = path.read_text(encoding="utf-8").split("\n")
    if path.suffix == ".jsonl":
        lines = [json.loads(line)["text"] for line in lines if line]
    elif all("\t" in line for line in lines if line):
        lines = [line.partition("\t")[2] for line in lines]
    # One post a line, however it came: coldread reads them from a text file.
    posts = [" ".join(line.split()) for line in lines]

    normalize = normalizer(model)
    # Nothing but white space and invisible characters is an error to coldread, not a post.
    pairs = [(post, normalize(post)) for post in posts]
    pairs = [(post, text) for post, text in pairs if any(c.isprintable() and c != " " for c in text)]
    pairs = pairs[:count]
    return [post for post, _ in pairs], [text for _, text in pairs]


def normalizer(model):
    """The function that makes of a post what the model's tokenizer is to see."""
    file = ROOT / "model/train/normalize.py"
    spec = importlib.util.spec_from_file_location("normalize", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Normalizer.from_folder(model).normalize


def model_hash(model):
    """What the ONNX files depend on: the model and how it is exported."""
    digest = hashlib.sha256()
    for path in (model / "config.json", model / "model.safetensors", HERE / "export.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(cache, arguments, missing):
    """Both programs; None in place of what does not compile."""
    target = peers = None
    chosen = [e for e in ENGINES if e.key in (arguments.engines or [e.key])]
    is_needed = any(engine.language == "rust" for engine in chosen)
    if is_needed:
        say("building the Rust peers")
        # candle chooses the kernels of its quantized products when it is compiled.
        kind = "x86-64-v3" if arguments.avx2 else "native"
        target = cache / f"cargo-{kind}"
        flags = os.environ | {"RUSTFLAGS": f"-C target-cpu={kind}"}
        peers = cargo(HERE, flags, "--locked", "--target-dir", str(target))
    if peers:
        missing["build"] = peers
    coldread = None
    if arguments.coldread is None:
        say("building coldread")
        coldread = cargo(ROOT, os.environ)
    if coldread:
        missing["coldread"] = coldread
    binary = arguments.coldread or ROOT / "target/release/coldread"
    return {
        "peers": target / "release/coldread-peers" if is_needed and not peers else None,
        "coldread": None if coldread else binary.resolve(),
    }


def pack(coldread, model, cache):
    """The packed file of a model folder, as one deploys it: a folder would run at the full range, slower on AVX2."""
    if model == ROOT / "model/default":
        return model
    # Another build may pack otherwise.
    digest = hashlib.sha256(coldread.read_bytes())
    packed = cache / f"{model_hash(model)}-{digest.hexdigest()[:16]}.coldread"
    if not packed.exists():
        say("packing the model for coldread")
        packed.parent.mkdir(parents=True, exist_ok=True)
        run = subprocess.run([coldread, "pack", model, "-o", packed], stderr=subprocess.PIPE, text=True)
        if run.returncode:
            raise Missing(run.stderr.strip().splitlines()[-1])
    return packed


def cargo(folder, environment, *arguments):
    """Builds a package; returns why it failed, or None."""
    command = ["cargo", "build", "--release", "--quiet", *arguments]
    try:
        run = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        return str(error)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error")]
    return None if run.returncode == 0 else (errors or ["cargo failed"])[0]


def search_batch(worker):
    """The batch size at which an engine does the posts fastest."""
    worker.ask("load")
    worker.ask(f"mixed 8 {4 * SEARCH_EVERY}")
    times = {size: worker.ask(f"mixed {size} {SEARCH_EVERY}")["ms"] for size in BATCHES}
    return min(times, key=times.get)


def show_progress(figures):
    for key, times in figures.items():
        shown = ", ".join(f"{case} {ms:.2f}" for case, ms in times.items())
        say(f"  {key}: {shown} ms")


def agreement(labels):
    """Per engine, the share of posts with the label that f32 gives."""
    reference = next((key for key in ("torch-f32", "ort-f32", "rten-f32", "candle-f32") if key in labels), None)
    if reference is None:
        return {}
    truth = labels[reference]
    return {"reference": reference} | {
        key: statistics.fmean(a == b for a, b in zip(mine, truth, strict=True))
        for key, mine in labels.items()
        if len(mine) == len(truth)
    }


def machine():
    wanted = (
        "avx2 fma avx_vnni avx512f avx512_bf16 avx512_vnni amx_tile amx_int8 amx_bf16 asimddp i8mm".split()
    )
    info = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        info.setdefault(name.strip(), value.strip())
    has = info.get("flags", info.get("Features", "")).split()
    return {
        "cpu": info.get("model name", platform.machine()),
        "family": " ".join(f"{name} {info[name]}" for name in ("cpu family", "model", "stepping") if name in info),
        "flags": {flag: flag in has for flag in wanted if platform.machine() == "x86_64" or flag in has},
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def machine_load():
    """How busy the machine is with other work: load, and time that the hypervisor took."""
    user, nice, system, idle, wait, irq, soft, steal = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return {"load": os.getloadavg()[0], "steal": steal,
            "jiffies": user + nice + system + idle + wait + irq + soft + steal}


def versions():
    packages = ("onnxruntime", "onnx", "ctranslate2", "openvino", "nncf", "llama_cpp_python", "gguf", "transformers", "torch", "tokenizers", "numpy")
    installed = {package.name for package in metadata.distributions()}
    found = {name: metadata.version(name) for name in packages if name in installed}
    found["python"] = platform.python_version()
    lock = (HERE / "Cargo.lock").read_text().split("[[package]]")
    for crate in ("rten", "candle-core", "candle-transformers", "gemm", "tokenizers"):
        entry = next(part for part in lock if f'name = "{crate}"\n' in part)
        found[f"{crate} (crate)"] = entry.split('version = "')[1].split('"')[0]
    found["rustc"] = output("rustc", "--version").removeprefix("rustc ")
    return found


def commit():
    changed = " with changes" if output("git", "status", "--porcelain", "--untracked-files=no") else ""
    return output("git", "rev-parse", "--short=12", "HEAD") + changed


def output(*command):
    """What a command prints; "unknown" where there is no such program."""
    try:
        run = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return run.stdout.strip()


def shown_command():
    """The command without folders, which say nothing on another machine."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    script = [] if Path(sys.argv[0]).stem == "peers" else [Path(sys.argv[0]).stem]
    return shlex.join(["benches/peers/run", *script, *words])


if __name__ == "__main__":
    main()
