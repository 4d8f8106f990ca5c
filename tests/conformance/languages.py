"""The languages: a script for each checks for its toolchain, builds and runs its driver."""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "languages"


@dataclass(frozen=True, slots=True)
class Language:
    """A language, named like its script."""

    name: str

    def missing(self) -> str:
        """Return what this machine lacks for it; empty if nothing."""
        done = self._run("needs", check=False, capture_output=True, text=True)
        return done.stdout.strip() or (f"{self.name} needs something" if done.returncode else "")

    def build(self) -> None:
        """Build its client and its driver. Raises CalledProcessError if that fails.

        Serialised across processes by a lock on the script: later callers find it built.
        """
        with (FOLDER / self.name).open() as script:
            fcntl.flock(script, fcntl.LOCK_EX)
            self._run("build", check=True, timeout=1800)

    def lint(self) -> None:
        """Run its linters. Raises CalledProcessError if they find something."""
        self._run("lint", check=True, timeout=1800)

    def _run(self, verb: str, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([FOLDER / self.name, verb], cwd=ROOT, **options)  # type: ignore[call-overload, no-any-return]


def built(language: Language) -> Language:
    """Build the language, or skip the test if its toolchain is missing; on CI that is an error."""
    if missing := language.missing():
        assert os.environ.get("CI") != "true", missing
        pytest.skip(f"{language.name} needs {missing}")
    language.build()
    return language


def languages() -> list[Language]:
    """Return all languages, Python first."""
    names = [path.name for path in FOLDER.iterdir() if os.access(path, os.X_OK)]
    return [Language(name) for name in sorted(names, key=lambda n: ("python" not in n, n))]
