"""What a page's requests carry: the query, and JSON objects as bodies."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request

from bus_client.cli.console.gate import Refused

#: The largest body, in bytes.
MAX_BODY = 4 * 1024 * 1024
_MAX_PAUSE = 20.0  # seconds in which a body must arrive
_CURSOR = re.compile(r"(?P<epoch>[\x21-\x39\x3b-\x7e]{1,128}):(?P<seq>[0-9]{1,15})")

#: What a field must be, in words, and whether a value is it.
Kind: TypeAlias = tuple[str, Callable[[object], bool]]


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


TEXT: Kind = ("a string", lambda value: isinstance(value, str))
NUMBER: Kind = ("a whole number", lambda value: type(value) is int)
NAMES: Kind = ("a list of strings", _are_names)
ASKED: Kind = (
    "true, false or a list of strings",
    lambda value: isinstance(value, bool) or _are_names(value),
)


async def fields(
    request: Request, kinds: Mapping[str, Kind], *, max_body: int = MAX_BODY
) -> dict[str, Any]:
    """Returns the fields of the JSON object in a request.

    Args:
        request: The request.
        kinds: The fields that there may be, and what each must be.
        max_body: The largest body, in bytes.

    Raises:
        Refused: The body is too large, is not a JSON object, or has another field.
    """
    try:
        async with asyncio.timeout(_MAX_PAUSE):
            content = await _content(request, max_body)
    except TimeoutError:
        raise Refused(408, f"The body did not arrive within {_MAX_PAUSE:g} s.") from None
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise Refused(400, "The body must be a JSON object.")
    for name, value in parsed.items():
        if name not in kinds:
            raise Refused(400, f"There is no field {name!a}; there are {', '.join(kinds)}.")
        what, fits = kinds[name]
        if not fits(value):
            raise Refused(400, f"{name} must be {what}.")
    return parsed


async def _content(request: Request, max_body: int) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > max_body:
            raise Refused(413, f"The body must have at most {max_body:,} bytes.")
    return bytes(content)


def cursor(text: object) -> tuple[str, int]:
    """Returns the epoch and the seq of `EPOCH:SEQ`. Raises Refused."""
    found = _CURSOR.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise Refused(400, "A position must be EPOCH:SEQ.")
    return found["epoch"], int(found["seq"])


def number(name: str, text: str) -> int:
    """Returns a number of an address. Raises Refused."""
    if not re.fullmatch("[0-9]{1,15}", text):
        raise Refused(400, f"{name} must be a number.")
    return int(text)
