"""Servers that must refuse to start, and their errors."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.forked import Forked

#: Seconds in which a server has refused.
_WITHIN = 30
#: Logged by each server; and by gRPC's core itself, such as why it could not bind.
_STARTING = re.compile(r"^\S+ \S+ INFO bus_server\.server: starting .*\n", re.M)
_GRPC_LOG = re.compile(r"^E\d{4} .*\.cc:\d+\] .*\n", re.M)


def refused_start(
    db: Path | str,
    *flags: str,
    listen: str = "127.0.0.1:0",
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
) -> str:
    """Start a server that must exit with code 1 and one line beside that it starts; returns it.

    `prefix` is a command that runs it, `cwd` the folder that it runs in: with one of them, it has
    an interpreter of its own; else it is forked, which is faster.
    """
    arguments = ["--listen", listen, "--db", str(db), *flags]
    if prefix or cwd or sys.platform != "linux":
        command = [*prefix, sys.executable, "-m", "bus_server", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_WITHIN, check=False, cwd=cwd
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    else:
        code, out, err = _forked(arguments)
    assert (code, out) == (1, ""), err
    said = _STARTING.sub("", _GRPC_LOG.sub("", err))
    assert re.fullmatch(r"threadbus: .+\n", said), said
    return said


def _forked(arguments: Sequence[str]) -> tuple[int, str, str]:
    process = Forked(arguments, dict(os.environ))
    with process.stdout, process.stderr:
        try:
            code = process.wait(_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return code, process.stdout.read(), process.stderr.read()


def contents(folder: Path) -> dict[Path, bytes]:
    """Returns every file in a folder with its bytes; folders are left out."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
