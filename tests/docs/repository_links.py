"""mdBook preprocessor: a link to a file outside docs/ becomes its text and the file's path.

Such links work where the repository is browsed, but the site has only the pages of docs/.
"""

import json
import os
import re
import sys

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    for item in book["items"]:
        rewrite(item)
    json.dump(book, sys.stdout)


def rewrite(item):
    chapter = item.get("Chapter") if isinstance(item, dict) else None
    if chapter is None:
        return
    folder = os.path.dirname(chapter["source_path"] or "")
    chapter["content"] = LINK.sub(lambda link: replaced(link, folder), chapter["content"])
    for sub_item in chapter["sub_items"]:
        rewrite(sub_item)


def replaced(link, folder):
    text, target = link.groups()
    path = os.path.normpath(os.path.join("docs", folder, target.partition("#")[0]))
    if re.match(r"[a-z]+:|#", target) or path.startswith("docs/"):
        return link[0]
    return f"`{path}`" if text.strip("`").rstrip("/") == path else f"{text} (`{path}`)"


if __name__ == "__main__":
    main()
