"""Cuts off texts without splitting what readers see as one character."""

import regex

#: How many bytes before the limit a text may be cut off, at most; and the length up to which a
#: grapheme cluster is kept whole.
SLACK = 64

_CLUSTER = regex.compile(r"\X")
#: The letters of flags that end at a place; two of them are one flag. To be matched backward.
_FLAG_LETTERS = regex.compile("(?r)[\U0001f1e6-\U0001f1ff]*")


def cut(text: str, max_bytes: int) -> str:
    """Returns the beginning of a text: at most `max_bytes` bytes in UTF-8, which must be positive.

    It ends between two grapheme clusters (Unicode Standard Annex #29), at most SLACK bytes before
    the limit. Only a cluster of more than SLACK bytes may be split, between two code points.
    """
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    end = _start_of_character(encoded, max_bytes)
    beginning = encoded[:end].decode()
    if end == max_bytes and encoded[end - 1] < 0x80 and encoded[end] < 0x80:
        # Two characters of ASCII are two clusters, except CR LF.
        return beginning.removesuffix("\r") if encoded[end] == 0x0A else beginning
    # Twice the slack: a cluster that is to be kept whole depends on no more.
    nearest = encoded[_start_of_character(encoded, end - 2 * SLACK) : end].decode()
    start = len(beginning) - len(nearest)
    if len(_FLAG_LETTERS.match(beginning, 0, start)[0]) % 2:
        start -= 1  # the second letter of a flag would be taken for the first of the next one
    # Whether there is a boundary before a character depends on no later one.
    *_, last = _CLUSTER.finditer(beginning[start:] + text[len(beginning)])
    whole = beginning[: start + last.start()]
    return whole if max_bytes - len(whole.encode()) <= SLACK else beginning


def _start_of_character(encoded: bytes, at: int) -> int:
    """Returns where the character begins that has byte `at`; 0 if `at` is negative."""
    at = max(at, 0)
    while encoded[at] & 0xC0 == 0x80:
        at -= 1
    return at
