"""Messages that contain their numbers, so that lost and duplicated ones can be counted."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def content(number: int, size: int) -> str:
    """Returns a text of `size` bytes that begins with its number."""
    return f"{number} ".ljust(size, "x")


def number_of(text: str | bytes) -> int:
    """Returns the number of a text from content(); -1 for any other text."""
    head = text[:16].split(b" " if isinstance(text, bytes) else " ", 1)[0]  # type: ignore[arg-type]
    return int(head) if head.isdigit() else -1


def faults(numbers: Iterable[int], wanted: Iterable[int]) -> dict[str, int]:
    """Returns the counts of wanted numbers that are missing and of surplus numbers, by name."""
    got, due = Counter(numbers), set(wanted)
    return {
        "lost": sum(number not in got for number in due),
        "duplicated": got.total() - sum(number in due for number in got),
    }


def recorded_sizes() -> list[int]:
    """Returns the size of each message of the recorded conversations; empty if there are none."""
    path = Path(
        os.environ.get("THREADBUS_CONVERSATIONS")
        or _ROOT.parent / "shared/data/agent-conversations.jsonl"
    )
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return [max(len(json.loads(line)["content"].encode()), 16) for line in lines]
