"""The command line `coldread`, with the package's model as its default."""

import os
import sys
from pathlib import Path


def main():
    package = Path(__file__).parent
    os.environ.setdefault("COLDREAD_MODEL", str(package / "default.coldread"))
    program = package / "bin" / "coldread"
    os.execv(program, ["coldread", *sys.argv[1:]])
