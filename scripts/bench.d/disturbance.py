"""Records what else the machine did during a load, and tells which rounds that disturbed.

Two figures for each load:

others   the CPU time of everything else on our cores, in cores: what /proc/stat counts as busy or
         stolen, less the benchmark, its servers, its clients and the kernel's own threads
work     the CPU time of a fixed piece of Python on the server's core, in seconds: its mean over a
         tenth of a second before the load and one after it. Compared to the fastest piece of the
         run, this shows what /proc/stat does not: another virtual machine on the same hardware,
         or a lower clock. Where it comes and goes within a load, this is only a sample

Neither shows a slow disk; P2 measures the disk itself.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import machine
from results import Outcome

#: Of one core: a load during which everything else used more was disturbed.
OTHERS = 0.15
#: Seconds of others' CPU time that do not count: /proc counts in hundredths of a second.
_UNCERTAIN = 0.05
#: A load around which the piece of Python took more than this many times its fastest.
SLOWER = 1.25

_TICKS = os.sysconf("SC_CLK_TCK")
_KERNEL = 2  # the pid of the parent of the kernel's threads
_SAMPLE = 0.1  # seconds


@contextlib.contextmanager
def watched(outcome: Outcome) -> Iterator[None]:
    """Record the disturbance of one load; figures added in this context are of that load."""
    pieces = _pieces()
    with outcome.load() as load:
        busy, own, began = _busy(), _own(), time.monotonic()
        yield
        elapsed = time.monotonic() - began
        spent = (_busy() - busy) - (_own() - own) - _UNCERTAIN
        load["others"] = max(spent, 0.0) / elapsed
        pieces += _pieces()
        load["work"], load["fastest"] = fmean(pieces), min(pieces)


def judge(outcomes: Sequence[dict[str, Any]]) -> None:
    """Tell which loads of a run were disturbed, and so which rounds and values.

    Sets `disturbed` of each load; `rounds` of each outcome: the number of rounds, and of those with
    a disturbed load; and its `disturbed`: figure → how many of its values are of disturbed loads.
    """
    fastest = min((load["fastest"] for each in outcomes for load in each["loads"]), default=0.0)
    for outcome in outcomes:
        loads = outcome["loads"]
        for load in loads:
            load["slower"] = load["work"] / fastest
            load["disturbed"] = load["others"] > OTHERS or load["slower"] > SLOWER
        rounds = {load["round"] for load in loads if load["round"]}
        outcome["rounds"] = {
            "measured": len(rounds),
            "disturbed": len({load["round"] for load in loads if load["disturbed"]} - {0}),
        }
        outcome["disturbed"] = {
            figure: sum(at is not None and loads[at]["disturbed"] for at in places)
            for figure, places in outcome["measured_in"].items()
        }


def rounds(outcome: Mapping[str, Any]) -> str:
    """Returns how many rounds of a goal were disturbed, for example `2 of 5`."""
    return f"{outcome['rounds']['disturbed']} of {outcome['rounds']['measured']}"


def _pieces() -> list[float]:
    """Returns the CPU time of each piece of Python in a sample on the server's core."""
    found: list[float] = []
    with machine.on_cores(machine.SERVER_CORES):
        until = time.monotonic() + _SAMPLE
        while not found or time.monotonic() < until:
            found.append(_piece())
    return found


def _piece() -> float:
    # Not the elapsed time: our own server may still be finishing the last load on that core.
    began = time.thread_time()
    table: dict[int, str] = {}
    for number in range(20_000):
        table[number % 1_000] = str(number)
    return time.thread_time() - began


def _busy() -> float:
    """Returns the CPU time, in seconds, that our cores have not been idle, or have been stolen."""
    names = {f"cpu{core}" for core in machine.SERVER_CORES | machine.CLIENT_CORES}
    ticks = 0
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *counts = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, *interrupts_and_stolen = map(int, counts[:8])
            ticks += user + nice + system + sum(interrupts_and_stolen)
    return ticks / _TICKS


def _own() -> float:
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
