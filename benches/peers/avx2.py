"""Holds engines to AVX2 on a processor that has more, those too that have no switch for it.

Copies of their programs and libraries get a breakpoint in place of each CPUID instruction; `avx2.c`, loaded into
the process, answers it without the bits of AVX-512, AVX-VNNI and AMX. The engines then choose the kernels that they
have for AVX2. For x86-64 Linux; needs `cc` and `objdump`.
"""

import importlib.util
import re
import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPUID, BREAKPOINT = b"\x0f\xa2", b"\xcc\x90"


def environment(folder):
    """What the processes of held engines get on top of their environment."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "avx2.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "avx2.c"], check=True)
    return {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(hold_packages(("onnxruntime", "openvino"), folder / "python")),
        # Libraries that have a switch.
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "CT2_FORCE_CPU_ISA": "AVX2",
        # llama.cpp's is chosen when it is compiled; the worker refuses another.
        "PEERS_AVX2": "1",
    }


def hold(source, target):
    """Copies a program or library with its CPUID instructions replaced; returns how many there were."""
    content = bytearray(source.read_bytes())
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", source], capture_output=True, text=True, check=True)
    places = [int(found, 16) for found in re.findall(r"^\s*([0-9a-f]+):\s+cpuid\b", listing.stdout, re.MULTILINE)]
    for place in places:
        start = file_offset(content, place)
        assert content[start : start + 2] == CPUID
        content[start : start + 2] = BREAKPOINT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    shutil.copymode(source, target)
    return len(places)


def file_offset(content, address):
    """Where in an ELF file the byte is that is loaded to an address."""
    headers, size, count = struct.unpack_from("<Q14xHH", content, 32)[0], *struct.unpack_from("<HH", content, 54)
    for number in range(count):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", content, headers + number * size)
        if kind == 1 and start <= address < start + length:
            return address - start + offset
    raise ValueError(f"{address:#x} is in no part of the file")


def hold_packages(names, folder):
    """A folder for PYTHONPATH with copies of installed Python packages, held."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        if not (spec := importlib.util.find_spec(name)):
            continue
        shutil.copytree(Path(spec.origin).parent, folder / name)
        if not sum(hold(path, path) for path in folder.glob(f"{name}/**/*.so*")):
            raise ValueError(f"{name} has no CPUID instruction: what does it choose its kernels by?")
    return folder
