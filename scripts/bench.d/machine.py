"""The machine: its description, core pinning, and the resources that a process uses."""

import contextlib
import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0))
#: The server has the first core, the clients have the others if there are any.
SERVER_CORES = set(_CORES[:1])
CLIENT_CORES = set(_CORES[1:]) or SERVER_CORES
_TICKS = os.sysconf("SC_CLK_TCK")
_KERNEL = 2  # the pid of the parent of the kernel's threads


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Pin the processes that are started in this context to `cores`."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that the threads of a process have used, in seconds.

    Without those that have ended. To the nanosecond: /proc/PID/stat counts in hundredths of a
    second.
    """
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            spent += int((task / "schedstat").read_text("ascii").split()[0])
    return spent / 1e9


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def busy_seconds() -> float:
    """Returns the CPU time, in seconds, that our cores have not been idle, or have been stolen."""
    names = {f"cpu{core}" for core in SERVER_CORES | CLIENT_CORES}
    ticks = 0
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *counts = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, *interrupts_and_stolen = map(int, counts[:8])
            ticks += user + nice + system + sum(interrupts_and_stolen)
    return ticks / _TICKS


def own_seconds() -> float:
    """Returns the CPU time, in seconds, of this process, its descendants and the kernel's threads.

    That of descendants that have ended is in their parents' figures.
    """
    parents, used = dict[int, int](), dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text("utf-8", "replace").rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))

    def is_own(pid: int) -> bool:
        while pid not in (0, os.getpid(), _KERNEL):
            pid = parents.get(pid, 0)
        return pid != 0

    return sum(ticks for pid, ticks in used.items() if is_own(pid)) / _TICKS


def description() -> dict[str, str]:
    """Returns the machine's properties for the page, by name."""
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
