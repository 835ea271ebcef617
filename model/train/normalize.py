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

# What a profile may hold.
FIELDS = {
    "version",
    "html_tags",
    "html_entities",
    "invisible",
    "styled_letters",
    "links",
    "handles",
    "quotes",
    "split_hashtags",
    "emoji",
    "max_repeat",
}

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

# Tags that end a line or a cell, which a space then does, and those within a line.
BLOCKS = set(
    "article aside blockquote body br dd details div dl dt figcaption figure footer "
    "h1 h2 h3 h4 h5 h6 head header hr html iframe img li main nav ol p pre section "
    "summary table tbody td th thead tr ul".split()
)
INLINES = set(
    "a abbr audio b bdi bdo big center cite code del em font i ins kbd mark q rp rt "
    "ruby s samp script small span strike strong style sub sup u video wbr".split()
)
# What a post that is HTML begins with.
OPENERS = set("article blockquote div h1 h2 h3 h4 h5 h6 html ol p pre table ul".split())
TAG = re.compile(r"<(/?)([A-Za-z0-9]{1,10})(?=[ \t\n\r\f/>]|\Z)")
DECLARATION = re.compile(r"<(?:!doctype|\?xml)", re.IGNORECASE | re.ASCII)
ATTRIBUTE = re.compile(r"[ \t\n\r\f][A-Za-z-]{1,32}=")
QUOTED_ATTRIBUTE = re.compile(r"[ \t\n\r\f][A-Za-z-]{1,32}=[\"']")
END_OF_BREAK = re.compile(" ?/?>")

# Styled letters that stand alone or in short rows: small capitals, superscripts,
# subscripts and those of the Letterlike Symbols.
STYLED_SINGLES = [
    ("\u0262\u026a\u0274\u0280\u028f\u0299\u029c\u029f\u02b0\u02b2", "ginrybhlhj"),
    ("\u02b3\u02b7\u02b8\u02e1\u02e2\u02e3\u1d00\u1d04\u1d05\u1d07", "rwylsxacde"),
    ("\u1d0a\u1d0b\u1d0d\u1d0f\u1d18\u1d1b\u1d1c\u1d20\u1d21\u1d22", "jkmoptuvwz"),
    ("\u1d2c\u1d2e\u1d30\u1d31\u1d33\u1d34\u1d35\u1d36\u1d37\u1d38", "ABDEGHIJKL"),
    ("\u1d39\u1d3a\u1d3c\u1d3e\u1d3f\u1d40\u1d41\u1d42\u1d43\u1d47", "MNOPRTUWab"),
    ("\u1d48\u1d49\u1d4d\u1d4f\u1d50\u1d52\u1d56\u1d57\u1d58\u1d5b", "degkmoptuv"),
    ("\u1d62\u1d63\u1d64\u1d65\u1d9c\u1da0\u1da2\u1da6\u1dab\u1db0", "iruvcfgiln"),
    ("\u1db8\u1dbb\u2071\u207f\u2090\u2091\u2092\u2093\u2095\u2096", "uzinaeoxhk"),
    ("\u2097\u2098\u2099\u209a\u209b\u209c\u2102\u210a\u210b\u210c", "lmnpstCgHH"),
    ("\u210d\u210e\u2110\u2111\u2112\u2113\u2115\u2119\u211a\u211b", "HhIILlNPQR"),
    ("\u211c\u211d\u2124\u2128\u212c\u212d\u212f\u2130\u2131\u2133", "RRZZBCeEFM"),
    ("\u2134\u2145\u2146\u2147\u2148\u2149\u2c7c\u2c7d\ua730\ua731", "oDdeijjVfs"),
    ("\ua7af\ua7f2\ua7f3\ua7f4\U000107a5\U0001f12b\U0001f12c", "qCFQqCR"),
]
# Rows of styled letters: first code point, first letter.
STYLED_LETTERS = [
    (0xFF21, "A"),
    (0xFF41, "a"),
    (0x249C, "a"),
    (0x24B6, "A"),
    (0x24D0, "a"),
    (0x1F110, "A"),
    (0x1F130, "A"),
    (0x1F150, "A"),
    (0x1F170, "A"),
    # Thirteen alphabets of mathematics, capitals before small letters.
    *((0x1D400 + 26 * i, "Aa"[i % 2]) for i in range(26)),
]
# Rows of styled numbers: first and last code point, first number.
STYLED_NUMBERS = [
    (0xFF10, 0xFF19, 0),
    (0x2460, 0x2473, 1),
    (0x2474, 0x2487, 1),
    (0x24EA, 0x24EA, 0),
    (0x24EB, 0x24F4, 11),
    (0x24F5, 0x24FE, 1),
    (0x24FF, 0x24FF, 0),
    (0x2776, 0x277F, 1),
    (0x2780, 0x2789, 1),
    (0x278A, 0x2793, 1),
    (0x3251, 0x325F, 21),
    (0x32B1, 0x32BF, 36),
    (0x2070, 0x2070, 0),
    (0x2074, 0x2079, 4),
    (0x2080, 0x2089, 0),
    *((0x1D7CE + 10 * i, 0x1D7D7 + 10 * i, 0) for i in range(5)),
    (0x1FBF0, 0x1FBF9, 0),
]
# Letters that are emoji as well: only a letter beside one shows that it is part of a word.
EMOJI_LETTERS = "\u24c2\U0001f170\U0001f171\U0001f17e\U0001f17f"
LETTERS = {
    chr(first + i): chr(ord(letter) + i) for first, letter in STYLED_LETTERS for i in range(26)
} | {a: b for styled, plain in STYLED_SINGLES for a, b in zip(styled, plain, strict=True)}
IN_WORD = f"[A-Za-z{''.join(sorted(set(LETTERS) - set(EMOJI_LETTERS)))}]"
EMOJI_LETTER = re.compile(
    f"(?<={IN_WORD})([{EMOJI_LETTERS}])\ufe0f?|([{EMOJI_LETTERS}])\ufe0f?(?={IN_WORD})"
)
STYLED = str.maketrans(
    {styled: plain for styled, plain in LETTERS.items() if styled not in EMOJI_LETTERS}
    | {
        chr(code): str(code - start + first)
        for start, end, first in STYLED_NUMBERS
        for code in range(start, end + 1)
    }
)
# Lines over and under letters. `=` and a stroke are one sign, and so are letters of
# other alphabets.
OVERLAYS = re.compile("(?<=[A-Za-z0-9 ])[\u0332\u0333\u0335-\u0338]+")
REGIONAL_INDICATORS = re.compile("[\U0001f1e6-\U0001f1ff]+")
# The second letters of the flags that begin with A, B and so on.
FLAGS = (
    "CDEFGILMOQRSTUWXZ ABDEFGHIJLMNOQRSTVWYZ ACDFGHIKLMNOPQRUVWXYZ EGJKMOZ ACEGHRSTU "
    "IJKMOR ABDEFGHILMNPQRSTUWY KMNRTU CDELMNOQRST EMOP EGHIMNPRWYZ ABCIKRSTUVY "
    "ACDEFGHKLMNOPQRSTUVWXYZ ACEFGILOPRUZ M AEFGHKLMNRSTWY A EOSUW "
    "ABCDEGHIJKLMNORSTVXYZ ACDFGHJKLMNORTVWZ AGMNSYZ ACEGINU FS K ET AMW "
).split()

