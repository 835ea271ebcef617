"""Turns a post into the text the model was trained on.

A model folder may hold a profile, `normalization.json`, that says which steps
apply, and `emoji.tsv`, which gives every emoji its words.  The scorer applies
the same profile, so this module and the scorer must agree on every code point.

    normalize = Normalizer.from_folder("model/default").normalize
    normalize("Soooo good &lt;3 @someone")   # 'Sooo good <3 @user'

A folder without a profile leaves text as it is.
"""

import json
import re
from html.entities import html5
from pathlib import Path

WHITE_SPACE = (
    "\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
)
ZERO_WIDTH_JOINER = "\u200d"
REPLACEMENT = "\ufffd"

# What numeric references to U+0080..U+009F mean: the HTML standard reads them
# as windows-1252; the five codes that encoding leaves open keep their number.
WINDOWS_1252 = {
    code: bytes([code]).decode("windows-1252", errors="ignore") or chr(code)
    for code in range(0x80, 0xA0)
}

REFERENCE = re.compile(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")

# A link takes the longest run of these and gives back closing punctuation.
URL_CHAR = "!#-;=?-~\u00a1-\u1fff"
URL_LAST = r"#-&(+\-/0-9=@-\\^-|~\u00a1-\u1fff"
LINK = re.compile(
    rf"(?:[Hh][Tt][Tt][Pp][Ss]?://|(?<![A-Za-z0-9])[Ww][Ww][Ww]\.)[{URL_CHAR}]*[{URL_LAST}]"
)

# '@name' or '@name@host.example'; not the middle of a mail address.
HANDLE = re.compile(
    r"(?<![A-Za-z0-9_.@])[@\uff20][A-Za-z0-9_]+(?:@[A-Za-z0-9.-]*[A-Za-z0-9])?"
)

QUOTES = str.maketrans(
    {mark: "'" for mark in "\u2018\u2019\u201b\u00b4\u2032"}
    | {mark: '"' for mark in "\u201c\u201d\u201f\u2033"}
)

HASHTAG = re.compile(r"[#\uff03][A-Za-z0-9_]+")
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")

# Variation selectors and skin tones, which do not change what an emoji says.
EMOJI_MODIFIERS = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")

SPACES = re.compile(f"[{WHITE_SPACE}]+")


class Normalizer:
    """The steps of one profile, in their fixed order."""

    def __init__(self, profile=None, emoji=None):
        """`profile`: the parsed normalization.json, None for no normalization.
        `emoji`: emoji (without modifiers) -> words."""
        if profile is not None and profile.get("version") != 1:
            raise ValueError("normalization.json: only version 1 is known")
        if profile is not None and profile.get("quotes") not in (None, False, "ascii"):
            raise ValueError('normalization.json: "quotes" must be "ascii" or null')
        self.profile = profile
        self.emoji = emoji or {}
        self._emoji_pattern = None
        if self.emoji:
            longest_first = sorted(self.emoji, key=len, reverse=True)
            self._emoji_pattern = re.compile("|".join(map(re.escape, longest_first)))
        self._repeats = None
        if profile and profile.get("max_repeat"):
            self._repeats = re.compile(r"([^0-9])\1{%d,}" % profile["max_repeat"], re.DOTALL)

    @classmethod
    def from_folder(cls, folder):
        """The normalizer of a model folder."""
        folder = Path(folder)
        path = folder / "normalization.json"
        if not path.exists():
            return cls()
        profile = json.loads(path.read_text(encoding="utf-8"))
        emoji = {}
        if profile.get("emoji"):
            table = (folder / profile["emoji"]).read_text(encoding="utf-8")
            emoji = dict(line.split("\t") for line in table.split("\n") if line)
        return cls(profile, emoji)

    def normalize(self, text):
        """The text as the tokenizer should see it."""
        if self.profile is None:
            return text
        profile = self.profile
        if profile.get("html_entities"):
            text = decode_references(text)
        if profile.get("links") is not None:
            text = LINK.sub(lambda _: f" {profile['links']} ", text)
        if profile.get("handles") is not None:
            text = HANDLE.sub(lambda _: profile["handles"], text)
        if profile.get("quotes"):
            text = text.translate(QUOTES)
        if profile.get("split_hashtags"):
            text = HASHTAG.sub(lambda tag: split_hashtag(tag[0]), text)
        if profile.get("emoji"):
            text = self._spell_emoji(text)
        if self._repeats:
            text = self._repeats.sub(lambda run: run[1] * profile["max_repeat"], text)
        return SPACES.sub(" ", text).strip(" ")

    def _spell_emoji(self, text):
        """Emoji become words; joiners beside them go, long runs are cut."""
        text = EMOJI_MODIFIERS.sub("", text)
        if self._emoji_pattern is None:
            return text
        limit = self.profile.get("max_repeat") or len(text)
        pieces = []
        position = run = 0
        previous = None
        for unit in self._emoji_pattern.finditer(text):
            between = text[position : unit.start()].removesuffix(ZERO_WIDTH_JOINER)
            if between or unit[0] != previous:
                run = 0
            run += 1
            pieces.append(between)
            if run <= limit:
                pieces.append(f" {self.emoji[unit[0]]} ")
            previous = unit[0]
            position = unit.end()
            if text.startswith(ZERO_WIDTH_JOINER, position):
                position += 1
        pieces.append(text[position:])
        return "".join(pieces)


def decode_references(text):
    """HTML character references decoded once, by the rules of the standard."""
    return REFERENCE.sub(lambda match: _decode_reference(match[1]), text)


def _decode_reference(body):
    """What the reference '&' + `body` stands for, or the reference itself."""
    if body.startswith("#"):
        digits = body[1:].rstrip(";")
        base = 16 if digits[0] in "xX" else 10
        digits = digits.lstrip("xX").lstrip("0") or "0"
        code = int(digits, base) if len(digits) <= 7 else 0x110000
        if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            return REPLACEMENT
        return WINDOWS_1252.get(code) or chr(code)
    for end in range(len(body), 1, -1):
        if body[:end] in html5:
            return html5[body[:end]] + body[end:]
    return "&" + body


def split_hashtag(tag):
    """'#ThrowbackThursday' -> '#Throwback Thursday', '_' -> ' '."""
    return CAMEL_CASE.sub(" ", tag).replace("_", " ")
