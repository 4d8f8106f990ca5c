"""Text that is safe to show, and JSON."""

from __future__ import annotations

import json
import re
import sys

# What can move the cursor, recolour, retitle or rewrite a terminal, or turn reading order around.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# The same in JSON, which escapes the first 32 by itself.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """The text in one line, with control characters made visible: \\x1b instead of an escape."""
    return _UNSAFE.sub(_visible, text)


def safe_lines(text: str) -> list[str]:
    """The text's lines, each made safe; tabs stay."""
    lines = text.replace("\r\n", "\n").split("\n")
    return ["\t".join(safe(part) for part in line.split("\t")) for line in lines]


def dumps(document: object) -> str:
    """The document in one line, nothing lost; what is unsafe to show is escaped."""
    encoding = (sys.stdout.encoding or "").lower()
    text = json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"))
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