# What nobody sees: everywhere, between letters of ASCII, and in the region of a flag.
UNSEEN = "\u00ad\u034f\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
SEPARATORS = "\u200b-\u200d"
TAGS = "\U000e0001\U000e0020-\U000e007f"
UNSEEN_RUN = re.compile(f"[{UNSEEN}{SEPARATORS}{TAGS}]+")

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
        if profile is not None and not FIELDS.issuperset(profile):
            unknown = ", ".join(sorted(profile.keys() - FIELDS))
            raise ValueError(f"normalization.json: unknown fields: {unknown}")
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
        if profile.get("html_tags"):
            if profile.get("html_entities") and is_escaped_html(text):
                text = decode_references(text)
            text = strip_tags(text)
        if profile.get("html_entities"):
            text = decode_references(text)
        if profile.get("invisible"):
            text = UNSEEN_RUN.sub(_seen, text)
        if profile.get("styled_letters"):
            text = fold_styled(text)
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


def strip_tags(text):
    """A post that is HTML without its tags, comments, scripts and styles."""
    if not is_html(text):
        return text
    pieces = []
    position = 0
    ignore_quotes = False
    i = text.find("<")
    while i >= 0:
        is_block = False
        tag = _tag_at(text, i)
        if text.startswith("<!--", i):
            end = _after(text, "-->", i + 4)
        elif DECLARATION.match(text, i):
            end = _after(text, ">", i)
        elif tag:
            end, ignore_quotes = _tag_end(text, tag.end(), ignore_quotes)
            name = tag[2].lower()
            is_block = name in BLOCKS
            if name in ("script", "style") and not tag[1]:
                end = _end_of_raw_text(text, end, name)
        else:
            i = text.find("<", i + 1)
            continue
        pieces.append(text[position:i])
        if is_block:
            pieces.append(" ")
        position = end
        i = text.find("<", end)
    pieces.append(text[position:])
    return "".join(pieces)


