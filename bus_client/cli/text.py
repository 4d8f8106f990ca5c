r"""Makes text safe for terminals and for JSON.

Text from peers must not control a terminal, or contain anything that a person cannot see but a
model can read. So each character that moves the cursor, reverses the reading order, breaks
lines or is invisible is shown as its code: \x1b, \u202e or \U000e0041. Ordinary writing stays as it
is: letters of all scripts, including those written from right to left, and emoji. Three kinds of
invisible characters belong to ordinary writing, and are kept:

- a non-joiner or joiner (U+200C, U+200D) after a character of a script that uses them, such as
  Arabic or Devanagari, and a joiner between two emoji,
- a variation selector 15 or 16 after a symbol, which selects its text or emoji form,
- the tags of the flags of England, Scotland and Wales.

Of several in a row only the first is kept: a sequence of them can hide text.
"""

from __future__ import annotations

import json
import re
import sys

# Control characters; Unicode's default ignorable characters; line separators; annotations.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_SYMBOL = _EMOJI + "#*0-9\xa9\xae\u203c\u2049\u2122\u2139\u24c2\u2934\u2935\u3030\u303d\u3297\u3299"
# Arabic, Syriac, Thaana, N'Ko, … and the scripts of India; Myanmar; Khmer and Mongolian.
_JOINED = "\u0620-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18af"


def _tags(letters: str) -> str:
    return "".join(chr(0xE0000 + ord(letter)) for letter in letters)


_FLAG = f"\U0001f3f4(?:{'|'.join(map(_tags, ('gbeng', 'gbsct', 'gbwls')))})\U000e007f"
_SHOWN = re.compile(
    f"(?P<harmless>{_FLAG}"
    f"|(?<=[{_SYMBOL}])[\ufe0e\ufe0f]"
    f"|(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f))\u200d(?=[{_EMOJI}])"
    f"|(?<=[{_JOINED}])[\u200c\u200d])"
    f"|[{_UNSAFE}]"
)


def safe(text: str) -> str:
    r"""Returns the text as one line; unsafe and invisible characters become codes such as \x1b."""
    return _SHOWN.sub(_visible, text)


def replace_unsafe(text: str, by: str) -> str:
    """Returns the text with `by` in place of each unsafe or invisible character."""
    return _SHOWN.sub(lambda found: found[0] if found["harmless"] else by, text)


def count(number: int, noun: str) -> str:
    """Returns a number with its noun, such as `1 thread` or `2 threads`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def byte_size(number: float) -> str:
    """Returns a number of bytes in its largest unit, such as `512 B` or `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"


def safe_lines(text: str) -> list[str]:
    """Returns the lines of the text, each made safe. Tabs are kept."""
    lines = text.replace("\r\n", "\n").split("\n")
    return ["\t".join(safe(part) for part in line.split("\t")) for line in lines]


def dumps(document: object) -> str:
    """Returns the document as one line of JSON. Unsafe characters are escaped; nothing is lost.

    If stdout's encoding is not UTF-8, all characters other than ASCII are escaped.
    """
    encoding = (sys.stdout.encoding or "").lower()
    text = json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"))
    return _SHOWN.sub(_escaped, text)


def _visible(found: re.Match[str]) -> str:
    if found["harmless"]:
        return found[0]
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped(found: re.Match[str]) -> str:
    """Returns the JSON escape of the matched character."""
    return found[0] if found["harmless"] else json.dumps(found[0])[1:-1]


def os_error_text(error: OSError) -> str:
    """Returns what went wrong and with which file, without the error's number."""
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
