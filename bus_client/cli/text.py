r"""Text that is safe to show, and JSON.

What a peer wrote must neither take over a terminal nor hide in it: text that a person does not see,
but a model reads. So whatever moves the cursor, turns the reading order around, breaks lines or
shows nothing at all is shown as its number, \x1b, \u202e or \U000e0041. What people write with
stays as it is: letters of all scripts, those from right to left too, and emoji. Three kinds of
invisible characters are part of those, and stay where they are:

- a joiner or non-joiner (U+200C, U+200D) after a letter of a script that is written with them, from
  Arabic to Mongolian, and a joiner between two emoji,
- a variation selector 15 or 16 after a symbol, for its look as text or as emoji,
- the tags of the flags of England, Scotland and Wales.

Only one at a time: what stands behind another one hides something.
"""

from __future__ import annotations

import json
import re
import sys

# Controls; Unicode's default ignorable characters; separators of lines; annotations.
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
    r"""The text in one line, with what is unsafe or invisible made visible: \x1b for an escape."""
    return _SHOWN.sub(_visible, text)


def safe_lines(text: str) -> list[str]:
    """The text's lines, each made safe; tabs stay."""
    lines = text.replace("\r\n", "\n").split("\n")
    return ["\t".join(safe(part) for part in line.split("\t")) for line in lines]


def dumps(document: object) -> str:
    """The document in one line, nothing lost; what is unsafe to show is escaped."""
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
    """As JSON escapes it, which has no controls left in it."""
    return found[0] if found["harmless"] else json.dumps(found[0])[1:-1]
