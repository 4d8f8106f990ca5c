"""A way to break what ThreadBus promises, and the tests that should see it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that is found once in a file, and what stands there instead."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A promise broken. `tests` are pytest's arguments, chosen so that it is quick."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]
    timeout: float = 10  # of one test, in seconds: what hangs is caught, too
