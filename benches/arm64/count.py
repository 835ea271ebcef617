"""Counts the instructions of an Arm program under qemu's user mode emulation.

qemu logs each block of code when it translates it and a line whenever it runs; what is counted are
a block's instructions each time. Counts need no Arm machine and come out the same on any, but they
are not times: a matrix product takes longer than a load.
"""

import argparse
import collections
import functools
import os
import re
import subprocess

CPU = "neoverse-v1"
ISAS = ("neon-dotprod", "neon-i8mm")
POSTS = (
    "the new album is finally out and i have not stopped listening since this morning, best day of the year",
    "stuck at the airport again, three hours and nobody says a word",
    "does anyone know when the next update comes?",
    "I really wanted to like this film but the second half is a mess, the plot goes nowhere and the acting is flat",
    "happy birthday to my favourite person!",
    "The council meets on Tuesday to discuss the new cycle lanes between the station and the market square",
    "ok that was worth the wait",
    "they changed the recipe and now it tastes like cardboard. why",
)


def count(qemu, program, model, isa, posts):
    """Instructions by function, and tokens."""
    reader, writer = os.pipe()
    log = f"/dev/fd/{writer}"
    command = [qemu, "-cpu", CPU, "-d", "in_asm,exec,nochain", "-D", log, program, model, isa]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[writer], text=True)
    os.close(writer)
    process.stdin.write("".join(post + "\n" for post in posts))
    process.stdin.close()
    sizes, functions = {}, collections.Counter()
    first, size = None, 0
    with os.fdopen(reader, errors="replace") as lines:
        for line in lines:
            if line.startswith("Trace"):
                if first is not None:
                    sizes[first], first, size = size, None, 0
                _, pc, rest = line.split("/", 2)
                functions[rest.rpartition("] ")[2].strip()] += sizes[int(pc, 16)]
            elif line.startswith("0x"):
                first = int(line[:10], 16) if first is None else first
                size += 1
    output = process.stdout.read()
    assert process.wait() == 0, output
    return functions, int(re.search(r"(\d+) tokens", output)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("qemu")
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--functions", action="store_true", help="the functions that take most of the batch")
    arguments = parser.parse_args()
    cases = {"one post": POSTS[:1], "a batch": POSTS}
    totals = {}
    for isa in ISAS:
        run = functools.partial(count, arguments.qemu, arguments.program, arguments.model, isa)
        loading, _ = run([])
        for case, posts in cases.items():
            functions, tokens = run(posts)
            functions.subtract(loading)
            totals[case, isa] = functions.total() / tokens
            print(f"{case} of {tokens} tokens, {isa}: {totals[case, isa]:,.0f} instructions a token", flush=True)
        if arguments.functions:
            for name, instructions in functions.most_common(12):
                print(f"  {instructions / tokens:10,.0f}  {name}")
    for case in cases:
        dotprod, i8mm = (totals[case, isa] for isa in ISAS)
        print(f"{case}: {i8mm / dotprod:.2f} times as many with i8mm")


if __name__ == "__main__":
    main()
