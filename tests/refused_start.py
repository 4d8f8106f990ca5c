"""Servers that must refuse to start, and their errors."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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

    `prefix` is a command that runs it, `cwd` the folder that it runs in.
    """
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "bus_server", "--listen", listen, "--db", db, *flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    said = _STARTING.sub("", _GRPC_LOG.sub("", done.stderr))
    assert re.fullmatch(r"threadbus: .+\n", said), said
    return said


def contents(folder: Path) -> dict[Path, bytes]:
    """Returns every file in a folder with its bytes; folders are left out."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
