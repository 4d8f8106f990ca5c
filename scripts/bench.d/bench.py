"""What all goals are measured with."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from results import Outcome
from tools import Tools

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """A run: its tools, its folder on a real disk, and how thorough it is."""

    tools: Tools
    folder: Path
    quick: bool

    @property
    def rounds(self) -> int:
        """How often each is measured, in turn with the others."""
        return self.pick(2, 5)

    def pick(self, quick: T, full: T) -> T:
        """One or the other."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Tells whoever watches."""
        print(f"   {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def own_folder(self) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)


def note_failures(outcome: Outcome, system: str, failed: list[str]) -> None:
    """Counts what failed and keeps the first of the reasons."""
    outcome.count(system, failed=len(failed))
    note = f"The first failure of {system}: “"
    if failed and not any(known.startswith(note) for known in outcome.notes):
        outcome.notes.append(f"{note}{failed[0][:120]}”.")
