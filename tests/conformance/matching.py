"""Compares results with what a case expects."""

from typing import Any


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Return the differences from what is expected, as sentences; empty if there are none.

    An expected mapping may leave keys out. `{some: […]}` matches a list that has these items,
    `{not: …}` whatever differs, `{part: …}` a text that contains it. 64-bit integers arrive as
    texts and are compared as integers.
    """
    name = where or "it"
    match expected:
        case {"some": wanted}:
            return [
                f"{name} has nothing like {one!r}: {found!r}"
                for one in wanted
                if not any(not differences(one, item) for item in found or ())
            ]
        case {"not": other}:
            return [] if differences(other, found) else [f"{name} is {brief(found)} still"]
        case {"part": text}:
            return [] if text in found else [f"{name} has no {text!r}: {brief(found)}"]
        case dict():
            if not isinstance(found, dict):
                return [f"{name} is {brief(found)}, not {expected!r}"]
            return [
                difference
                for key, value in expected.items()
                for difference in (
                    differences(value, found[key], f"{where}.{key}".lstrip("."))
                    if key in found
                    else [f"{name} has no {key}: {brief(found)}"]
                )
            ]
        case list():
            if not isinstance(found, list) or len(found) != len(expected):
                return [f"{name} is {brief(found)}, not {brief(expected)}"]
            pairs = enumerate(zip(expected, found, strict=True))
            return [
                difference
                for index, (one, item) in pairs
                for difference in differences(one, item, f"{where}[{index}]")
            ]
        case bool() | None:
            same = found is expected
        case int():
            same = not isinstance(found, bool | float) and str(found) == str(expected)
        case _:
            same = found == expected
    return [] if same else [f"{name} is {brief(found)}, not {brief(expected)}"]


def brief(value: Any) -> str:
    """Return a value as one line, shortened if long."""
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} … {text[-100:]} ({len(text)} characters)"
