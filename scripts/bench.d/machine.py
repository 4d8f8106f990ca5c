"""The machine: what it is, who runs on which core, what a process used."""

import contextlib
import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0))
#: A server has a core of its own, its clients have the others, where there are two.
SERVER_CORES = set(_CORES[:1])
CLIENT_CORES = set(_CORES[1:]) or SERVER_CORES
_TICK = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Processes that are started meanwhile stay on these cores."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def cpu_seconds(pid: int) -> float:
    """What a process used of the processor so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def description() -> dict[str, str]:
    """What a reader should know of the machine, and nothing more."""
    kernel = re.match(r"\d+\.\d+", platform.release())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = {name: metadata.version(name) for name in ("grpcio", "protobuf", "uvloop")}
    return {
        "cores": f"{len(_CORES)}",
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {kernel[0] if kernel else ''}".strip(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **versions,
    }
