"""What a process asks of the kernel, by strace; and a disk that is slower than it is."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Trace:
    """The system calls that were made since the tracing began."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def count(self, *calls: str) -> int:
        """How often these were made."""
        return len(re.findall(rf"\b(?:{'|'.join(calls)})\(", self._file.read_text("utf-8")))


@contextlib.contextmanager
def traced(pid: int, file: Path, *expressions: str) -> Iterator[Trace]:
    """Within this a process is traced by strace's expressions. Skips where that is not possible."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace here")
    asked = [part for expression in expressions for part in ("-e", expression)]
    process = subprocess.Popen(
        [strace, "-f", "-p", str(pid), "-o", str(file), *asked],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        if "attached" not in (said := process.stderr.readline()):
            pytest.skip(f"tracing is not permitted: {said.strip()}")
        try:
            yield Trace(file)
        finally:
            process.terminate()