def is_escaped_html(text):
    """Whether a whole post is HTML that was escaped once more."""
    start = text.lstrip(" \t\n\r\f")
    if not start.startswith("&lt;") or "<" in text or "&lt;/" not in text:
        return False
    head = re.match("[\0-\x7f]{0,36}", start)[0]
    return _opens_document(head.replace("&lt;", "<").replace("&gt;", ">"), 0)


def is_html(text):
    """Whether a post shows that it is HTML: a block, a comment or a declaration at its
    start; a line break; a tag with a quoted attribute; a tag that is closed again."""
    first = text.find("<")
    if first < 0:
        return False
    if not text[:first].strip(" \t\n\r\f") and _opens_document(text, first):
        return True
    opened = set()
    for tag in TAG.finditer(text, first):
        name = tag[2].lower()
        if name not in BLOCKS and name not in INLINES:
            continue
        is_bare = text.startswith(">", tag.end())
        if tag[1]:
            if is_bare and name in opened:
                return True
        elif QUOTED_ATTRIBUTE.match(text, tag.end()):
            return True
        elif name in ("br", "hr", "wbr"):
            if END_OF_BREAK.match(text, tag.end()):
                return True
        elif is_bare:
            opened.add(name)
    return False


def _opens_document(text, start):
    """Whether HTML begins here, rather than a word in angle brackets."""
    tag = _tag_at(text, start)
    if tag and not tag[1] and tag[2].lower() in OPENERS:
        end = tag.end()
        if text.startswith(">", end):
            return True
        if text.startswith(" ", end) and ATTRIBUTE.match(text, end):
            return True
    return text.startswith("<!--", start) or bool(DECLARATION.match(text, start))


def _tag_at(text, start):
    """The known tag that begins at `start`."""
    tag = TAG.match(text, start)
    known = tag and (tag[2].lower() in BLOCKS or tag[2].lower() in INLINES)
    return tag if known else None


def _tag_end(text, start, ignore_quotes):
    """Behind the `>` of a tag whose name ends at `start`, and whether quotation marks
    count no longer: one that is never closed would hide all that follows."""
    i = start
    after_equals = saw_quotes = False
    while i < len(text):
        char = text[i]
        i += 1
        if char == ">":
            return i, ignore_quotes
        if char in "\"'" and after_equals and not ignore_quotes:
            saw_quotes = True
            close = text.find(char, i)
            if close < 0:
                break
            i = close + 1
            after_equals = False
        elif char not in " \t\n\r\f":
            after_equals = char == "="
    if saw_quotes:
        return _after(text, ">", start), True
    return len(text), ignore_quotes


def _end_of_raw_text(text, start, name):
    """Where the closing tag of a script or style stands."""
    i = text.find("</", start)
    while i >= 0:
        tag = _tag_at(text, i)
        if tag and tag[2].lower() == name:
            return i
        i = text.find("</", i + 2)
    return len(text)


def _after(text, sought, start):
    """Behind the first `sought` from `start` on, or the end."""
    found = text.find(sought, start)
    return len(text) if found < 0 else found + len(sought)


def fold_styled(text):
    """Styled letters and numbers become plain ones."""
    if text.isascii():
        return text
    text = EMOJI_LETTER.sub(lambda match: LETTERS[match[1] or match[2]], text)
    text = REGIONAL_INDICATORS.sub(lambda run: _spell_indicators(run[0]), text)
    return OVERLAYS.sub("", text.translate(STYLED))


def _spell_indicators(run):
    """A run of nothing but flags stays; any other spells a word."""
    letters = "".join(chr(ord(c) - 0x1F1E6 + ord("A")) for c in run)
    pairs = zip(letters[::2], letters[1::2])
    if len(run) % 2 == 0 and all(b in FLAGS[ord(a) - ord("A")] for a, b in pairs):
        return run
    return letters


def _seen(run):
    """What stays of a run of unseen characters: what separates or joins in other
    alphabets and in emoji, and the region of a flag."""
    before = run.string[max(run.start() - 1, 0) : run.start()]
    after = run.string[run.end() : run.end() + 1]
    joins = all(c and not c.isascii() and not c.isspace() for c in (before, after))
    kept = (SEPARATORS if joins else "") + (TAGS if before == "\U0001f3f4" else "")
    return re.sub(f"[^{kept}]", "", run[0]) if kept else ""


def split_hashtag(tag):
    """'#ThrowbackThursday' -> '#Throwback Thursday', '_' -> ' '."""
    return CAMEL_CASE.sub(" ", tag).replace("_", " ")
