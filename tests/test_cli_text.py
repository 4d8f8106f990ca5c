"""Which characters of a text are shown as they are, and which are made visible."""

import json

import pytest

from bus_client.cli.text import dumps, safe, safe_lines

SHOWN = {
    "families and professions": "👩‍👩‍👧‍👦 👨🏽‍💻 🧑‍⚕️ 🤷🏼‍♂️ 🐻‍❄️ ❤️‍🔥 👁️‍🗨️",
    "looks": "❤️ ☎︎ ©️ ™️ 1️⃣ #️⃣ ↔️ ㊙️ 🏳️‍🌈 🏳️‍⚧️",
    "flags": "🇩🇪 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "Hebrew, Arabic, Persian": "שָׁלוֹם עולם مرحبا می‌خواهم",
    "Devanagari, Sinhala, Malayalam": "क्‍ष ශ්‍රී ന്‍",
    "Chinese, Japanese, Korean, Thai": "中文 日本語 한국어 ภาษาไทย",
    "combining marks": "a\u0308 e\u0301 \u0928\u093f",
    "spaces": "a\u00a0b\u2009c\u3000d",
}


@pytest.mark.parametrize("kind", SHOWN)
def test_ordinary_text_of_any_script_stays_as_it_is(kind: str) -> None:
    text = SHOWN[kind]
    assert safe(text) == text
    assert dumps(text) == json.dumps(text, ensure_ascii=False)


HIDDEN = {
    "zero width": ("a\u200bb\u2060c\ufeffd", r"a\u200bb\u2060c\ufeffd"),
    "a joiner between letters": ("pass\u200dword\u200c", r"pass\u200dword\u200c"),
    "a second joiner": ("می\u200c\u200d", "می\u200c" + r"\u200d"),
    "a second joiner of emoji": ("👩\u200d\u200d👧", r"👩\u200d\u200d👧"),
    "a joiner of one emoji": ("👩\u200d", r"👩\u200d"),
    "a soft hyphen": ("a\xadb", r"a\xadb"),
    "tags": ("x\U000e0041\U000e007f", r"x\U000e0041\U000e007f"),
    "tags behind a flag of none": ("🏴\U000e0061\U000e007f", r"🏴\U000e0061\U000e007f"),
    "tags behind a flag": (
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f\U000e0041",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f" + r"\U000e0041",
    ),
    "a selector behind a letter": ("a\ufe0fb\ufe00", r"a\ufe0fb\ufe00"),
    "a second selector": ("❤\ufe0f\ufe0e", "❤\ufe0f" + r"\ufe0e"),
    "more selectors": ("😀\U000e0100\U000e01ef", r"😀\U000e0100\U000e01ef"),
    "reading order": ("\u202ea\u2066b\u200e\u200f\u061c", r"\u202ea\u2066b\u200e\u200f\u061c"),
    "lines": ("a\u2028b\u2029c\x85\x0b\x0c", r"a\u2028b\u2029c\x85\x0b\x0c"),
    "controls": ("\x1b[2J\x07\x7f\x9b\x08\r", r"\x1b[2J\x07\x7f\x9b\x08\x0d"),
    "blanks that are letters": ("\u3164\uffa0\u115f", r"\u3164\uffa0\u115f"),
    "operators and fillers": ("\u2063\u034f\u180e\ufff9", r"\u2063\u034f\u180e\ufff9"),
    "notes": ("\U0001d173\U0001bca0", r"\U0001d173\U0001bca0"),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_characters_that_hide_or_harm_are_made_visible_and_preserved_in_json(kind: str) -> None:
    text, shown = HIDDEN[kind]
    assert safe(text) == shown
    assert safe_lines(f"{text}x\n{text}x") == [f"{shown}x"] * 2
    line = dumps({text: text})
    assert json.loads(line) == {text: text}
    assert safe(line) == line
