"""The languages: one script each, which checks for, builds and runs what is the language's."""

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
    """A language, named as its script."""

    name: str

    def missing(self) -> str:
        """What this machine lacks for it; empty if nothing."""
        done = self._run("needs", check=False, capture_output=True, text=True)
        return done.stdout.strip() or (f"{self.name} needs something" if done.returncode else "")

    def build(self) -> None:
        """Build its client and its driver; CalledProcessError if that fails.

        Serialised across processes by a lock on the script: the others find it built.
        """
        with (FOLDER / self.name).open() as script:
            fcntl.flock(script, fcntl.LOCK_EX)
            self._run("build", check=True, timeout=1800)

    def lint(self) -> None:
        """Have its own tools look at it; CalledProcessError if they find something."""
        self._run("lint", check=True, timeout=1800)

    def _run(self, verb: str, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([FOLDER / self.name, verb], cwd=ROOT, **options)  # type: ignore[call-overload, no-any-return]


def built(language: Language) -> Language:
    """The language, built; its test is skipped where that cannot be, but not on CI."""
    if missing := language.missing():
        assert os.environ.get("CI") != "true", missing
        pytest.skip(f"{language.name} needs {missing}")
    language.build()
    return language


def languages() -> list[Language]:
    """All of them, Python first."""
    names = [path.name for path in FOLDER.iterdir() if os.access(path, os.X_OK)]
    return [Language(name) for name in sorted(names, key=lambda n: ("python" not in n, n))]
