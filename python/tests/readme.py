"""Runs the README's Python, and looks at what it prints."""

import contextlib
import io
import re
import sys

code = re.search(r"```python\n(.*?)```", open(sys.argv[1], encoding="utf-8").read(), re.DOTALL).group(1)
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(code, {})
printed = printed.getvalue()
print(printed, end="")
assert printed.startswith("positive 0.9") and "['positive', 'negative', None]" in printed, printed
assert printed.endswith("missing_text\n"), printed
