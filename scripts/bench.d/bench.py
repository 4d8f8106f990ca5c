"""Shared by all goals: the tools, a folder, and the number of rounds."""

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
    """A run of the benchmarks: its tools, its folder on a real disk, and whether it is quick."""

    tools: Tools
    folder: Path
    quick: bool

    @property
    def rounds(self) -> int:
        """The number of rounds. In each round, every system is measured once."""
        return self.pick(2, 5)

    def pick(self, quick: T, full: T) -> T:
        """Returns `quick` in a quick run, otherwise `full`."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Print progress on stderr."""
        print(f"   {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def own_folder(self) -> Iterator[Path]:
        """Yields a new folder that is removed on exit."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)


def note_failures(outcome: Outcome, system: str, failed: list[str]) -> None:
    """Count failures, and note the first reason."""
    outcome.count(system, failed=len(failed))
    note = f'The first failure of {system}: "'
    if failed and not any(known.startswith(note) for known in outcome.notes):
        outcome.notes.append(f'{note}{failed[0][:120]}".')
