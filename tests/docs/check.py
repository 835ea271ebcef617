#!/usr/bin/env python3
"""Checks the repository's Markdown files, in a second: links, the site's contents, words.

    python3 tests/docs/check.py

- Every relative link leads to a file of the repository, and every anchor to a heading.
- docs/SUMMARY.md lists every page of docs/, and only the front page is a README.md, for mdBook
  renames these without the links to them.
- No text uses a word that has a better one: WORDS, from the glossary in CONTRIBUTING.md.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^( *)(```|~~~).*?^\1\2$", re.S | re.M)
CODE = re.compile(r"`[^`\n]*`")

# What must not come back, and what to write in its place.
WORDS = {
    r"\bcallers?\b": "client",
    r"\brefus(?:e|es|ed|ing|al|als)\b": "reject",
    r"\bis none that\b|\bare none that\b": "is not a ...",
    r"\bthe answers?\b|\ban answer\b": "response or result",
    r"\bwhoever\b|\bwho asks\b": "the client, the operator",
    r"\bthat is no\b|\bwhich is no\b|\bis no [a-z]+ (?:such as|of)\b": "is not a ...",
    r"\bfor ever\b": "forever",
}
# The glossary itself, and the history, whose entries stay as they were published.
EXEMPT = {"CONTRIBUTING.md", "CHANGELOG.md"}
# Markdown, and the snapshots of help texts and error messages.
PROSE = ["*.md", "*__texts__*.snap"]


def main():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *PROSE], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    files = sorted(path for path in map(pathlib.Path, listed.stdout.split("\n")) if path.name and (ROOT / path).is_file())
    faults = [fault for file in files for fault in [*links(file), *words(file)]]
    faults += summary()
    print("\n".join(faults) or f"{len(files)} files: links, contents and words are right", flush=True)
    sys.exit(bool(faults))


def links(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for number, line in enumerate(without_code(text).split("\n"), 1):
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = ((ROOT / file).parent / path).resolve() if path else ROOT / file
            if not found.exists():
                yield f"{file}:{number}: no such file: {target}"
            elif anchor and anchor not in anchors(found):
                yield f"{file}:{number}: no such heading: {target}"


def words(file):
    if str(file) in EXEMPT:
        return
    text = without_code((ROOT / file).read_text(encoding="utf-8"))
    for number, line in enumerate(text.split("\n"), 1):
        for pattern, better in WORDS.items():
            for match in re.finditer(pattern, CODE.sub("", line), re.I):
                yield f"{file}:{number}: `{match[0]}`: write {better}"


def summary():
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")} - {"SUMMARY.md"}
    listed = set(LINK.findall((ROOT / "docs/SUMMARY.md").read_text(encoding="utf-8")))
    faults = [f"docs/{page}: another name than README.md" for page in pages if page.endswith("/README.md")]
    return faults + [f"docs/SUMMARY.md: does not list {page}" for page in sorted(pages - listed)]


def without_code(text):
    """The text with as many lines, and nothing in its blocks of code."""
    return CODE_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)


def anchors(file):
    """The anchors that GitHub and mdBook give a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", without_code(file.read_text(encoding="utf-8")), re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(next(s for s in [slug, *(f"{slug}-{n}" for n in range(1, 100))] if s not in found))
    return found


if __name__ == "__main__":
    main()
