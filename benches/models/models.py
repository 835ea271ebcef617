"""Each family at full size: what packing it takes, how large it gets, how fast it runs.

    benches/models/run --coldread target/x86_64-unknown-linux-gnu/release/coldread

Every model is made here, one at a time, with random weights in the shape that its family is best known
in: speed and size do not depend on what the weights are. It is packed, and a file of posts of 24
tokens is scored on one thread. The table goes to standard output and, with --write, into docs/models.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/models.md"
MARKS = ("<!-- written by benches/models/run -->", "<!-- end -->")
ROUNDS = 3
# 22 words of one token each between the two special ones.
POST = " ".join(["the"] * 22)


def main():
    parser = argparse.ArgumentParser(prog="benches/models/run", description=__doc__.split("\n")[0])
    parser.add_argument("--coldread", type=Path, default=ROOT / "target/release/coldread")
    parser.add_argument("--only", nargs="+", help="only these models")
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    arguments = parser.parse_args()
    # On one core from here on.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    for name in arguments.only or families():
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as scratch:
            rows.append(measure(name, arguments.coldread.resolve(), Path(scratch)))
        print(rows[-1], file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    if arguments.write:
        before, rest = DOCUMENT.read_text().split(MARKS[0])
        _, after = rest.split(MARKS[1])
        DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
    return 0


def families(*arguments):
    """What the program beside this one answers."""
    program = [sys.executable, str(Path(__file__).with_name("families.py"))]
    run = subprocess.run([*program, *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure(name, binary, scratch):
    """A row: the model made, packed and run."""
    folder, packed = scratch / "model", scratch / "packed"
    row = families(name, folder)
    weights = folder / "model.safetensors"
    started = time.perf_counter()
    with weights.open("rb") as file:
        while file.read(1 << 20):
            pass
    row |= {
        "name": name,
        "f32_mb": weights.stat().st_size / 1e6,
        "read_s": time.perf_counter() - started,
    }
    pack, seconds, peak = run([binary, "pack", folder, "-o", packed, "--exact"])
    row["int8"] = pack.returncode == 0
    if row["int8"]:
        row |= {"pack_s": seconds, "pack_peak_mb": peak, "packed_mb": packed.stat().st_size / 1e6}
    elif b"cannot be packed" not in pack.stderr:
        raise RuntimeError(pack.stderr.decode())
    model, many = (packed, 200) if row["int8"] else (folder, 16)
    row["ms"] = milliseconds(binary, model, scratch, many)
    return row


def milliseconds(binary, model, scratch, many):
    """One post among many, without the start: what more posts take more, by the post."""
    times = []
    for count in (1, many + 1) * ROUNDS:
        file = scratch / "posts.txt"
        file.write_text(f"{POST}\n" * count)
        command = [binary, "--model", model, "score", "--input", file, "--output", "jsonl"]
        result, seconds, _ = run(command)
        if result.returncode and b"cannot be packed" in result.stderr:
            # A binary without candle.
            return None
        if result.returncode:
            raise RuntimeError(result.stderr.decode())
        times.append(seconds)
    return statistics.median(
        1e3 * (more - one) / many for one, more in zip(times[::2], times[1::2], strict=True)
    )


def run(command):
    """A program's result, its seconds, and the most memory that it had, in MB."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        result = subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())
    return result, seconds, usage.ru_maxrss * 1024 / 1e6


def table(rows):
    head = [
        "family", "measured as", "head", "engine", "parameters", "f32 file", "packed",
        "packing", "memory of it", "a post",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 4}{'---:|' * 6}"]
    for row in rows:
        kind = "sigmoids" if row["multi"] else "softmax"
        cells = [
            row["family"],
            row["name"],
            f"{len(row['labels'])} labels, {kind}",
            "int8" if row["int8"] else "candle f32",
            f"{row['parameters'] / 1e6:.0f} M",
            f"{row['f32_mb']:.0f} MB",
        ]
        if row["int8"]:
            share = row["pack_peak_mb"] / row["f32_mb"]
            cells += [
                f"{row['packed_mb']:.0f} MB",
                f"{row['pack_s']:.1f} s",
                f"{share:.2f} x f32",
            ]
        else:
            cells += ["-"] * 3
        cells.append(f"{row['ms']:.1f} ms" if row["ms"] else "not measured")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"One core of {processor()}, {time.strftime('%Y-%m-%d')}."]
    return "\n".join(lines)


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
