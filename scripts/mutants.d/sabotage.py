"""A mutant: a change that breaks a promise, and the tests that should fail."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement in a file. `text` must occur exactly once."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A mutant. `name` says what is broken; `tests` are arguments of pytest."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]
    timeout: float = 10  # seconds per test; a test that hangs has caught the mutant
