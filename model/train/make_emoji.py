"""Writes emoji.tsv, the words of every emoji, from the pinned `emoji` package.

The names are Unicode's CLDR short names.  Variation selectors and skin tones
are left out of the keys because normalization drops them from posts first.

    python make_emoji.py OUT.tsv
"""

import os
import re
import sys
import unicodedata

import emoji

# Ordinary characters of English text that happen to have an emoji form.
NOT_EMOJI = set("©®™#*0123456789")

# What says more than the CLDR name, and text symbols used like emoji.
OVERRIDES = {
    "\u203c": "!!",
    "\u2049": "!?",
    "\u2661": "heart",
    "\u2765": "heart",
    "\u2605": "star",
    "\u2606": "star",
    "\u263b": "smiling face",
    "\u2669": "musical note",
    "\u266a": "musical note",
    "\u266b": "musical notes",
    "\u266c": "musical notes",
    "\u2713": "check mark",
    "\u2717": "cross mark",
}

MODIFIERS = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}|\U0001f3f4[\U000e0020-\U000e007f]+")


def words_of(key, name):
    """CLDR short name -> lower-case ASCII words."""
    name = name.strip(":").replace("_", " ").replace("\u2019", "'")
    name = unicodedata.normalize("NFKD", name)
    name = "".join(c for c in name if not unicodedata.combining(c)).lower()
    name = re.sub(r" +", " ", name.replace("\u201c", '"').replace("\u201d", '"')).strip()
    if FLAG.fullmatch(key) and not name.startswith("flag"):
        name = "flag " + name
    if not name.isascii():
        raise ValueError(f"not ASCII: {name!r}")
    return name


def table():
    """emoji without modifiers -> words."""
    words = {}
    # Entries without modifiers come first, so '... dark skin tone' never wins.
    for key, entry in sorted(emoji.EMOJI_DATA.items(), key=lambda item: (len(item[0]), item[0])):
        plain = MODIFIERS.sub("", key)
        if not plain or plain in NOT_EMOJI or plain in words:
            continue
        if re.search("[\U0001f3fb-\U0001f3ff]", key):
            name = re.sub("_(?:light|medium-light|medium|medium-dark|dark)_skin_tone", "", entry["en"])
        else:
            name = entry["en"]
        words[plain] = words_of(plain, name)
    return words | OVERRIDES


def main(path):
    lines = [f"{key}\t{words}\n" for key, words in sorted(table().items())]
    with open(path + ".tmp", "w", encoding="utf-8", newline="") as out:
        out.writelines(lines)
    os.replace(path + ".tmp", path)
    print(f"{len(lines)} emoji")


if __name__ == "__main__":
    main(sys.argv[1])
