"""A server under strace, which logs its system calls or makes some of them fail."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.serving import ServerProcess


@contextlib.contextmanager
def traced(server: ServerProcess, *options: str) -> Iterator[None]:
    """Trace a running server within the block. Skips the test where tracing is impossible."""
    if shutil.which("strace") is None:
        pytest.skip("there is no `strace` here")
    with subprocess.Popen(
        ["strace", "-f", "-y", *options, "-p", str(server.pid)], stderr=subprocess.PIPE, text=True
    ) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"tracing is not permitted: {line.strip()}")
        try:
            yield
        finally:
            strace.terminate()
