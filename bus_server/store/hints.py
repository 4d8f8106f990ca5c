"""Hints between servers, as they are merged and sent: seqs by thread, as in `Waker.publish`."""

import itertools
import json
from collections.abc import Mapping


def merge(pending: dict[str, int], changed: Mapping[str, int]) -> None:
    """Add a hint to `pending`. A deletion stays, whatever was posted afterwards."""
    for thread, seq in changed.items():
        known = pending.get(thread, seq)
        pending[thread] = max(seq, known) if seq and known else 0


def first(pending: Mapping[str, int], count: int) -> dict[str, int]:
    """Returns the seqs of the first `count` threads."""
    return dict(itertools.islice(pending.items(), count))


def parse(data: bytes | str) -> dict[str, int]:
    """Returns the hint that was sent as JSON; {} if this is not one of a server."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(seq, int) for seq in found.values()):
        return {}
    return found
