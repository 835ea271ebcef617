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
    "\u2605": "star",
    "\u2606": "star",
    "\u263b": "smiling face",
    "\u2669": "musical note",
    "\u266a": "musical note",
    "\u266b": "musical notes",
    "\u266c": "musical notes",
    "\u2713": "check mark",
    "\u2717": "cross mark",
    # Signs that a name alone leaves unsaid: what hearts, kisses, gestures and some faces mean.
    "\u2661": "love heart",
    "\u2665": "love heart",
    "\u2763": "love heart exclamation",
    "\u2764": "love red heart",
    "\u2764\u200d\U0001f525": "love heart on fire",
    "\u2764\u200d\U0001fa79": "love mending heart",
    "\u2765": "love heart",
    "\U0001f389": "happy party popper",
    "\U0001f3c6": "trophy win",
    "\U0001f44c": "ok hand good",
    "\U0001f44f": "clapping hands bravo",
    "\U0001f468\u200d\u2764\u200d\U0001f468": "loving couple with heart man man",
    "\U0001f468\u200d\u2764\u200d\U0001f48b\u200d\U0001f468": "loving kiss man man",
    "\U0001f469\u200d\u2764\u200d\U0001f468": "loving couple with heart woman man",
    "\U0001f469\u200d\u2764\u200d\U0001f469": "loving couple with heart woman woman",
    "\U0001f469\u200d\u2764\u200d\U0001f48b\u200d\U0001f468": "loving kiss woman man",
    "\U0001f469\u200d\u2764\u200d\U0001f48b\u200d\U0001f469": "loving kiss woman woman",
    "\U0001f48b": "love kiss mark",
    "\U0001f48f": "loving kiss",
    "\U0001f491": "loving couple with heart",
    "\U0001f493": "love beating heart",
    "\U0001f495": "love two hearts",
    "\U0001f496": "love sparkling heart",
    "\U0001f497": "love growing heart",
    "\U0001f498": "love heart with arrow",
    "\U0001f499": "love blue heart",
    "\U0001f49a": "love green heart",
    "\U0001f49b": "love yellow heart",
    "\U0001f49c": "love purple heart",
    "\U0001f49d": "love heart with ribbon",
    "\U0001f49e": "love revolving hearts",
    "\U0001f49f": "love heart decoration",
    "\U0001f4af": "perfect hundred points",
    "\U0001f595": "rude middle finger fuck you",
    "\U0001f5a4": "love black heart",
    "\U0001f609": "happy winking face",
    "\U0001f611": "annoyed expressionless face",
    "\U0001f613": "sad downcast face with sweat",
    "\U0001f614": "sad pensive face",
    "\U0001f616": "frustrated confounded face",
    "\U0001f617": "kissing face with love",
    "\U0001f618": "face blowing a kiss with love",
    "\U0001f619": "kissing face with smiling eyes and love",
    "\U0001f61a": "kissing face with closed eyes and love",
    "\U0001f61b": "happy face with tongue",
    "\U0001f61c": "happy winking face with tongue",
    "\U0001f61d": "happy squinting face with tongue",
    "\U0001f623": "struggling persevering face",
    "\U0001f63d": "happy kissing cat",
    "\U0001f644": "annoyed face with rolling eyes",
    "\U0001f64c": "happy raising hands",
    "\U0001f90d": "love white heart",
    "\U0001f90e": "love brown heart",
    "\U0001f912": "sick face with thermometer",
    "\U0001f915": "injured face with head-bandage",
    "\U0001f926": "frustrated person facepalming",
    "\U0001f926\u200d\u2640": "frustrated woman facepalming",
    "\U0001f926\u200d\u2642": "frustrated man facepalming",
    "\U0001f929": "amazed star-struck face",
    "\U0001f92c": "angry swearing face",
    "\U0001f973": "happy partying face",
    "\U0001f979": "face holding back happy tears",
    "\U0001f9d1\u200d\u2764\u200d\U0001f48b\u200d\U0001f9d1": "loving kiss person person",
    "\U0001f9d1\u200d\u2764\u200d\U0001f9d1": "loving couple with heart person person",
    "\U0001f9e1": "love orange heart",
    "\U0001fa75": "love light blue heart",
    "\U0001fa76": "love grey heart",
    "\U0001fa77": "love pink heart",
    "\U0001fac2": "people hugging with love",
    "\U0001faf6": "love heart hands",
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
